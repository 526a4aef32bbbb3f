"""A harmonizer over an archive: what is written, what is left alone, what is refused."""

from __future__ import annotations

import copy
import hashlib
import os
import warnings
from pathlib import Path

import cv2
import joblib
import numpy as np
import pytest
from archive_factory import SCANNERS, Halving, fitted, make_dicom_images, make_images, rows, written
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from tiny_pairs import MOMENT, bodies, darker

from xray_harmonize import DLBC, CDFMatching, CropForeground, FullRange, ImageSet, MinMax, load, save
from xray_harmonize.archive import ArchiveProgress, apply
from xray_harmonize.archive.model import HarmonizingSteps
from xray_harmonize.catalog.index import build_index
from xray_harmonize.catalog.store import Catalog
from xray_harmonize.exceptions import (
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
    XRayHarmonizeWarning,
)
from xray_harmonize.image_sources import image_cache
from xray_harmonize.persistence import fingerprint


@pytest.fixture
def scans(tmp_path):
    make_images(tmp_path / "scans")
    return tmp_path / "scans"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def harmonizer(scans):
    return fitted(sorted(scans.rglob("*.npy")))


# -- what is written ----------------------------------------------------------------------------------------------


def test_every_file_is_what_transform_gives(scans, out, harmonizer):
    summary = apply(harmonizer, scans, out, format="npy")
    assert (summary.total, summary.written, summary.unchanged, summary.failed) == (6, 6, 0, 0)
    assert summary.ok
    paths = sorted(scans.rglob("*.npy"))
    for path, image in zip(paths, harmonizer.transform(ImageSet(paths)), strict=True):
        np.testing.assert_array_equal(np.load(out / path.relative_to(scans)), image)


def test_a_manifest_has_one_row_a_source(scans, out, harmonizer):
    apply(harmonizer, scans, out, format="png")
    columns = "source, output, scanner, state, reason, source_sha256, output_sha256, output_size, model_sha256, seconds"
    for source, output, scanner, state, reason, was, became, size, model, seconds in rows(out, columns):
        assert hashlib.sha256(Path(source).read_bytes()).hexdigest() == was
        content = (out / output).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (became, size)
        assert (scanner, state, reason, model) == (Path(source).parent.name, "done", None, fingerprint(harmonizer))
        assert seconds > 0
    assert len(rows(out)) == 6


def test_the_images_may_be_paths_an_image_set_or_a_catalog(scans, tmp_path):
    make_dicom_images(tmp_path / "dicom" / "a", Manufacturer="GE", ManufacturerModelName="X")
    build_index(tmp_path / "dicom", tmp_path / "a.sqlite")
    paths = sorted((tmp_path / "dicom" / "a").iterdir())
    with Catalog(tmp_path / "a.sqlite") as catalog:
        images = {"paths": paths, "set": ImageSet(paths, scanner="x"), "catalog": catalog, "folder": tmp_path / "dicom"}
        for name, given in images.items():
            assert apply(FullRange(), given, tmp_path / name, format="png").written == 3
    plain = {"1.2.840.0.png", "1.2.840.1.png", "1.2.840.2.png"}
    assert set(written(tmp_path / "paths")) == set(written(tmp_path / "set")) == plain
    assert set(written(tmp_path / "catalog")) == set(written(tmp_path / "folder")) == {f"a/{name}" for name in plain}


def test_the_scanner_of_each_file_decides_what_is_done_to_it(scans, out):
    paths = sorted(scans.rglob("*.npy"))
    harmonizer = fitted(paths, scope="scanner", reference="home")
    apply(harmonizer, scans, out, format="npy")
    expected = harmonizer.transform(ImageSet(paths, scanner=[path.parent.name for path in paths]))
    for path, image in zip(paths, expected, strict=True):
        np.testing.assert_array_equal(np.load(out / path.relative_to(scans)), image)


def test_bits_that_the_caller_knows_are_used(tmp_path, out):
    (tmp_path / "scans").mkdir()
    np.save(tmp_path / "scans" / "a.npy", np.array([[0, 4095]], dtype=np.uint16))
    apply(FullRange(), ImageSet([tmp_path / "scans" / "a.npy"], bits_stored=12), out, format="npy")
    assert np.load(out / "a.npy").tolist() == [[0, 1]]


