"""The evaluation of BlindHarmony runs whole on tiny simulated travelling subjects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

AGAIN = "reference again"
PAPER = ("source", "HM", "SSIMH", "CycleGAN", "U-Net", "BlindHarmony")

Run = Callable[..., None]


@pytest.fixture(scope="module")
def study(benchmark: Callable[[str], ModuleType]) -> Run:
    """``main`` of the study."""
    return lambda *arguments: benchmark("blind_study").main([str(one) for one in arguments])


@pytest.fixture(scope="module")
def cache(study: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished pieces, tables and picture of a whole run."""
    folder = tmp_path_factory.mktemp("cache")
    study("--quick", "--cache", folder)
    return folder


@pytest.fixture(scope="module")
def table(cache: Path) -> pd.DataFrame:
    return read(cache / "quick", "study")


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"blind_{name}.csv", comment="#")


def test_every_method_is_measured_on_four_sources_and_on_the_reference_again(table):
    for _, of_task in table[table["method"] != "reference itself"].groupby("task"):
        assert len(set(of_task["scanner"])) == 5
        for name in ("source", "HM", "SSIMH", "BlindHarmony", "CDF, scanner", "BlindHarmony, as published"):
            assert set(of_task.loc[of_task["method"] == name, "scanner"]) == set(of_task["scanner"])
        for name in ("CycleGAN", "U-Net"):
            assert set(of_task.loc[of_task["method"] == name, "scanner"]) == set(of_task["scanner"]) - {AGAIN}


def test_doing_nothing_is_no_distance_from_the_source_and_no_difference(table):
    source = table[table["method"] == "source"]
    np.testing.assert_allclose(source["psnr_to_source"], 100)
    np.testing.assert_allclose(source["correlation_to_source"], 1, atol=1e-6)
    np.testing.assert_allclose(source[["psnr_difference", "ssim_difference"]], 0, atol=1e-12)


def test_a_second_exposure_differs_by_noise_alone(table):
    source = table[table["method"] == "source"].set_index("scanner")["psnr"]
    assert 30 < source[AGAIN].min() <= source[AGAIN].max() < 60
    assert source.drop(AGAIN).max() < 25


def test_intervals_hold_their_means(table):
    for measure in ("psnr", "ssim", "psnr_difference", "ssim_difference"):
        own = table.dropna(subset=measure)
        assert (own[f"{measure}_low"] <= own[measure] + 1e-6).all()
        assert (own[measure] <= own[f"{measure}_high"] + 1e-6).all()
    assert table["psnr"].notna().sum() == len(table) - 2


def test_mean_is_that_of_the_four_sources(cache, table):
    mean = read(cache / "quick", "mean")
    assert set(PAPER) <= set(mean["method"])
    own = table[(table["scanner"] != AGAIN) & (table["method"] == "HM")].groupby("task")["psnr"].mean()
    found = mean[mean["method"] == "HM"].set_index("task")["psnr"]
    np.testing.assert_allclose(found[own.index], own, rtol=1e-3)
    assert (mean["sources"] == 4).all()


def test_picture_is_drawn(cache):
    assert (cache / "quick" / "blind_study.png").stat().st_size > 10_000


def test_what_is_finished_is_not_done_again_unless_asked(study, cache, tmp_path, capsys):
    arguments = ("--quick", "--cache", cache, "--results", tmp_path, "--part", "measures")
    study(*arguments)
    assert "learned in" not in capsys.readouterr().out
    study(*arguments, "--again", "U-Net")
    learned = [line for line in capsys.readouterr().out.splitlines() if "learned in" in line]
    assert len(learned) == 8
    assert all("U-Net" in line for line in learned)


def test_one_method_of_one_task_runs_alone(study, tmp_path, capsys):
    study("--quick", "--cache", tmp_path, "--task", "density", "--method", "HM", "--part", "measures")
    assert "not asked for (in how many rows): SSIMH (5); CycleGAN (4)" in capsys.readouterr().out
    table = read(tmp_path / "quick", "study")
    assert set(table["method"]) == {"reference itself", "source", "HM"}
    assert set(table["task"]) == {"density"}


