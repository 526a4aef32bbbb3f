"""The audit as a whole: what it finds where the truth is known, what it takes, what it refuses."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from audit_images import made
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import xray_harmonize
from xray_harmonize import DeepFeatures, ImageSet, IntensityFeatures, MinMax, XRayHarmonizeWarning, ZScore, audit
from xray_harmonize.auditing.result import AuditResult
from xray_harmonize.exceptions import InvalidParameterError, MissingScannerError

FEW = {"n_permutations": 40, "n_bootstrap": 40, "n_refits": 20, "image_size": 16}
QUICK = ["--size", "32", "--permutations", "60", "--bootstrap", "60", "--refits", "20"]
SMALL = IntensityFeatures(8, 2, 16)


@pytest.fixture(scope="module")
def checks(benchmark):
    """The benchmark of audits whose truth is known."""
    return benchmark("audit_checks")


# -- the truth is known -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known(checks, tmp_path_factory):
    checks.RESULTS = tmp_path_factory.mktemp("results")
    checks.main(["--part", "curve", "--patients", "32", "--no-controls", *QUICK])
    return pd.read_csv(checks.RESULTS / "audit_curve.csv", comment="#").set_index("measure")


def test_scanners_that_differ_by_a_known_curve_are_told_apart_and_not_behind_its_inverse(known):
    probe = known.loc["probe"]
    assert probe["none"] >= 0.95
    assert probe["p_none"] < 0.05
    assert probe["p_inverse"] > 0.05


def test_every_measure_of_the_gap_orders_nothing_halfway_and_the_inverse(known):
    measures = ["probe", "mmd2", "kid", "silhouette_scanner", "variance_scanner", "wasserstein"]
    measures += ["PSNR to the truth", "SSIM to the truth"]
    assert known.loc[measures, "ordered"].all()


@pytest.fixture(scope="module")
def confounded(checks, tmp_path_factory):
    checks.RESULTS = tmp_path_factory.mktemp("results")
    checks.main(["--part", "confounded", "--patients", "40", "--harmonizers", "min-max", *QUICK])
    return pd.read_csv(checks.RESULTS / "audit_confounded.csv", comment="#").set_index("control")


def test_labels_that_go_with_scanners_raise_a_caution(confounded):
    assert "label and scanner confounded" in confounded.loc[["stop"], "measure"].tolist()


def test_the_gain_that_leaks_is_shown(confounded):
    alone, pooled = (confounded.loc[name] for name in ("label from the scanner alone", "scanners pooled"))
    assert float(alone["value"]) > 0.7
    assert str(alone["passed"]) == "False"
    assert float(pooled["value"]) > 0.1
    assert float(pooled["low"]) > 0
    assert str(pooled["passed"]) == "False"


def test_scanners_that_differ_in_nothing_are_not_said_to(checks, tmp_path):
    checks.RESULTS = tmp_path
    asked = ["--part", "nothing", "--patients", "16", "--no-controls", "--harmonizers", "CDF, scanner", *QUICK]
    for last in ("1", "3"):
        checks.main([*asked, "--seeds", "0", last])
    table = pd.read_csv(tmp_path / "audit_nothing.csv", comment="#")
    assert table["seed"].tolist() == [0, 1, 2]
    assert table["gap"].sum() <= 1
    assert not table["helps"].any()


def test_a_mix_of_classes_is_no_gap():
    # One scanner's images dealt to two names, by a share that differs with the class.
    X, y = made((("A", 80),), side=16, spot=0.5)
    rng = np.random.default_rng(0)
    names = np.where(rng.random(80) < np.where(y == 1, 0.2, 0.8), "A", "B")
    mixed = ImageSet(list(X), scanner=names, bits_stored=12)
    settings = {"harmonizers": [], "features": SMALL, "controls": False, **FEW}
    assert audit(mixed, y, **settings).conclusions[1].startswith("No difference between scanners shows")
    assert audit(mixed, **settings).conclusions[0].startswith("Scanners can be told apart")


# -- what comes out ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result() -> AuditResult:
    X, y = made((("A", 24), ("B", 16)), side=20, gap=0.3)
    told.clear()
    return audit(
        X, y, harmonizers={"mine": MinMax(), "z": ZScore()}, features=SMALL, show=[30, 2],
        progress=lambda doing, share: told.append((doing, share)), **FEW,
    )  # fmt: skip


told: list[tuple[str, float]] = []


def test_tables_hold_all_harmonizers_and_scanners(result):
    assert list(result.harmonizers) == ["none", "mine", "z"]
    assert result.harmonizers["none"] == "images as they came"
    assert result.harmonizers["mine"] == "MinMax()"
    assert result.harmonizers["z"].startswith("ZScore(), drawn with -")
    assert set(result.task["harmonizer"]) == set(result.domain["harmonizer"]) == set(result.harmonizers)
    assert result.overview.to_dict("list") == {
        "scanner": ["A", "B"],
        "n_images": [24, 16],
        "n_patients": [24, 16],
        "0": [12, 8],
        "1": [12, 8],
    }
    assert set(result.controls["control"]) == {
        "halves of one scanner",
        "permuted labels",
        "label from the scanner alone",
        "scanners pooled",
    }


def test_images_named_are_shown_in_their_order_before_and_after(result):
    assert [one.scanner for one in result.samples] == ["B", "A"]
    assert all(set(one.images) == {"none", "mine", "z"} for one in result.samples)
    assert result.samples[0].images["none"].shape == (16, 16)


def test_progress_rises_from_nothing_to_all(result):
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert told[-1] == ("done", 1.0)
    assert [doing for doing, _ in told[:3]] == ["none", "mine", "z"]
    assert "halves of one scanner: mine" in dict(told)
    assert "permuted labels: z" in dict(told)


def test_settings_and_versions_are_told(result):
    assert result.settings["resamples that train the classifier anew"] == 20
    # Two harmonizers on two scanners.
    assert result.settings["coverage of intervals of differences"] == 1 - 0.05 / 4
    assert result.versions["xray_harmonize"] == xray_harmonize.__version__


def test_the_same_seed_gives_the_same_tables():
    X, y = made((("A", 16), ("B", 16)), side=16, gap=0.3)
    settings = {"harmonizers": ["min-max"], "features": SMALL, **FEW}
    first, second = (audit(X, y, random_state=seed, **settings) for seed in (1, np.int64(1)))
    for table in ("domain", "task", "controls", "content"):
        assert getattr(first, table).equals(getattr(second, table))
    other = audit(X, y, random_state=np.random.RandomState(0), controls=False, **settings)
    assert not first.task.equals(other.task)
    assert other.settings["random_state"] > 2


def test_labels_are_optional_and_may_be_strings_in_a_series():
    X, y = made((("A", 16), ("B", 16)), side=16)
    settings = {"harmonizers": ["min-max"], "features": SMALL, "controls": False, **FEW}
    without = audit(X, **settings)
    assert without.task is None
    assert set(without.overview) == {"scanner", "n_images", "n_patients"}
    named = audit(X, pd.Series(np.where(y == 1, "ill", "well"), index=np.arange(100, 132)), **settings)
    numbered = audit(X, 1 - y, **settings)  # in the same order
    assert np.allclose(named.task["auc"], numbered.task["auc"])
    assert {"ill", "well"} <= set(named.overview)
    assert set(named.embeddings["label"]) == {"ill", "well"}


def test_one_class_at_home_leaves_no_task_and_all_else():
    X, y = made((("A", 16), ("B", 16)), side=16, shares={"A": 0.0, "B": 0.5})
    found = audit(X, y, harmonizers=["min-max"], features=SMALL, reference="A", **FEW)
    assert found.task is None
    assert any("No classifier could be asked" in one for one in found.conclusions)
    assert "classes missing on a scanner" in {one.name for one in found.cautions}
    assert "permuted labels" not in set(found.controls["control"])


def test_labels_of_a_single_class_leave_no_task_and_all_else():
    X, y = made((("A", 16), ("B", 16)), side=16)
    found = audit(X, np.zeros_like(y), harmonizers=["min-max"], features=SMALL, **FEW)
    assert found.task is None
    assert set(found.controls["control"]) == {"halves of one scanner"}


def test_the_smallest_audit_ends_in_words():
    X, y = made((("A", 4), ("B", 4)), side=16)
    found = audit(X, y, features=SMALL, **FEW)
    assert "No difference between scanners shows" in found.verdict()
    assert "could not be asked: the reference has fewer than 16 patients." in found.verdict()


def test_arrays_and_files_are_taken_with_scanners_beside_them(tmp_path):
    X, y = made((("A", 8), ("B", 8)), side=16)
    stack = np.stack([X.unit(i) for i in range(16)])
    paths = []
    for i in range(16):
        np.save(tmp_path / f"{i}.npy", X[i] << 4)
        paths.append(tmp_path / f"{i}.npy")
    settings = {"harmonizers": ["min-max"], "features": SMALL, "controls": False, "scanner": X.scanner, **FEW}
    tables = [audit(one, y, **settings).domain for one in (stack, list(stack), paths)]
    assert tables[0].equals(tables[1])
    assert tables[2]["value"].notna().any()


def test_images_of_a_catalogue_are_audited(tmp_path):
    from dicom_factory import make_dicom

    from xray_harmonize import Catalog
    from xray_harmonize.catalog.index import build_index

    X, _ = made((("A", 8), ("B", 8)), side=20, gap=0.4)
    (tmp_path / "archive").mkdir()
    for i in range(16):
        make_dicom(
            tmp_path / "archive" / f"{i}.dcm",
            X[i],
            bits_stored=12,
            Manufacturer="GE Healthcare" if X.scanner[i] == "A" else "Philips",
            ManufacturerModelName=X.scanner[i],
            PatientID=X.patient[i],
            SOPInstanceUID=f"1.2.{i}",
            StudyInstanceUID=f"1.3.{i}",
        )
    build_index(tmp_path / "archive", tmp_path / "a.sqlite")
    with Catalog(tmp_path / "a.sqlite") as catalog:
        found = audit(catalog.images(), harmonizers=["CDF, scanner"], features=SMALL, controls=False, **FEW)
    assert len(found.scanners) == 2
    assert found.domain["value"].notna().any()


def test_cautions_are_of_the_images_as_they_came():
    # Averaging an equalized image down would hide that it was.
    X, y = made((("A", 8), ("B", 8)), side=64)
    equalized = [np.argsort(np.argsort(image, axis=None)).reshape(64, 64).astype(np.uint16) for image in X]
    found = audit(
        ImageSet(equalized, scanner=X.scanner, bits_stored=12), y, harmonizers=[], features=SMALL, controls=False, **FEW
    )
    assert "already histogram-equalized" in {one.name for one in found.cautions}
    assert found.conclusions[0].startswith("Before any figure is believed: already histogram-equalized")


def test_ones_own_features_and_classifier_are_used():
    X, y = made((("A", 12), ("B", 12)), side=16)
    features = DeepFeatures(depth=10, width=4, image_size=16, weights="random", input_range="any")
    found = audit(
        X, y, harmonizers=["z-score"], features=features, controls=False,
        classifier=make_pipeline(LogisticRegression(C=0.01)), **FEW,
    )  # fmt: skip
    assert found.settings["features"].startswith("DeepFeatures(depth=10")
    assert "C=0.01" in found.settings["classifier"]


class Talkative(MinMax):
    """Warns of every scanner."""

    def fit(self, X, y=None, **more):
        for name in sorted(set(X.scanner)):
            warnings.warn(f"There is a scanner {name}.", XRayHarmonizeWarning, stacklevel=2)
        return super().fit(X, y, **more)


def test_harmonizers_may_warn_of_the_users_scanners_and_not_of_the_controls():
    X, y = made((("A", 16), ("B", 8)), side=16)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        audit(X, y, harmonizers={"talkative": Talkative()}, features=SMALL, **FEW)
    assert {str(one.message) for one in caught} == {"There is a scanner A.", "There is a scanner B."}


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["n_permutations", "n_bootstrap", "n_refits"])
@pytest.mark.parametrize("value", [19, 100.0, True, "many"])
def test_too_few_resamples_are_refused(name, value):
    X, y = made((("A", 8), ("B", 8)), side=16)
    with pytest.raises(InvalidParameterError, match=f"{name} must be a whole number, at least 20; got {value!r}"):
        audit(X, y, **{name: value})


@pytest.mark.parametrize("position", [-1, 16])
def test_an_image_to_show_that_is_not_there_is_refused(position):
    X, y = made((("A", 8), ("B", 8)), side=16)
    with pytest.raises(InvalidParameterError, match=f"show names image {position}, expected positions from 0 to 15"):
        audit(X, y, show=[position])


def test_images_without_scanners_are_refused():
    with pytest.raises(MissingScannerError, match="Nothing tells the scanners"):
        audit(np.zeros((8, 16, 16), "uint8"))


def test_what_needs_labels_is_refused_before_an_image_is_read(tmp_path):
    X = ImageSet([tmp_path / f"{i}.npy" for i in range(8)], scanner=list("AAAABBBB"))
    with pytest.raises(InvalidParameterError, match="'GDCE, scanner' learns from labels, and there are none"):
        audit(X, harmonizers=["GDCE, scanner"])