def test_a_pipeline_is_applied_without_its_classifier(scans, out, tmp_path, harmonizer):
    pipeline = Pipeline([("skip", "passthrough"), ("tone", harmonizer), ("classifier", LogisticRegression())])
    summary = apply(pipeline, scans, out, format="png")
    assert summary.model_sha256 == fingerprint(harmonizer)
    assert apply(harmonizer, scans, out, format="png").unchanged == 6
    cropping = Pipeline([("crop", CropForeground()), ("tone", FullRange())])
    assert apply(cropping, scans, tmp_path / "cropped", format="png").model_sha256 != fingerprint(FullRange())


def test_any_transformer_of_images_will_do(scans, out):
    assert apply(Halving(), scans, out, format="png").written == 6
    assert cv2.imread(str(out / "home" / "0001.png"), cv2.IMREAD_UNCHANGED).max() < 2**15


def test_progress_counts_and_tells_how_long_it_will_take(scans, out, harmonizer):
    (scans / "home" / "bad.npy").write_bytes(b"\x93NUMPY and no more")
    told: list[ArchiveProgress] = []
    apply(harmonizer, scans, out, format="png", progress=told.append)
    assert [one.written + one.failed for one in told] == list(range(8))
    assert (told[0].files_a_second, told[0].remaining_seconds) == (None, None)
    assert (told[-1].total, told[-1].failed, told[-1].fraction, told[-1].remaining_seconds) == (7, 1, 1, 0)
    assert told[3].files_a_second > 0
    apply(harmonizer, scans, out, format="png", progress=told.append)
    assert (told[-1].unchanged, told[-1].processed) == (6, 1)


def test_no_image_is_kept_in_memory_and_the_cache_is_left_as_it_was(scans, out, harmonizer):
    before = image_cache().max_bytes
    apply(harmonizer, scans, out, format="png")
    assert image_cache().max_bytes == before
    assert image_cache().n_bytes == 0


# -- a second run -------------------------------------------------------------------------------------------------


def test_what_is_done_is_not_done_again(scans, out, harmonizer):
    apply(harmonizer, scans, out, format="png")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    summary = apply(harmonizer, scans, out, format="png")
    assert (summary.unchanged, summary.written, summary.total) == (6, 0, 6)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before


def test_a_saved_model_goes_on_where_the_fitted_one_stopped(scans, out, tmp_path, harmonizer):
    apply(harmonizer, scans, out, format="png")
    save(harmonizer, tmp_path / "model.npz")
    assert apply(load(tmp_path / "model.npz"), scans, out, format="png").unchanged == 6


def test_a_source_that_changed_is_done_again(scans, out, harmonizer):
    apply(harmonizer, scans, out, format="npy")
    np.save(scans / "home" / "0001.npy", np.zeros((3, 3), dtype=np.uint16))
    summary = apply(harmonizer, scans, out, format="npy")
    assert (summary.unchanged, summary.written) == (5, 1)
    assert np.load(out / "home" / "0001.npy").shape == (3, 3)


def test_a_source_that_was_only_touched_is_hashed_and_left(scans, out, harmonizer):
    apply(harmonizer, scans, out, format="png")
    os.utime(scans / "home" / "0001.npy", ns=(1, 1))
    assert apply(harmonizer, scans, out, format="png").unchanged == 6
    assert rows(out, "source_mtime_ns", "source LIKE '%0001.npy'") == [(1,)]


def test_an_output_that_was_lost_is_written_again(scans, out, harmonizer):
    apply(harmonizer, scans, out, format="png")
    before = written(out)
    (out / "home" / "0001.png").unlink()
    assert apply(harmonizer, scans, out, format="png").written == 1
    assert written(out) == before


