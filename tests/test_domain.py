"""All measures of the gap between scanners: in the right order, silent where there is no gap, in one table."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from xray_harmonize import ImageSet, ToneCurve, make_cohort
from xray_harmonize.evaluation.domain import MEASURES, domain_measures, explained_variance, silhouettes
from xray_harmonize.exceptions import (
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
    UnknownScannerError,
    XRayHarmonizeWarning,
)

LEVELS = np.linspace(0, 1, 257)


def cheap_features(images):
    """Deciles, mean and spread of the grey levels."""
    return np.array([[*np.quantile(image, np.linspace(0.1, 0.9, 9)), image.mean(), image.std()] for image in images])


def power(exponent):
    return ToneCurve(LEVELS, LEVELS**exponent)


@pytest.fixture(scope="module")
def tables():
    """The measures of two simulated scanners that differ by a known curve, and of what two harmonizers leave of it."""
    cohort = make_cohort("pneumonia", scanners=["chest-reference"], n_patients=100, size=32, random_state=0)
    true = [cohort.images.unit(i) for i in range(100)]
    # The classes come in turn, so that every pair of patients holds both.
    scanner = np.array(["reference", "other"])[np.arange(100) // 2 % 2]
    curve = power(1.6)
    tables = {}
    for name, undo in [("none", ToneCurve.identity()), ("weak", power(1 / 1.3)), ("inverse", curve.inverse())]:
        pixels = [u if s == "reference" else undo(curve(u)) for u, s in zip(true, scanner, strict=True)]
        table = domain_measures(
            cheap_features(pixels),
            scanner,
            label=cohort.labels,
            reference="reference",
            images=ImageSet(pixels, scanner=scanner),
            n_permutations=99,
            n_bootstrap=50,
            random_state=0,
        )
        tables[name] = table.set_index(["measure", "scanner"])
    return tables


def test_the_probe_sees_a_curve_and_not_its_true_inverse(tables):
    before, after = (tables[name].loc[("probe", "all")] for name in ("none", "inverse"))
    assert before["value"] >= 0.95
    assert before["p_value"] == 0.01
    assert after["p_value"] > 0.05
    assert after["low"] < 0.5


@pytest.mark.parametrize("measure", ["probe", "mmd2", "kid", "wasserstein", "silhouette_scanner", "variance_scanner"])
def test_every_measure_of_the_scanner_orders_nothing_a_weak_harmonizer_and_the_true_inverse(tables, measure):
    none, weak, inverse = (tables[name].loc[(measure, "all")] for name in ("none", "weak", "inverse"))
    assert none["value"] > weak["value"] > inverse["value"]
    assert none["p_value"] == 0.01
    assert inverse["p_value"] > 0.05
    assert none["better"] == "lower"


@pytest.mark.parametrize("measure", ["silhouette_label", "variance_label"])
def test_labels_come_out_as_the_scanner_goes(tables, measure):
    values = [tables[name].loc[(measure, "all"), "value"] for name in ("none", "weak", "inverse")]
    assert values == sorted(values)
    assert (tables["none"].loc[measure, "better"] == "higher").all()


def test_intervals_hold_their_figures(tables):
    table = tables["none"]
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()


def test_two_scanners_have_one_distance(tables):
    table = tables["weak"].reset_index().drop(columns="scanner")
    distances = table[table["measure"].isin(["mmd2", "kid", "wasserstein"])]
    assert len(distances) == 6
    assert len(distances.drop_duplicates()) == 3


def noise(seed, n=40, d=5, scanners="ab"):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.permutation(np.resize(list(scanners), n)), rng.permutation(np.arange(n) % 2)


def test_no_measure_raises_more_alarms_than_stated_where_scanners_do_not_differ():
    alarms = {}
    for seed in range(40):
        features, scanner, label = noise(seed)
        table = domain_measures(features, scanner, label=label, n_permutations=59, n_bootstrap=0, random_state=seed)
        for row in table[table["scanner"] == "all"].itertuples():
            alarms[row.measure] = alarms.get(row.measure, 0) + (row.p_value <= 0.05)
    assert set(alarms) == set(MEASURES) - {"probe_recall", "fid", "wasserstein"}
    assert max(alarms.values()) <= binom.ppf(0.999, 40, 0.05)


def test_only_the_scanner_that_differs_is_found():
    features, scanner, _ = noise(0, n=90, scanners="abc")
    features[scanner == "c"] += 1
    table = domain_measures(features, scanner, reference="a", measures=["mmd", "kid"], random_state=0)
    p = table.set_index(["measure", "scanner"])["p_value"]
    for measure in ("mmd2", "kid"):
        assert p[measure, "c"] < 0.01
        assert p[measure, "b"] > 0.05
        assert ("mmd2", "a") not in p.index


def test_without_a_reference_every_scanner_has_a_row():
    features, scanner, _ = noise(0, scanners="abc")
    table = domain_measures(features, scanner, measures=["mmd"], n_permutations=0, n_bootstrap=0)
    assert table["scanner"].tolist() == ["all", "a", "b", "c"]
    assert table[["low", "high", "p_value", "null"]].isna().all(axis=None)


def test_images_of_a_patient_do_not_count_as_several():
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(12), 8)
    features = rng.normal(size=(12, 3))[patient] + 0.05 * rng.normal(size=(96, 3))
    scanner = np.array(["a", "b"])[np.arange(12) % 2][patient]
    table = domain_measures(features, scanner, patient, n_bootstrap=0, random_state=0).set_index(["measure", "scanner"])
    blind = domain_measures(features, scanner, n_bootstrap=0, random_state=0).set_index(["measure", "scanner"])
    assert (table.loc[(slice(None), "all"), "p_value"] > 0.05).all()
    assert (blind.loc[(slice(None), "all"), "p_value"] < 0.05).all()


def test_the_same_random_state_gives_the_same_table():
    features, scanner, label = noise(0)
    one, other = (
        domain_measures(features, scanner, label=label, n_permutations=9, n_bootstrap=9, random_state=1)
        for _ in range(2)
    )
    assert one.equals(other)


def test_neither_unit_nor_order_of_features_matters():
    features, scanner, label = noise(0)
    options = {"label": label, "n_permutations": 19, "n_bootstrap": 9, "random_state": 1}
    one = domain_measures(features, scanner, **options)
    other = domain_measures(features[:, ::-1] * [1, 10, 1e-3, 5, 7] - 2, scanner, **options)
    assert np.allclose(one["value"], other["value"])
    assert np.allclose(one["p_value"], other["p_value"])


def test_a_fréchet_distance_is_there_when_asked_for_and_warns():
    features, scanner, _ = noise(0, scanners="abc")
    with pytest.warns(XRayHarmonizeWarning, match="A Fréchet distance of 5 features from 1. images"):
        table = domain_measures(features, scanner, reference="a", measures=["fid"])
    assert table["scanner"].tolist() == ["all", "b", "c"]
    assert (table["value"] > 0).all()


def test_large_cohorts_are_thinned_for_pairs_alone():
    features, scanner, _ = noise(0, n=60)
    features[scanner == "b"] += 2
    whole, thinned = (
        domain_measures(features, scanner, n_permutations=0, n_bootstrap=0, max_images=size, random_state=0)
        for size in (60, 30)
    )
    same = np.isclose(whole["value"], thinned["value"])
    assert same.tolist() == whole["measure"].str.startswith("probe").tolist()


def test_a_scanner_of_one_patient_is_left_out_with_a_warning():
    features, scanner, _ = noise(0)
    scanner = scanner.astype(object)
    scanner[5] = "lonely"
    images = ImageSet(np.random.default_rng(0).uniform(size=(40, 4, 4)))
    with pytest.warns(XRayHarmonizeWarning, match="Scanner 'lonely' has a single patient"):
        table = domain_measures(features, scanner, images=images, n_permutations=9, n_bootstrap=0)
    assert set(table["scanner"]) == {"all", "a", "b"}
    assert "wasserstein" in set(table["measure"])


def test_labels_may_be_missing_or_all_the_same():
    features, scanner, _ = noise(0)
    label = np.array(["x", "y", None, "z"] + ["x", "y"] * 18, dtype=object)
    options = {"measures": ["variance"], "n_permutations": 0, "n_bootstrap": 0}
    table = domain_measures(features, scanner, label=label, **options)
    assert table["measure"].tolist() == ["variance_scanner", "variance_label"]
    table = domain_measures(features, scanner, label=["x"] * 40, **options)
    assert table["measure"].tolist() == ["variance_scanner"]


def test_constant_features_are_no_gap():
    _, scanner, _ = noise(0)
    table = domain_measures(np.ones((40, 2)), scanner, n_permutations=9, n_bootstrap=9, random_state=0)
    of_all = table[table["scanner"] == "all"].set_index("measure")
    assert (of_all["p_value"] == 1).all()
    assert of_all["value"].drop("probe").tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("measures", [["probe", "auc"], "mmd"])
def test_measures_that_are_not_known_are_refused(measures):
    features, scanner, _ = noise(0)
    with pytest.raises(InvalidParameterError, match="measures must be a list of names among fid, kid, mmd, probe"):
        domain_measures(features, scanner, measures=measures)


def test_what_cannot_be_measured_is_named():
    features, scanner, _ = noise(0)
    with pytest.raises(InvalidParameterError, match="40 rows of features but 3 images"):
        domain_measures(features, scanner, images=ImageSet(np.zeros((3, 4, 4))))
    with pytest.raises(InvalidParameterError, match="max_images must be at least 4; got 3"):
        domain_measures(features, scanner, max_images=3)
    with pytest.raises(UnknownScannerError, match="reference='c' is none of the scanners"):
        domain_measures(features, scanner, reference="c")
    with pytest.raises(MissingScannerError, match="scanner is None"):
        domain_measures(features, None)
    with pytest.raises(NotEnoughImagesError, match="needs at least two; scanner holds only 'a'"):
        domain_measures(features, ["a"] * 40)


def test_silhouettes_are_high_for_what_separates():
    features, scanner, label = noise(0)
    features[scanner == "b", 0] += 8
    result = silhouettes(features, scanner, label)
    assert result["scanner"] > 0.15 > 0.05 > result["label"]
    assert np.isnan(silhouettes(features, scanner)["label"])


def test_explained_variance_is_corrected_for_the_number_of_groups():
    features, _, _ = noise(0, n=60)
    many = np.resize([f"scanner {k}" for k in range(20)], 60)
    table = explained_variance(features, many, label=np.arange(60) % 2)
    assert table.loc["scanner", "eta_squared"] > 0.2
    assert abs(table.loc["scanner", "corrected"]) < 0.1
    assert table.loc["label"].abs().max() < 0.1


def test_eta_squared_is_the_mean_over_standardized_features():
    features, scanner, _ = noise(1)
    features[scanner == "b"] += [0, 1, 2, 3, 4]
    of_each = []
    for x in features.T:
        means = np.array([x[scanner == name].mean() for name in "ab"])
        of_each.append(20 * np.sum((means - x.mean()) ** 2) / np.sum((x - x.mean()) ** 2))
    assert explained_variance(features, scanner).loc["scanner", "eta_squared"] == pytest.approx(np.mean(of_each))


def test_nothing_is_explained_where_nothing_varies():
    assert (explained_variance(np.ones((4, 2)), list("aabb")).loc["scanner"] == 0).all()