def test_no_patient_is_in_two_parts_and_no_image_twice(benchmark):
    cohorts, setting = benchmark("blind_cohorts"), benchmark("blind_setting")
    quick = setting.quick_setting(Path(), Path(), Path(), "")
    subjects = cohorts.simulated("density", quick.numbers, masked=False)
    parts = [subjects.own, subjects.unpaired, subjects.travelling, subjects.test]
    patients = [set(part.images.patient) for part in parts]
    assert len(set.union(*patients)) == sum(map(len, patients))
    truths = {part.truth[i].tobytes() for part in parts for i in range(len(part.truth))}
    numbers = quick.numbers
    assert len(truths) == numbers.reference + 5 * numbers.source + numbers.travelling + numbers.test


def test_masks_are_found_in_the_images_where_asked_for(benchmark):
    cohorts, setting = benchmark("blind_cohorts"), benchmark("blind_setting")
    quick = setting.quick_setting(Path(), Path(), Path(), "")
    test = cohorts.simulated("density", quick.numbers, masked=True).test
    masks = np.stack([test.images.mask(i) for i in range(len(test.images))])
    assert (masks == test.body).mean() > 0.9


def test_overlap_is_measured_in_the_body_and_where_there_is_tissue(benchmark):
    overlap = benchmark("blind_segmentation").intersection_over_union
    body = np.ones((3, 10, 10), bool)
    body[:, :, 9] = False
    tissue = np.zeros_like(body)
    tissue[:2, :4] = True
    found = np.zeros_like(body)
    found[0, :2] = found[1, :4] = True
    np.testing.assert_allclose(overlap(found, tissue, body), [0.5, 1, np.nan])


def test_findings_tell_what_is_reached_and_what_is_not(benchmark):
    findings = benchmark("blind_tables").findings
    ends = {f"{name}{end}": 0.0 for name in ("iou_difference", "psnr_difference") for end in ("", "_low", "_high")}
    rows = [("A", 0.9), ("B", 0.5), (AGAIN, -0.05), (AGAIN, -0.2)]
    made = [
        {**ends, "task": "density", "scanner": scanner, "method": "BlindHarmony", "psnr_difference": gain}
        for scanner, gain in rows
    ]
    told = findings(pd.DataFrame(made)).splitlines()
    assert [line.rpartition(" ")[2] for line in told] == ["reached", "missed", "reached", "missed"]


def test_no_trainings_at_all_are_refused(study, capsys):
    with pytest.raises(SystemExit):
        study("--seeds", "0")
    assert "--seeds must be at least 1" in capsys.readouterr().err


def test_what_was_kept_counts_until_the_program_of_a_method_changes(benchmark, tmp_path, monkeypatch):
    store = benchmark("blind_store")
    monkeypatch.setattr(store, "PACKAGE", tmp_path / "xray_harmonize")
    (tmp_path / "xray_harmonize" / "harmonizers").mkdir(parents=True)
    outer, inner = (tmp_path / "xray_harmonize" / "harmonizers" / f"{name}.py" for name in ("outer", "inner"))
    outer.write_text('"""One."""\nfrom xray_harmonize.harmonizers.inner import f\n', encoding="utf-8")
    inner.write_text("def f():\n    return 1\n", encoding="utf-8")

    def key() -> str:
        return store.key_of("fit", store.modules_behind("harmonizers/outer"), "facts")

    first = key()
    inner.write_text('def f():\n    """Two."""\n    return 1  # as it was\n', encoding="utf-8")
    assert key() == first
    inner.write_text("def f():\n    return 2\n", encoding="utf-8")
    assert key() != first


def test_one_scanner_has_no_place_in_the_mean_of_four(study, tmp_path):
    arguments = ("--task", "density", "--method", "HM", "--scanner", "senograph-like", "--part", "measures")
    study("--quick", "--cache", tmp_path, *arguments)
    assert set(read(tmp_path / "quick", "study")["method"]) == {"reference itself", "source", "HM"}
    assert set(read(tmp_path / "quick", "mean")["method"]) == {"reference itself"}
