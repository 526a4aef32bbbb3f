"""Lazy images: cached within a bound, pickled as paths, read anew when their file changes."""

from __future__ import annotations

import os
import pickle
import shutil
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xray_harmonize import CDFMatching, set_cache_size
from xray_harmonize.exceptions import ImageReadError, InvalidImageError
from xray_harmonize.image_sources import DEFAULT_CACHE_MEBIBYTES, ImageCache, image_cache
from xray_harmonize.images import ImageSet
from xray_harmonize.radiograph import Radiograph

SIDE = 256
IMAGE_BYTES = SIDE * SIDE * 2


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    """Give every test a cache of the default size that holds nothing."""
    for size in (0, DEFAULT_CACHE_MEBIBYTES):
        set_cache_size(size)
    yield
    for size in (0, DEFAULT_CACHE_MEBIBYTES):
        set_cache_size(size)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Files of images, image i filled with i."""
    made = [tmp_path / f"{i}.npy" for i in range(6)]
    for i, path in enumerate(made):
        np.save(path, np.full((SIDE, SIDE), i, dtype="uint16"))
    return made


def counting(function=lambda r: r.pixels / np.float32(65535)):
    """Wrap a function so that it notes the images it was called on."""

    def noted(radiograph: Radiograph) -> np.ndarray | Radiograph:
        noted.calls.append(Path(radiograph.name).stem)
        return function(radiograph)

    noted.calls = []
    return noted


def darkened(radiograph: Radiograph) -> np.ndarray:
    """Give half of every pixel, as a function that can be pickled."""
    return radiograph.pixels / np.float32(2 * 65535)


# -- files ----------------------------------------------------------------------------------------------------------


def test_a_set_of_paths_reads_nothing_until_asked(tmp_path: Path) -> None:
    X = ImageSet([tmp_path / "absent.png"], scanner="A")
    assert X.is_lazy
    assert X[[0]].map(darkened).scanner.tolist() == ["A"]
    with pytest.raises(ImageReadError, match=r"absent\.png"):
        X[0]


def test_what_the_file_and_the_table_say_comes_together(paths: list[Path]) -> None:
    X = ImageSet(paths[:2], scanner=["A", "B"], bits_stored=[0, 12], meta=pd.DataFrame({"kvp": [60, 70]}))
    r = X.radiograph(1)
    assert (r.scanner, r.bits_stored, r.meta["kvp"], r.meta["format"], r.name) == ("B", 12, 70, "NPY", str(paths[1]))
    assert X.bits_stored.tolist() == [16, 12]


def test_a_file_is_decoded_once_while_it_is_cached(paths: list[Path]) -> None:
    X = ImageSet(paths)
    assert X[0] is X[0]
    assert X[0] is X[[0, 1]][0]
    assert image_cache().n_bytes == IMAGE_BYTES


def test_lazy_images_cannot_be_written_into(paths: list[Path]) -> None:
    mask = np.ones((SIDE, SIDE), dtype=bool)
    X = ImageSet(paths[:1], mask=[mask])
    for image in (X[0], X.mask(0), X.map(darkened)[0], X.map(darkened).mask(0)):
        with pytest.raises(ValueError, match="read-only"):
            image[0, 0] = 1
    mask[0, 0] = False
    assert not X.mask(0)[0, 0]


def test_a_changed_file_is_read_anew(paths: list[Path]) -> None:
    X = ImageSet(paths[:1])
    Y = X.map(darkened)
    assert (X[0][0, 0], Y[0][0, 0]) == (0, 0)
    np.save(paths[0], np.full((SIDE, SIDE), 65535, dtype="uint16"))
    assert (X[0][0, 0], Y[0][0, 0]) == (65535, 0.5)


def test_a_file_replaced_by_one_of_equal_size_and_age_is_read_anew(paths: list[Path]) -> None:
    X = ImageSet(paths[:1])
    old = paths[0].stat()
    assert X[0][0, 0] == 0
    shutil.copy(paths[3], paths[0])
    os.utime(paths[0], ns=(old.st_atime_ns, old.st_mtime_ns))
    assert X[0][0, 0] == 3


def test_a_file_that_vanishes_is_an_error_and_no_ghost(paths: list[Path]) -> None:
    X = ImageSet(paths[:1])
    assert X[0].shape == (SIDE, SIDE)
    paths[0].unlink()
    with pytest.raises(ImageReadError, match=r"0\.npy"):
        X[0]


def test_the_same_file_under_other_bits_or_mask_is_another_image(paths: list[Path]) -> None:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    X = ImageSet([paths[0]] * 3, bits_stored=[12, 16, 16], mask=[None, None, mask])
    assert [X.radiograph(i).bits_stored for i in range(3)] == [12, 16, 16]
    assert [X.mask(i) is None for i in range(3)] == [True, True, False]


def test_a_mask_that_does_not_fit_its_file_is_an_error_naming_it(paths: list[Path]) -> None:
    X = ImageSet(paths[:1], mask=[np.ones((2, 2), dtype=bool)])
    with pytest.raises(InvalidImageError, match=r"0\.npy has shape .* but its mask \(2, 2\); expected the same"):
        X[0]


def test_lazy_sets_pickle_paths_and_not_pixels(paths: list[Path]) -> None:
    X = ImageSet(paths, scanner="A").map(darkened)
    list(X)
    pickled = pickle.dumps(X)
    assert len(pickled) < 5000
    again = pickle.loads(pickled)
    assert again.is_lazy
    assert [float(image[0, 0]) for image in again[[5, 2]]] == pytest.approx([5 / 131070, 2 / 131070])


# -- maps -----------------------------------------------------------------------------------------------------------


def test_a_lazy_map_computes_when_asked_and_once_while_cached(paths: list[Path]) -> None:
    function = counting()
    X = ImageSet(paths).map(function)
    assert function.calls == []
    assert (X[4] is X[4], X[[3, 4]][1] is X[4]) == (True, True)
    assert function.calls == ["4"]


def test_maps_chain_and_keep_to_their_own_entries(paths: list[Path]) -> None:
    X = ImageSet(paths)
    half, quarter = X.map(darkened), X.map(lambda r: r.pixels / np.float32(4 * 65535))
    twice = half.map(lambda r: r.pixels / 2)
    assert half[2][0, 0] == twice[2][0, 0] * 2 == quarter[2][0, 0] * 2 > 0


def test_a_map_to_radiographs_brings_bits_and_mask_along(paths: list[Path]) -> None:
    X = ImageSet(paths).map(lambda r: replace(r, pixels=r.pixels[:, :3], mask=np.ones((SIDE, 3), bool), bits_stored=9))
    assert X[0].shape == X.mask(0).shape == (SIDE, 3)
    assert X.bits_stored.tolist() == [9] * 6


def test_memory_of_a_lazy_transform_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = [tmp_path / f"{i}.npy" for i in range(40)]
    for path in made:
        np.save(path, rng.integers(0, 65536, (SIDE, SIDE)).astype("uint16"))
    set_cache_size(4 * IMAGE_BYTES / 2**20)

    def peak(n: int) -> int:
        tracemalloc.start()
        for image in CDFMatching().fit(ImageSet(made[:2])).transform(ImageSet(made[:n])):
            assert image.dtype == np.float32
        (_, most), _ = tracemalloc.get_traced_memory(), tracemalloc.stop()
        return most

    peak(2)
    few, many = peak(6), peak(40)
    assert many < few + 2 * IMAGE_BYTES


def test_a_cut_out_does_not_keep_the_whole_image_alive(paths: list[Path]) -> None:
    X = ImageSet(paths).map(lambda r: replace(r, pixels=np.repeat(r.pixels, 8, axis=0)[:, :2]))
    tracemalloc.start()
    list(X)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert X[0].base is None
    assert held < 8 * IMAGE_BYTES


# -- the cache ------------------------------------------------------------------------------------------------------


def held(cache: ImageCache, keys: str) -> list[str]:
    """Tell which keys need not be made again (and make the others)."""
    found = []
    for key in keys:
        made: list[str] = []
        cache.get(key, lambda made=made: made.append("made") or Radiograph(np.zeros(100, "u1")))
        found += [] if made else [key]
    return found


def test_the_cache_drops_what_was_used_longest_ago() -> None:
    cache = ImageCache(max_bytes=300)
    assert held(cache, "abc") == []
    assert held(cache, "a") == ["a"]
    assert held(cache, "d") == []
    assert held(cache, "acd") == ["a", "c", "d"]
    assert held(cache, "b") == []
    assert cache.n_bytes == 300


def test_the_cache_never_holds_more_than_its_bound_masks_included() -> None:
    cache = ImageCache(max_bytes=1000)
    for i in range(50):
        cache.get(i, lambda: Radiograph(np.zeros((7, 9), "u2"), mask=np.ones((7, 9), bool)))
        assert cache.n_bytes <= 1000
    assert cache.n_bytes == 1000 // 189 * 189


def test_an_image_larger_than_the_cache_is_given_and_drives_nothing_out() -> None:
    cache = ImageCache(max_bytes=300)
    held(cache, "ab")
    assert cache.get("large", lambda: Radiograph(np.zeros(400, "u1"))).pixels.shape == (400,)
    assert held(cache, "ab") == ["a", "b"]


def test_a_cache_made_smaller_lets_go_at_once() -> None:
    cache = ImageCache(max_bytes=300)
    held(cache, "abc")
    cache.resize(150)
    assert cache.n_bytes == 100
    assert held(cache, "c") == ["c"]


def test_a_cache_of_no_size_holds_nothing(paths: list[Path]) -> None:
    set_cache_size(0)
    assert ImageSet(paths)[1][0, 0] == 1
    assert image_cache().n_bytes == 0


def test_an_error_is_not_cached() -> None:
    cache = ImageCache(max_bytes=300)

    def fail() -> Radiograph:
        raise ImageReadError("no such file")

    with pytest.raises(ImageReadError, match="no such file"):
        cache.get("a", fail)
    assert held(cache, "aa") == ["a"]


def test_threads_may_share_the_cache(paths: list[Path]) -> None:
    set_cache_size(2.5 * IMAGE_BYTES / 2**20)
    X = ImageSet(paths)
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda i: int(X[i % 6][0, 0]), range(120)))
    assert seen == [i % 6 for i in range(120)]
    assert image_cache().n_bytes <= 2.5 * IMAGE_BYTES