def test_verify_finds_what_size_and_time_do_not_tell(scans, out, harmonizer):
    apply(harmonizer, scans, out, format="png")
    before = written(out)
    target, source = out / "home" / "0001.png", scans / "far" / "0000.npy"
    target.write_bytes(target.read_bytes()[:-1] + b"?")
    status = source.stat()
    source.write_bytes(source.read_bytes()[:-2] + b"\0\0")
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert apply(harmonizer, scans, out, format="png").unchanged == 6
    summary = apply(harmonizer, scans, out, format="png", verify=True)
    assert (summary.unchanged, summary.written) == (4, 2)
    after = written(out)
    assert [name for name in before if before[name] != after[name]] == ["far/0000.png"]


def test_another_name_of_the_scanner_is_another_result(scans, out):
    paths = sorted((scans / "far").iterdir())
    harmonizer = fitted(sorted(scans.rglob("*.npy")), scope="scanner", reference="home")
    apply(harmonizer, paths, out, format="npy", scanner="far")
    before = written(out)
    assert apply(harmonizer, paths, out, format="npy", scanner="home").written == 3
    assert all(before[name] != content for name, content in written(out).items())


def test_more_files_go_into_the_same_folder(scans, out, harmonizer):
    apply(harmonizer, sorted((scans / "far").iterdir()), out, format="png", root=scans)
    summary = apply(harmonizer, scans, out, format="png")
    assert (summary.total, summary.unchanged) == (6, 0), "the scanner was unknown before"
    assert set(written(out)) == {f"{SCANNERS[i % 2]}/{i:04d}.png" for i in range(6)}


def test_outputs_mirror_the_root_that_the_first_run_settled(scans, out, harmonizer):
    apply(harmonizer, scans, out, format="png")
    chosen = ImageSet([scans / "far" / "0002.npy"], scanner="far")
    assert apply(harmonizer, chosen, out, format="png").unchanged == 1


# -- what is refused ----------------------------------------------------------------------------------------------


def test_outputs_of_another_model_are_replaced_only_if_asked(scans, out, harmonizer):
    other = MinMax().fit(ImageSet(sorted(scans.rglob("*.npy"))))
    apply(harmonizer, scans, out, format="png")
    before = written(out)
    message = r"holds 6 output\(s\) of another model; the last run there was with CDFMatching\(\) .* replace them with"
    with pytest.raises(InvalidParameterError, match=message):
        apply(other, scans, out, format="png")
    assert written(out) == before
    few = ImageSet(sorted((scans / "far").iterdir()), scanner="far")
    assert apply(other, few, out, format="png", overwrite=True).written == 3
    for model in (other, harmonizer):
        with pytest.raises(InvalidParameterError, match=r"holds 3 output\(s\) of another model"):
            apply(model, scans, out, format="png")
    summary = apply(other, scans, out, format="png", overwrite=True)
    assert (summary.unchanged, summary.written) == (3, 3)
    assert apply(other, scans, out, format="png").unchanged == 6


def test_a_folder_holds_one_format(scans, out, harmonizer):
    apply(harmonizer, scans, out, format="png")
    with pytest.raises(InvalidParameterError, match="holds outputs in the format 'png', asked is 'npy'"):
        apply(harmonizer, scans, out, format="npy", overwrite=True)


def test_a_folder_holds_one_archive(scans, out, tmp_path, harmonizer):
    apply(harmonizer, scans, out, format="png")
    make_images(tmp_path / "others")
    with pytest.raises(InvalidParameterError, match=r"mirrors the folders below .*scans, and .*others lies elsewhere"):
        apply(harmonizer, tmp_path / "others", out, format="png")


def test_files_that_no_run_wrote_are_in_the_way(scans, out, harmonizer):
    (out / "home").mkdir(parents=True)
    (out / "home" / "0001.png").write_text("precious")
    with pytest.raises(InvalidParameterError, match=r"0001.png is there already, and no run has written it"):
        apply(harmonizer, scans, out, format="png")
    assert written(out) == {"home/0001.png": b"precious"}
    assert apply(harmonizer, scans, out, format="png", overwrite=True).written == 6


def test_outputs_never_lie_among_the_sources(scans, tmp_path, harmonizer):
    message = "lie in the folder for the outputs, .*, which might overwrite them"
    for out in (scans, tmp_path):
        with pytest.raises(InvalidParameterError, match=message):
            apply(harmonizer, scans, out, format="npy")
    (tmp_path / "link").symlink_to(scans)
    with pytest.raises(InvalidParameterError, match=message):
        apply(harmonizer, scans, tmp_path / "link", format="npy", overwrite=True)


