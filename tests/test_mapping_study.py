"""The study of the interpretable mapping runs whole, and measures what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skimage.metrics import structural_similarity

Run = Callable[..., None]


@pytest.fixture(scope="module")
def study(benchmark) -> Run:
    return lambda *arguments: benchmark("mapping_study").main([str(one) for one in arguments])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished pieces that the parts share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.normal(size=(70, 90)), axis=0), axis=1)
    return ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "quick" / f"mapping_{name}.csv", comment="#")


def test_main_scores_every_method_on_every_body(study, cache):
    study("--quick", "--cache", cache, "--part", "main")
    table = read(cache, "study")
    everything = table[table["bodies"] == "all"].set_index("method")
    expected = {"nothing", "HM", "SSIMH", "ResUNet x8", "DLBC", "LUT3D", "SupDCE x8", "mapping x4", "true maps"}
    assert expected <= set(everything.index)
    assert (everything["n"] == 8).all()
    assert everything["psnr"].idxmax() == "true maps"
    assert set(table["bodies"]) == {"all", "mammogram", "chest radiograph"}


def test_main_says_of_every_goal_whether_it_was_reached(study, cache):
    study("--quick", "--cache", cache, "--part", "main")
    table = read(cache, "verdicts")
    assert table["reached"].str.match("yes|no").all()
    assert table["goal"].str.contains("mapping x4 less x16").any()


def test_learning_rates_are_searched_for_alike_and_shared_by_the_mappings(study, cache):
    study("--quick", "--cache", cache, "--part", "main")
    table = read(cache, "rates")
    searched = table[table["rate_of"] == table["method"]]
    assert (searched.groupby("method")["lr"].nunique() == 2).all()
    chosen = table[table["chosen"]].groupby("method")["lr"].first()
    assert chosen["mapping x4"] == chosen["mapping x16"] == chosen["mapping x8"]


def test_maps_are_compared_with_the_true_ones(study, cache):
    study("--quick", "--cache", cache, "--part", "maps")
    table = read(cache, "maps")
    assert table.groupby("part").size().to_dict() == {"main": 6, "longer": 6}
    assert table[[name for name in table if name.startswith(("within", "across"))]].abs().le(1).all(axis=None)
    assert np.allclose(table["true_spread_ww"], 0, atol=1e-6)


def test_longer_trains_three_times_as_long(study, cache):
    study("--quick", "--cache", cache, "--part", "longer")
    table = read(cache, "longer")
    networks = table[~table["method"].isin(["nothing", "HM", "SSIMH", "true maps"])]
    assert networks["steps"].isin([1, 2, 6]).all()
    assert {"LUT3D", "ResUNet x8", "mapping x8"} <= set(table["method"])
    assert read(cache, "longer_verdicts")["reached"].str.match("yes|no").all()


def test_confirm_asks_the_same_networks_of_other_bodies(study, benchmark, cache, capsys):
    study("--quick", "--cache", cache, "--part", "longer")
    capsys.readouterr()
    study("--quick", "--cache", cache, "--part", "confirm")
    assert "steps at" not in capsys.readouterr().out
    before, after = (read(cache, name).set_index(["bodies", "method"]) for name in ("longer", "confirm"))
    assert before.index.equals(after.index)
    assert (before["steps"].dropna() == after["steps"].dropna()).all()
    assert (before["psnr"] != after["psnr"]).any()
    assert list(read(cache, "longer_verdicts")["goal"]) == list(read(cache, "confirm_verdicts")["goal"])
    make, folder = benchmark("mapping_bodies").presentations, cache / "quick" / "bodies"
    known, new = (make(split, (64,), 1, folder) for split in ("test", "confirmation"))
    assert not {row.patient for row in known.rows} & {row.patient for row in new.rows}
    assert not np.array_equal(np.load(known.rows[0].target), np.load(new.rows[0].target))


def test_speed_tells_the_network_from_what_follows(study, cache):
    study("--quick", "--cache", cache, "--part", "speed")
    table = read(cache, "speed").set_index("method")
    assert table["total"].gt(0).all()
    assert table.loc["mapping x8", ["view", "network", "application"]].gt(0).all()
    assert table.loc["HM", ["network"]].isna().all()


def test_clipped_keeps_true_maps_from_being_perfect(study, cache):
    study("--quick", "--cache", cache, "--part", "main", "--part", "clipped")
    whole, clipped = (
        table[table["bodies"] == "all"].set_index("method")["psnr"]
        for table in (read(cache, "study"), read(cache, "clipped"))
    )
    assert clipped["true maps"] < whole["true maps"]


def test_scanners_are_told_apart(study, cache):
    study("--quick", "--cache", cache, "--part", "scanners")
    table = read(cache, "scanners")
    assert {"all", "senograph-like", "clearview-like", "chest-b-like"} == set(table["bodies"])
    assert {"nothing", "mapping x4", "HM, one curve a scanner"} <= set(table["method"])


def test_scanners_test_on_patients_that_nothing_was_learned_from(benchmark):
    setting = benchmark("mapping_setting").quick_setting(Path(), Path(), Path(), "")
    training, test = benchmark("mapping_scanners").pairs(setting)
    assert not set(training.images.patient) & set(test.images.patient)
    assert len(test.images)


def test_figures_come_from_what_was_kept(study, cache, capsys):
    study("--quick", "--cache", cache, "--part", "figures")
    capsys.readouterr()
    study("--quick", "--cache", cache, "--part", "figures")
    assert "steps at" not in capsys.readouterr().out
    assert (cache / "quick" / "mapping_study.png").is_file()
    assert (cache / "quick" / "mapping_maps.png").is_file()


def test_training_and_test_bodies_are_different_patients(benchmark, cache):
    make = benchmark("mapping_bodies").presentations
    training, test = (make(split, (64,), 2, cache / "quick" / "bodies") for split in ("training", "test"))
    assert not {row.patient for row in training.rows} & {row.patient for row in test.rows}
    assert len(training.rows) == 16
    assert len(training.one_each().rows) == 8


@pytest.mark.parametrize("seed", range(6))
def test_true_maps_lead_from_a_presentation_to_the_target(benchmark, image, seed):
    bodies = benchmark("mapping_bodies")
    source, maps = bodies.presented(image, seed)
    assert source.min() >= 0
    assert source.max() <= 1
    np.testing.assert_allclose(bodies.through_maps(source, maps), image, atol=1e-4)


def test_clipped_presentations_lose_grey_values(benchmark, image):
    bodies = benchmark("mapping_bodies")
    off = [np.abs(bodies.through_maps(*bodies.presented(image, seed, clipped=True)) - image).max() for seed in range(6)]
    assert max(off) > 0.01


def test_similarity_is_that_of_scikit_image(benchmark, image):
    other = np.clip(image**1.3 + 0.02 * np.random.default_rng(1).normal(size=image.shape), 0, 1).astype(np.float32)
    body = np.zeros(image.shape, dtype=bool)
    body[20:50, 30:70] = True
    found = benchmark("mapping_scores").similarity(other, image, body)
    options = {"data_range": 1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    whole, everywhere = structural_similarity(other, image, full=True, **options)
    assert found["ssim"] == pytest.approx(whole, abs=1e-4)
    assert found["ssim_body"] == pytest.approx(everywhere[body].mean(), abs=1e-4)
    assert found["psnr"] == pytest.approx(-10 * np.log10(np.square(other - image).mean()), abs=1e-4)


def test_differences_are_paired_by_image_and_drawn_by_patient(benchmark):
    rows = [
        {"method": method, "image": f"{scanner} {patient}", "patient": str(patient), "scanner": scanner}
        | dict.fromkeys(("psnr", "ssim", "psnr_body", "ssim_body"), 20.0 + patient + (method == "one"))
        for method in ("one", "other")
        for scanner in ("A", "B")
        for patient in range(5)
    ]
    table = benchmark("mapping_scores").score_table(pd.DataFrame(rows), "other", n_bootstrap=50)
    one = table[(table["bodies"] == "all") & (table["method"] == "one")].iloc[0]
    assert (one["n"], one["n_patients"]) == (10, 5)
    assert one["psnr_less"] == one["psnr_less_low"] == one["psnr_less_high"] == 1
    assert one["psnr_low"] < one["psnr"] < one["psnr_high"]


def test_steps_below_one_are_refused(study, capsys):
    with pytest.raises(SystemExit):
        study("--steps", "0")
    assert "--steps must be at least 1" in capsys.readouterr().err
