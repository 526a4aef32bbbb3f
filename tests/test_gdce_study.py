"""The study of GDCE runs whole, on simulated images and on folders laid out like EMBED and RSNA."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from dicom_factory import make_dicom

from xray_harmonize import make_cohort

SIZE = 40

Run = Callable[..., None]


@pytest.fixture(scope="module")
def study(benchmark: Callable[[str], ModuleType]) -> Run:
    """``main`` of the study."""
    return lambda *arguments: benchmark("gdce_study").main([str(one) for one in arguments])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished pieces that the parts share."""
    return tmp_path_factory.mktemp("cache")


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"gdce_{name}.csv", comment="#")


def test_main_compares_every_row_on_every_scanner(study, cache):
    study("--quick", "--cache", cache, "--part", "main")
    table, confusion = read(cache / "quick", "main"), read(cache / "quick", "main_confusion")
    assert set(table["scanner"]) == {"reference", "senograph-like", "clearview-like"}
    assert {"none", "z-score", "CDF, scanner", "GDCE, image", "fine-tuned"} <= set(table["harmonizer"])
    at_home = table[(table["harmonizer"] == "none") & (table["scanner"] != "reference")]
    np.testing.assert_allclose(at_home["gap_closed"], 0, atol=1e-9)
    np.testing.assert_allclose(confusion.groupby(["harmonizer", "scanner", "label"])["share"].sum(), 1, atol=1e-4)


def test_absent_tells_the_recall_of_every_class(study, cache):
    study("--quick", "--cache", cache, "--part", "absent")
    table = read(cache / "quick", "absent")
    assert {f"recall_{label}" for label in "ABCD"} <= set(table)
    assert table["less_cdf_scanner"].isna().sum() == 1 + (table["harmonizer"] == "CDF, scanner").sum()


def test_ablation_has_a_row_a_network(study, cache):
    study("--quick", "--cache", cache, "--part", "ablation")
    assert len(read(cache / "quick", "ablation")) == 4


def test_chest_gives_precision_and_recall(study, cache):
    study("--quick", "--cache", cache, "--part", "chest")
    assert read(cache / "quick", "chest")[["precision", "recall"]].apply(lambda one: one.between(0, 1)).all(axis=None)


def test_weighting_tells_how_far_curves_are_from_the_truth(study, cache):
    study("--quick", "--cache", cache, "--part", "weighting")
    table = read(cache / "quick", "weighting")
    assert table["curve_error"].between(0, 1).all()
    assert "as released" in set(table["variant"])


def test_controls_write_a_table_each(study, cache):
    study("--quick", "--cache", cache, "--part", "controls")
    assert read(cache / "quick", "controls_third")["never_seen"].any()
    assert (read(cache / "quick", "controls_negative")["curve_less_identity"].dropna() >= 0).all()
    assert set(read(cache / "quick", "controls_permuted")["scored_on"]) == {"learned", "test"}


def test_figures_come_from_what_was_kept(study, cache):
    study("--quick", "--cache", cache, "--part", "main", "--part", "ablation", "--part", "figures")
    drawn = {path.stem for path in (cache / "quick").glob("*.png")}
    assert {"gdce_confusion_senograph", "gdce_ablation", "gdce_curves", "gdce_failure", "gdce_pictures"} <= drawn


def test_figures_without_tables_name_the_part_to_run(study, cache, tmp_path, capsys):
    study("--quick", "--cache", cache, "--results", tmp_path, "--part", "figures")
    assert "run the part that makes it first" in capsys.readouterr().out


def test_what_is_finished_is_not_done_again(study, cache, capsys):
    study("--quick", "--cache", cache, "--part", "absent")
    capsys.readouterr()
    study("--quick", "--cache", cache, "--part", "absent")
    assert "done" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def embed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection laid out like EMBED."""
    folder = tmp_path_factory.mktemp("embed")
    models = {"reference": "Selenia Dimensions", "senograph-like": "Senograph 2000D ADS_17.5"}
    models["clearview-like"] = "Clearview CSm"
    cohort = make_cohort("density", n_patients=32, size=SIZE, random_state=3)
    images, exams = [], []
    for i, (scanner, label) in enumerate(zip(cohort.images.scanner, cohort.labels, strict=True)):
        path = f"cohort_1/{i}/image.dcm"
        (folder / path).parent.mkdir(parents=True)
        make_dicom(folder / path, cohort.images[i], bits_stored=int(cohort.images.bits_stored[i]))
        known = {"empi_anon": i, "acc_anon": 1000 + i}
        image = {"anon_dicom_path": path, "SeriesDescription": "R CC", "FinalImageType": "2D", "ViewPosition": "CC"}
        images.append({**known, **image, "spot_mag": "", "PatientSex": "F", "ManufacturerModelName": models[scanner]})
        exams.append({**known, "tissueden": "ABCD".index(label) + 1})
    write_csv(folder / "metadata.csv", images)
    write_csv(folder / "clinical.csv", exams)
    return folder


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_embed_runs_from_its_tables_and_folder(study, embed_folder, tmp_path):
    tables = (embed_folder / "metadata.csv", embed_folder / "clinical.csv")
    study("--quick", "--cache", tmp_path, "--embed", *tables, "--images", embed_folder, "--part", "absent")
    table = read(tmp_path / "quick", "absent")
    assert set(table["scanner"]) == {"Selenia", "Senograph", "Clearview"}
    assert {"recall_0", "recall_3"} <= set(table)


def test_rsna_runs_from_its_folder(study, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    cohort = make_cohort("pneumonia", n_patients=24, size=SIZE, random_state=3)
    spacing = {"chest-reference": 0.143, "chest-b-like": 0.171}
    rows, people = [], []
    for i, (scanner, label) in enumerate(zip(cohort.images.scanner, cohort.labels, strict=True)):
        pixels = np.round(255 * cohort.images.unit(i)).astype(np.uint8)
        make_dicom(images / f"i{i}.dcm", pixels, PatientID=f"i{i}", PixelSpacing=[spacing[scanner]] * 2)
        rows.append({"patientId": f"i{i}", "x": "", "y": "", "width": "", "height": "", "Target": label})
        people.append({"subset_img_id": f"i{i}", "img_id": f"{i:08d}_000.png"})
    write_csv(tmp_path / "labels.csv", rows)
    (tmp_path / "mapping.json").write_text(json.dumps(people), encoding="utf-8")
    beside = ("--rsna-labels", tmp_path / "labels.csv", "--rsna-mapping", tmp_path / "mapping.json")
    study("--quick", "--cache", tmp_path, "--rsna", images, *beside, "--part", "main")
    assert set(read(tmp_path / "quick", "main")["scanner"]) == {"Brand X", "Brand Y"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--embed", "a", "b"), "--embed and --images go together"),
        (("--rsna", "a"), "--rsna and --rsna-labels go together"),
        (("--embed", "a", "b", "--images", "c", "--rsna", "d", "--rsna-labels", "e"), "are two studies"),
        (("--rsna", "a", "--rsna-labels", "b", "--part", "controls"), "has the parts main and absent"),
    ],
)
def test_options_that_do_not_fit_are_refused(study, arguments, message, capsys):
    with pytest.raises(SystemExit):
        study(*arguments)
    assert message in capsys.readouterr().err