def test_outputs_below_the_folder_of_sources_are_no_sources(scans, harmonizer):
    out = scans / "harmonized"
    assert apply(harmonizer, scans, out, format="npy").written == 6
    assert apply(harmonizer, scans, out, format="npy").unchanged == 6


def test_files_that_differ_in_their_extension_alone_have_outputs_of_their_own(tmp_path, out):
    (tmp_path / "scans").mkdir()
    image = np.arange(12, dtype=np.uint16).reshape(3, 4)
    np.save(tmp_path / "scans" / "a.npy", image)
    cv2.imwrite(str(tmp_path / "scans" / "A.png"), image * 3)
    cv2.imwrite(str(tmp_path / "scans" / "a.tif"), image * 2)
    apply(FullRange(), tmp_path / "scans", out, format="png")
    assert rows(out, "output") == [("A.png",), ("a.npy.png",), ("a.tif.png",)]
    assert apply(FullRange(), tmp_path / "scans", out, format="png").unchanged == 3
    (tmp_path / "scans" / "a.tif.npy").write_bytes((tmp_path / "scans" / "a.npy").read_bytes())
    apply(FullRange(), tmp_path / "scans", out, format="png")
    assert rows(out, "output")[-1] == ("a.tif.npy.png",)


def test_two_outputs_of_one_name_are_refused(tmp_path, out):
    (tmp_path / "scans").mkdir()
    for name in ("A1", "a1"):  # one name on file systems that know no case
        np.save(tmp_path / "b.npy", np.ones((2, 2), dtype=np.uint16))
        (tmp_path / "b.npy").rename(tmp_path / "scans" / name)
    with pytest.raises(
        InvalidParameterError, match=r"outputs of .*A1 and .*a1 would have one name, a1.png. Rename one"
    ):
        apply(FullRange(), tmp_path / "scans", out, format="png")
    assert written(out) == {}


def test_a_file_that_is_named_twice_counts_once(scans, out, harmonizer):
    path = scans / "far" / "0000.npy"
    assert apply(harmonizer, [path, str(path), path.parent / ".." / "far" / path.name], out, format="png").total == 1
    twice = ImageSet([path, path], scanner=["a", "b"])
    with pytest.raises(
        InvalidParameterError, match=r"0000.npy is named twice, once from scanner 'a' and once from 'b'"
    ):
        apply(harmonizer, twice, out, format="png")


def test_only_files_as_they_lie_there_are_taken(scans, out, harmonizer):
    paths = sorted(scans.rglob("*.npy"))
    for images in (ImageSet(np.ones((2, 3, 3))), FullRange().transform(ImageSet(paths))):
        with pytest.raises(InvalidParameterError, match=r"got images in memory or computed ones. Give paths"):
            apply(harmonizer, images, out, format="png")
    masked = ImageSet(paths[:1], mask=[np.ones((24, 24))])
    with pytest.raises(InvalidParameterError, match="The masks of an archive come from its files"):
        apply(harmonizer, masked, out, format="png")
    with pytest.raises(NotEnoughImagesError, match="There is no image to harmonize"):
        apply(harmonizer, [], out, format="png")


def test_every_file_lies_below_the_root(scans, out, harmonizer):
    with pytest.raises(InvalidParameterError, match=r"far/0000.npy does not lie below root=.*home"):
        apply(harmonizer, scans, out, format="png", root=scans / "home")


def test_a_model_that_harmonizes_nothing_is_refused_by_name(scans, out):
    for model, name in ((LogisticRegression(), "LogisticRegression"), (Pipeline([("a", "passthrough")]), "Pipeline")):
        with pytest.raises(InvalidParameterError, match=f"{name} harmonizes no image; expected a fitted harmonizer"):
            apply(model, scans, out, format="png")
    with pytest.raises(InvalidParameterError, match="str harmonizes no image"):
        apply("model.npz", scans, out, format="png")


