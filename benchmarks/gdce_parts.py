"""The parts of the published study: the comparison, absent classes, chest radiographs, network size, loss weights."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from gdce_cohorts import CLEARVIEW, SOURCES, Images
from gdce_protocol import FixedTest, curves_of
from gdce_setting import ABSENT, CHEST, FULL_RANGE, MAIN, Setting
from gdce_tables import (
    best_closed_forms,
    confusion_table,
    difference,
    score_table,
    show,
    with_difference,
    with_gap,
    with_recalls,
)

from xray_harmonize.evaluation.study import Study, StudyProgress
from xray_harmonize.tone import ToneCurve


def main_part(setting: Setting) -> None:
    """Compare everything under the fixed-classifier protocol, cross-fitted."""
    images = setting.density()
    predictions = _study(setting, images, MAIN, "main")
    table = with_gap(score_table(predictions, setting.n_bootstrap), images.reference)
    sees = dict(zip(predictions["harmonizer"], predictions["sees"], strict=True))
    table.insert(1, "sees", table["harmonizer"].map(sees))
    best = best_closed_forms(table)
    table["best_closed_form"] = table["scanner"].map(best)
    table = with_difference(table, predictions, best, "less_best_closed_form", setting.n_bootstrap)
    per_scanner = dict.fromkeys(table["scanner"], "CDF, scanner")
    table = with_difference(table, predictions, per_scanner, "less_cdf_scanner", setting.n_bootstrap)
    setting.write("main", table)
    setting.write("main_confusion", confusion_table(predictions))
    for scanner, part in table.groupby("scanner", sort=False):
        print(f"\n{scanner}; best per-image closed form: {best[scanner]}")
        show(part, ["harmonizer", "sees", "auc", "auc_low", "auc_high", "gap_closed", "worst_group_accuracy"])
        show(part[part["harmonizer"].str.startswith("GDCE")], ["harmonizer", *part.filter(like="less_best").columns])


def absent_part(setting: Setting) -> None:
    """Learn from sources whose images lack classes, and test on all of them (Table 1 of the paper)."""
    images = setting.density()
    test = setting.fixed_test(images, lacking=True)
    rows = setting.rows(ABSENT)
    tables = []
    for scanner in images.sources:
        for candidate in rows:
            sources = () if candidate.name == FULL_RANGE else (scanner,)
            one = test.predictions(candidate, sources, scanner, setting.seeds)
            tables.append(one.assign(harmonizer=candidate.name))
    at_home = test.predictions(rows[0], (), images.reference, setting.seeds).assign(harmonizer=FULL_RANGE)
    predictions = pd.concat([*tables, at_home], ignore_index=True)
    table = with_gap(score_table(predictions, setting.n_bootstrap), images.reference)
    table = with_recalls(table, confusion_table(predictions))
    to_cdf = dict.fromkeys(images.sources, "CDF, scanner")
    table = with_difference(table, predictions, to_cdf, "less_cdf_scanner", setting.n_bootstrap)
    setting.write("absent", table)
    recalls = [name for name in table if name.startswith("recall_")]
    for scanner, part in table.groupby("scanner", sort=False):
        winner = part.loc[part["auc"].idxmax(), "harmonizer"]
        print(f"\n{scanner}; highest AUC: {winner}")
        show(part, ["harmonizer", "auc", "auc_low", "auc_high", "gap_closed", "worst_group_accuracy", *recalls])


def chest_part(setting: Setting) -> None:
    """Give precision and recall on chest radiographs (Table 2 of the paper)."""
    images = setting.chest()
    predictions = _study(setting, images, CHEST, "chest")
    metrics = ("precision", "recall", "auc", "balanced_accuracy")
    table = with_gap(score_table(predictions, setting.n_bootstrap, metrics), images.reference)
    to_nothing = dict.fromkeys(table["scanner"], FULL_RANGE)
    table = with_difference(table, predictions, to_nothing, "less_full_range", setting.n_bootstrap)
    setting.write("chest", table)
    show(table, ["scanner", "harmonizer", "precision", "recall", "auc", "auc_low", "auc_high", "gap_closed"])


def ablation_part(setting: Setting) -> None:
    """Vary layers and iterations where classes are absent from the training (Figure 7 of the paper)."""
    images = setting.density()
    test = setting.fixed_test(images.of(images.reference, CLEARVIEW), lacking=True)
    rows = []
    for n_layers in setting.layers:
        for n_iterations in setting.iterations:
            candidate = setting.variant("GDCE, image", n_layers=n_layers, n_iterations=n_iterations)
            predictions = test.predictions(candidate, (CLEARVIEW,), CLEARVIEW, setting.few_seeds)
            chosen = []
            for seed in setting.few_seeds:
                gdce = test.learned(candidate, (CLEARVIEW,), seed)[0].steps[-1][1]
                chosen.append(gdce.history_[gdce.best_epoch_ - 1]["worst_group_accuracy"])
            scores = score_table(predictions.assign(harmonizer=candidate.name), n_bootstrap=0).iloc[0]
            rows.append(
                {
                    "n_layers": n_layers,
                    "n_iterations": n_iterations,
                    "validation": float(np.mean(chosen)),
                    "test": scores["worst_group_accuracy"],
                    "test_auc": scores["auc"],
                }
            )
    table = pd.DataFrame(rows)
    setting.write("ablation", table)
    for column in ("validation", "test", "test_auc"):
        print(f"\n{column}: layers down, iterations across")
        print(table.pivot(index="n_layers", columns="n_iterations", values=column).round(3).to_string())


def weighting_part(setting: Setting) -> None:
    """Vary how the losses are added and where training starts; by how much curves miss the true ones."""
    images = setting.density(third=True)
    test = setting.fixed_test(images)
    rows, tables = [], {}
    for candidate, facts in _variants(setting):
        for scanner in SOURCES:
            one = test.predictions(candidate, (scanner,), scanner, setting.few_seeds)
            tables[candidate.name, scanner] = one
            fitted = [test.learned(candidate, (scanner,), seed)[0] for seed in setting.few_seeds]
            missed = [
                curve_error(images, test, harmonizer, scanner, seed)
                for harmonizer, seed in zip(fitted, setting.few_seeds, strict=True)
            ]
            scores = score_table(one.assign(harmonizer=candidate.name), setting.n_bootstrap).iloc[0]
            default = tables[f"{facts['scope']}, smooth, matched", scanner]
            less = difference(one, default, setting.n_bootstrap)
            rows.append({**facts, **scores, "curve_error": np.mean(missed), **_named("less_default", less)})
    table = pd.DataFrame(rows)
    setting.write("weighting", table)
    show(
        table.sort_values(["scanner", "scope"], kind="stable"),
        ["scanner", "scope", "variant", "start", "auc", "auc_low", "auc_high", "worst_group_accuracy", "curve_error"],
    )


def _variants(setting: Setting) -> Iterable[tuple]:
    """Give candidates with what the table says of them, the default of each scope first."""
    for scope in ("image", "scanner"):
        for weighting in setting.weightings:
            for start in ("matched", "random"):
                name = f"{scope}, {weighting}, {start}"
                candidate = setting.variant(name, scope=scope, weighting=weighting, start=start)
                yield candidate, {"scope": scope, "variant": weighting, "start": start}
        candidate = setting.variant(f"{scope}, no perceptual loss", scope=scope, perceptual=None)
        yield candidate, {"scope": scope, "variant": "no perceptual loss", "start": "matched"}
    # The published training has no curve for a whole scanner.
    yield setting.released_variant("as released"), {"scope": "image", "variant": "as released", "start": "random"}


def true_curve(images: Images, scanner: str) -> ToneCurve:
    """Give the curve nearest to the truth: the mean of the reference's values over all pixels of one grey value.

    Scanners differ in exposure and scatter too, so no curve gives the truth itself.
    """
    cohort = images.cohort
    own = np.flatnonzero(cohort.images.scanner == scanner)
    seen = np.concatenate([cohort.images.unit(i)[cohort.body[i]] for i in own])
    true = np.concatenate([cohort.truth.unit(i)[cohort.body[i]] for i in own])
    edges = np.linspace(0, 1, 257)
    place = np.digitize(seen, edges[1:-1])
    counts = np.bincount(place, minlength=256)
    held = np.flatnonzero(counts >= 20)
    means = np.bincount(place, weights=true, minlength=256)[held] / counts[held]
    middle = np.bincount(place, weights=seen, minlength=256)[held] / counts[held]
    # No curve of the body's values can say anything of what is brighter still.
    return ToneCurve(
        np.concatenate([[0], middle, [1]]),
        np.maximum.accumulate(np.concatenate([[min(0, means[0])], means, [means.max()]])),
    )


def curve_error(images: Images, test: FixedTest, harmonizer: object, scanner: str, seed: int) -> float:
    """Mean distance over the bodies' pixels between the curves learned and the curve nearest to the truth."""
    cohort, positions = images.cohort, test.tested(scanner, seed)
    true = true_curve(images, scanner)
    errors = []
    for position, curve in zip(positions, curves_of(harmonizer, images.X[positions]), strict=True):
        seen = cohort.images.unit(position)[cohort.body[position]]
        errors.append(np.abs(curve(seen) - true(seen)).mean())
    return float(np.mean(errors))


def _study(setting: Setting, images: Images, names: tuple[str, ...], name: str) -> pd.DataFrame:
    study = Study(
        images.X,
        images.y,
        setting.rows(names),
        setting.classifier,
        images.reference,
        seeds=list(setting.seeds),
        n_folds=setting.n_folds,
        folder=setting.cache / name,
    )
    return study.run(_announce)


def _announce(progress: StudyProgress) -> None:
    if not progress.epoch:
        left = progress.remaining_seconds
        print(
            f"{progress.fraction:6.1%}  {'' if left is None else f'{left / 60:5.1f} min left'}  {progress.doing}",
            flush=True,
        )


def _named(name: str, values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
