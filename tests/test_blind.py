"""BlindHarmony as an estimator: whom it learns from, what it finds, what it refuses."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

import xray_harmonize
from xray_harmonize import BlindHarmony, ImageSet
from xray_harmonize.callbacks import report_progress
from xray_harmonize.exceptions import (
    InvalidImageError,
    InvalidParameterError,
    MissingScannerError,
    UnknownScannerError,
    XRayHarmonizeWarning,
)

SMALL: dict[str, Any] = {"image_size": 16, "n_levels": 3, "n_steps": 2, "channels": 8, "n_bins": 4, "batch_size": 8}
SMALL |= {"max_steps": 60, "lr": 5e-3, "n_iterations": 4, "device": "cpu", "random_state": 0}
QUICK = {**SMALL, "n_levels": 2, "n_steps": 1, "max_steps": 2, "n_iterations": 2}


def bodies(n: int, seed: int, size: int = 16) -> np.ndarray:
    """Bright ellipses with texture in dark air."""
    rng = np.random.default_rng(seed)
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, size),) * 2, indexing="ij")
    made = []
    for _ in range(n):
        distance = np.hypot(rows / rng.uniform(0.8, 1), columns / rng.uniform(0.7, 0.9))
        body = 0.1 + 0.55 / (1 + np.exp(12 * (distance - 0.8)))
        made.append(body + 0.02 * rng.standard_normal((size, size)) * (distance < 0.9))
    return np.clip(made, 0, 1).astype("float32")


def shifted(images: np.ndarray) -> np.ndarray:
    return (0.35 + 0.6 * images**0.5).clip(0, 1).astype("float32")


@cache
def fitted_once() -> BlindHarmony:
    return BlindHarmony(**SMALL).fit(bodies(24, seed=0))


def fitted() -> BlindHarmony:
    return copy.deepcopy(fitted_once())


# -- whom it learns from ----------------------------------------------------------------------------------------------


def test_images_of_other_scanners_are_not_looked_at() -> None:
    reference, other = bodies(6, seed=0), np.full((3, 16, 16), np.nan, dtype="float32")
    X = ImageSet([*reference, *other], scanner=["A"] * 6 + ["B"] * 3)
    one = BlindHarmony("A", **QUICK).fit(X)
    alone = BlindHarmony(**QUICK).fit(reference)
    assert (one.reference_, alone.reference_) == ("A", "all images")
    np.testing.assert_array_equal(one.transform(reference), alone.transform(reference))


def test_the_largest_scanner_is_the_reference_unless_one_is_named() -> None:
    X = ImageSet(bodies(7, seed=0), scanner=["B"] * 3 + ["A"] * 4)
    assert BlindHarmony(**QUICK).fit(X).reference_ == "A"
    assert BlindHarmony("B", **QUICK).fit(X).reference_ == "B"
    assert BlindHarmony("pooled", **QUICK).fit(X).reference_ == "pooled"


def test_patients_may_be_known_of_some_images_alone() -> None:
    X = ImageSet(bodies(12, seed=0), patient=["P1", None, "P1", *[None] * 9])
    assert np.isfinite(BlindHarmony(**QUICK).fit(X).transform(X[:1])[0]).all()


def test_a_fit_that_fails_leaves_what_an_earlier_one_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    harmonizer, image = fitted(), shifted(bodies(1, seed=5))
    before = harmonizer.transform(image)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("xray_harmonize.harmonizers.blind.Typicality.of", fail)
    with pytest.raises(ZeroDivisionError):
        harmonizer.set_params(max_steps=2, n_steps=2, random_state=5).fit(bodies(12, seed=1))
    np.testing.assert_array_equal(harmonizer.transform(image), before)


def test_a_reference_without_images_or_labels_is_an_error() -> None:
    X = ImageSet(bodies(4, seed=0), scanner=["A", "A", "B", "B"])
    with pytest.raises(
        UnknownScannerError, match=r"reference='C' has no training image; the scanners are A, B\. Choose"
    ):
        BlindHarmony("C", **QUICK).fit(X)
    with pytest.raises(MissingScannerError, match=r"to find those of reference='A'\. Give X as ImageSet"):
        BlindHarmony("A", **QUICK).fit(list(X))


def test_one_image_can_be_learned() -> None:
    one = BlindHarmony(**QUICK).fit(bodies(1, seed=0))
    assert one.transform(bodies(1, seed=1)).shape == (1, 16, 16)


def test_the_same_seed_learns_the_same_and_another_another() -> None:
    X = bodies(8, seed=0)
    first, second = (clone(BlindHarmony(**QUICK)).fit(X) for _ in range(2))
    other = BlindHarmony(**{**QUICK, "random_state": 1}).fit(X)
    assert all(np.array_equal(value, second.state_[name]) for name, value in first.state_.items())
    np.testing.assert_array_equal(first.transform(X), second.transform(X))
    assert first.noise_seed_ == second.noise_seed_ != other.noise_seed_


def test_progress_is_told_and_kept() -> None:
    told: list[int] = []
    with report_progress(lambda progress: told.append(progress.epoch)):
        one = BlindHarmony(**QUICK).fit(bodies(8, seed=0))
    assert told == [row["epoch"] for row in one.history_] == [1, 2]
    assert {"train_loss", "valid_loss"} <= one.history_[0].keys()
    assert not one.interrupted_


@pytest.mark.parametrize("finished", [0, 1])
def test_an_interrupted_training_keeps_the_best_state_or_is_none(finished: int) -> None:
    def stop(progress: Any) -> None:
        if progress.epoch > finished:
            raise KeyboardInterrupt

    one = BlindHarmony(**{**QUICK, "max_steps": 4})
    if not finished:
        with report_progress(stop), pytest.raises(KeyboardInterrupt):
            one.fit(bodies(8, seed=0))
        return
    with (
        report_progress(stop),
        pytest.warns(XRayHarmonizeWarning, match="BlindHarmony was interrupted after .* checks; the state of check 1"),
    ):
        one.fit(bodies(8, seed=0))
    assert one.interrupted_


# -- what it finds ----------------------------------------------------------------------------------------------------


def test_images_of_the_reference_are_likelier_than_shifted_ones() -> None:
    new = bodies(12, seed=1)
    assert fitted().bits_per_dimension(new).max() < fitted().bits_per_dimension(shifted(new)).min()


def test_shifted_images_come_closer_to_the_reference_and_stay_alike() -> None:
    new = bodies(6, seed=2)
    source = shifted(new)
    result = fitted().transform(source)
    error = ((source - new) ** 2).mean(axis=(1, 2)), ((result - new) ** 2).mean(axis=(1, 2))
    assert (error[1] < 0.8 * error[0]).all()
    table = fitted().distances(source)
    assert (table["bits_after"] < table["bits_before"]).all()
    assert (table["similarity"] > 0.7).all()
    assert (table["change"] > 0.01).all()
    assert (table["fallbacks"] == 0).all()


def test_images_of_the_reference_hardly_change() -> None:
    new = bodies(6, seed=3)
    far = fitted().transform(shifted(new)) - shifted(new)
    near = fitted().transform(new) - new
    assert np.sqrt((near**2).mean()) < 0.3 * np.sqrt((far**2).mean())


def test_images_as_typical_as_the_references_own_stay_as_they_are() -> None:
    new = bodies(40, seed=3)
    stayed = (fitted().transform(new) == new).all(axis=(1, 2))
    assert stayed.mean() > 0.8
    np.testing.assert_array_equal(stayed, fitted().distances(new)["atypicality"] <= 1)
    table = fitted().distances(shifted(new[:4]))
    assert (table["atypicality"] > 1).all()
    assert (table["change"] > 0.01).all()


def test_where_no_share_is_typical_every_image_is_searched_for() -> None:
    one, new = fitted().set_params(typical_share=0.0), bodies(6, seed=3)
    assert not (one.transform(new) == new).all(axis=(1, 2)).any()
    assert np.isinf(one.distances(new)["atypicality"]).all()
    far = fitted().transform(shifted(new)) - shifted(new)
    assert np.sqrt(((one.transform(new) - new) ** 2).mean()) < 0.5 * np.sqrt((far**2).mean())


def test_with_few_patients_nothing_counts_as_typical() -> None:
    few = bodies(6, seed=0)
    assert not (BlindHarmony(**QUICK).fit(few).transform(few) == few).all(axis=(1, 2)).any()


def test_doing_nothing_is_a_perfect_correlation_and_no_change() -> None:
    one = fitted().set_params(latent_step=0.0, edge_step=0.0)
    source = shifted(bodies(2, seed=4))
    np.testing.assert_allclose(one.transform(source), source, atol=1e-5)
    table = one.distances(source)
    np.testing.assert_allclose(table["similarity"], 1, atol=1e-4)
    np.testing.assert_allclose(table["change"], 0, atol=1e-5)
    np.testing.assert_allclose(table["bits_after"], table["bits_before"], atol=0.05)


def test_a_matched_start_has_the_brightness_of_the_reference() -> None:
    source = shifted(bodies(3, seed=5))
    one = fitted().set_params(latent_step=0.0, edge_step=0.0)
    plain, matched = one.transform(source), one.set_params(start="matched").transform(source)
    mean = bodies(24, seed=0).mean()
    assert (abs(matched.mean(axis=(1, 2)) - mean) < 0.2 * abs(plain.mean(axis=(1, 2)) - mean)).all()


def test_larger_images_keep_their_detail() -> None:
    small = shifted(bodies(1, seed=6))[0]
    detail = 0.05 * (np.indices((64, 64)).sum(axis=0) % 2 - 0.5)
    large = (small.repeat(4, axis=0).repeat(4, axis=1) + detail).clip(0, 1).astype("float32")
    result = fitted().transform(large[None])[0]
    assert result.shape == (64, 64)
    step = np.abs(np.diff(result, axis=1))[:, ::4].mean() / np.abs(np.diff(large, axis=1))[:, ::4].mean()
    assert 0.3 < step < 3


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_an_image_without_contrast_stays_as_it_is(value: float) -> None:
    flat = np.full((1, 20, 12), value, dtype="float32")
    np.testing.assert_array_equal(fitted().transform(flat), flat)
    table = fitted().distances(flat)
    assert table["change"].tolist() == [0]


def test_the_published_search_is_hardly_more_than_the_source() -> None:
    published = BlindHarmony.as_published().get_params()
    search = ("similarity", "similarity_step", "edge_step", "latent", "latent_step", "n_iterations")
    one = fitted().set_params(**{name: published[name] for name in search})
    source = shifted(bodies(2, seed=7))
    assert one.distances(source)["similarity"].min() > 0.99


def test_distances_of_no_image_are_a_table_without_rows() -> None:
    table = fitted().distances([])
    assert len(table) == 0
    assert list(table) == [
        "atypicality", "similarity", "change", "bits_before", "bits_after", "edges_before", "edges_after", "fallbacks"
    ]  # fmt: skip
    assert fitted().bits_per_dimension([]).shape == (0,)


def test_bad_images_are_named() -> None:
    X = list(bodies(2, seed=0))
    X[1] = X[1] * np.float32(3)
    for method in ("transform", "distances", "bits_per_dimension", "fit"):
        with pytest.raises(InvalidImageError, match=r"Image 1\b.* holds floats from"):
            getattr(fitted(), method)(X)
    masked = ImageSet(list(bodies(2, seed=0)), mask=[None, np.zeros((16, 16), bool)])
    with pytest.raises(InvalidImageError, match=r"Image 1\b.*There is no pixel to take statistics of"):
        fitted().transform(masked)


# -- parameters and persistence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"start": "mean"}, r"start must be 'source' or 'matched'; got 'mean'\."),
        ({"typical_share": 2}, r"typical_share must lie in \[0, 1\]; got 2\."),
        ({"validation_fraction": 1}, r"validation_fraction must lie in \[0, 1\); got 1\."),
        ({"similarity": "ssim"}, r"similarity must be 'ncc' or 'cosine'; got 'ssim'\."),
        ({"image_size": 18}, r"image_size must be a whole number of pixels divisible by 4 for n_levels=2"),
        ({"image_size": 2, "n_levels": 1}, r"image_size must be at least 4 pixels; got 2\."),
        ({"lr": "fast"}, r"lr must be above 0; got 'fast'\."),
        ({"flip": "no"}, r"flip must be True or False; got 'no'\."),
        ({"reference": 1}, r"reference must be the name of a scanner as text, or None; got 1 \(int\)\."),
        ({"max_steps": 0}, r"max_steps must be a whole number, at least 1; got 0\."),
        ({"device": "abacus"}, r"device='abacus' is not there on this machine"),
    ],
)
def test_parameters_out_of_range_are_refused_by_fit(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        BlindHarmony(**{**QUICK, **wrong}).fit(bodies(4, seed=0))


def test_numbers_of_numpy_are_numbers() -> None:
    numbers = {"max_steps": np.int64(2), "batch_size": np.int64(4), "flip": np.bool_(True), "lr": np.float32(2e-3)}
    numbers |= {"validation_fraction": np.float32(0.25), "typical_share": np.float32(1)}
    X = bodies(8, seed=0)
    plain = {name: value.item() for name, value in numbers.items()}
    one, other = (BlindHarmony(**{**QUICK, **given}).fit(X) for given in (numbers, plain))
    np.testing.assert_array_equal(one.transform(X[:2]), other.transform(X[:2]))


def test_the_published_settings_can_be_changed_one_by_one() -> None:
    published = BlindHarmony.as_published(max_steps=7, reference="A")
    assert (published.max_steps, published.reference) == (7, "A")
    assert (published.n_steps, published.channels, published.n_bits, published.batch_size) == (7, 96, 12, 256)
    published._check_parameters()


def test_sizes_that_are_set_after_fit_wait_for_the_next_fit() -> None:
    one, source = fitted(), shifted(bodies(2, seed=8))
    before = one.transform(source)
    one.set_params(image_size=32, n_steps=1, channels=4)
    np.testing.assert_array_equal(one.transform(source), before)


def test_what_is_saved_finds_the_same(tmp_path: Any) -> None:
    source = shifted(bodies(2, seed=9))
    fitted().save(tmp_path / "blind.npz")
    loaded = xray_harmonize.load(tmp_path / "blind.npz")
    np.testing.assert_array_equal(loaded.transform(source), fitted().transform(source))
    np.testing.assert_array_equal(loaded.bits_per_dimension(source), fitted().bits_per_dimension(source))