def test_a_harmonizer_that_is_not_fitted_is_refused_before_anything_is_written(scans, out):
    with pytest.raises(NotFittedError):
        apply(CDFMatching(), sorted((scans / "far").iterdir()), out, format="png")
    with pytest.raises(NotFittedError):
        apply(CDFMatching(), scans, out, format="png")
    assert not out.exists()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_device_that_is_not_here_is_refused_once_and_before_anything_is_written(scans, out, tmp_path, n_jobs):
    elsewhere = DLBC(**MOMENT).fit(darker(), target=bodies()).set_params(device="cuda:99")
    joblib.dump(Pipeline([("range", FullRange()), ("window", elsewhere)]), tmp_path / "model.joblib")
    message = (
        r"DLBC is to compute on device='cuda:99', which this machine does not have\. Call set_params\(device='cpu'\)"
    )
    with pytest.raises(InvalidParameterError, match=message):
        apply(joblib.load(tmp_path / "model.joblib"), scans, out, format="png", n_jobs=n_jobs)
    assert not out.exists()
    assert apply(elsewhere.set_params(device="cpu"), scans, out, format="png").written == 6


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_model_of_another_device_is_warned_of_once_when_loaded_and_never_again(scans, out, tmp_path, n_jobs):
    here = DLBC(**MOMENT).fit(darker(), target=bodies())
    save(copy.deepcopy(here).set_params(device="cuda:99"), tmp_path / "model.npz")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", XRayHarmonizeWarning)
        model = load(tmp_path / "model.npz")
        assert apply(model, scans, out, format="npy", n_jobs=n_jobs).written == 6
    assert [str(one.message).partition(",")[0] for one in caught] == ["DLBC was fitted on 'cuda:99'"]
    assert rows(out, "warning", "warning IS NOT NULL") == []
    # It is the same model, which may go on where another machine has stopped.
    assert apply(here, scans, out, format="npy").unchanged == 6


class Elsewhere(BaseEstimator):
    """Names a device that is not here, and does with an image whatever it was told to."""

    device = "cuda:99"

    def __init__(self, raises=None):
        self.raises = raises

    def transform(self, X):
        """Halve every image or fail."""
        if self.raises is not None:
            raise self.raises
        return ImageSet.of(X).map(lambda radiograph: radiograph.pixels.astype("float32") / 2**17)


@pytest.mark.parametrize("error", [RuntimeError("no GPU"), AssertionError("not compiled with CUDA")])
def test_what_pytorch_says_of_a_missing_device_is_enough(scans, out, error):
    with pytest.raises(InvalidParameterError, match="Elsewhere is to compute on device='cuda:99'"):
        apply(Elsewhere(error), scans, out, format="png")


def test_a_device_that_was_only_learned_on_is_not_missed(scans, out):
    assert apply(Elsewhere(), scans, out, format="png").written == 6


def test_other_failures_are_not_laid_to_a_device():
    HarmonizingSteps.of(Elsewhere(MissingScannerError("Which scanner?"))).check_ready(scanner_known=True)


def test_devices_of_the_machines_of_a_cluster_are_not_looked_for_here():
    HarmonizingSteps.of(Elsewhere(RuntimeError("no GPU"))).check_ready(scanner_known=True, here=False)


def test_a_harmonizer_that_needs_scanners_says_so_at_once(scans, out):
    harmonizer = fitted(sorted(scans.rglob("*.npy")), scope="scanner")
    with pytest.raises(MissingScannerError, match=r"needs to know which scanner made each image"):
        apply(harmonizer, sorted(scans.rglob("*.npy")), out, format="png")
    assert not out.exists()


def test_a_number_of_processes_is_a_number(scans, out):
    for n_jobs in (0, 1.5, True):
        with pytest.raises(InvalidParameterError, match="n_jobs must be a number of processes, or -1 for all cores"):
            apply(FullRange(), scans, out, format="png", n_jobs=n_jobs)
    with pytest.raises(InvalidParameterError, match=r"Give n_jobs=2 for processes .* or scheduler='tcp://a:1'"):
        apply(FullRange(), scans, out, format="png", n_jobs=2, scheduler="tcp://a:1")
