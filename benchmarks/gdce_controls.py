"""Controls that the published study lacks: a scanner never seen, one scanner cut in two, labels that mean nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from gdce_cohorts import BETWEEN, CLEARVIEW, SENOGRAPH, SOURCES, two_halves
from gdce_protocol import FixedTest, curves_of
from gdce_setting import FULL_RANGE, NEGATIVE, Setting
from gdce_tables import difference, score_table, show

from xray_harmonize.evaluation.keys import digest


def controls_part(setting: Setting) -> None:
    """Run all controls."""
    for name, control in (("third", third_scanner), ("negative", negative), ("permuted", permuted)):
        table = control(setting)
        setting.write(f"controls_{name}", table)
        print()
        show(table, list(table.columns))


def third_scanner(setting: Setting) -> pd.DataFrame:
    """Apply an image-scope GDCE to a scanner that it never saw."""
    images = setting.density(third=True)
    test = setting.fixed_test(images)
    none, gdce = setting.rows((FULL_RANGE, "GDCE, image"))
    cells = [
        (SENOGRAPH, [(SENOGRAPH,), (CLEARVIEW,)]),
        (CLEARVIEW, [(CLEARVIEW,), (SENOGRAPH,)]),
        (BETWEEN.name, [(BETWEEN.name,), (SENOGRAPH,), (CLEARVIEW,), (SENOGRAPH, CLEARVIEW)]),
    ]
    rows = []
    for scanner, learned_from in cells:
        untouched = test.predictions(none, (), scanner, setting.seeds)
        for sources in [(), *learned_from]:
            one = test.predictions(gdce, sources, scanner, setting.seeds) if sources else untouched
            row = _scores(one, setting)
            rows.append(
                {
                    "scanner": scanner,
                    "learned_from": " + ".join(sources) or "nothing (full range)",
                    "never_seen": bool(sources) and scanner not in sources,
                    **row,
                    **_difference(one, untouched, setting),
                }
            )
    return pd.DataFrame(rows)


def negative(setting: Setting) -> pd.DataFrame:
    """Call two halves of the reference's patients two scanners: there is nothing to harmonize."""
    images = two_halves(setting.density())
    test = setting.fixed_test(images)
    (scanner,) = images.sources
    (none,) = setting.rows((FULL_RANGE,))
    untouched = test.predictions(none, (), scanner, setting.seeds)
    rows: list[dict[str, Any]] = [{"harmonizer": FULL_RANGE, **_scores(untouched, setting)}]
    for candidate in setting.rows(NEGATIVE):
        one = test.predictions(candidate, (scanner,), scanner, setting.seeds)
        moved = [
            identity_distance(test, test.learned(candidate, (scanner,), seed)[0], scanner, seed)
            for seed in setting.seeds
        ]
        rows.append(
            {
                "harmonizer": candidate.name,
                **_scores(one, setting),
                **_difference(one, untouched, setting),
                "curve_less_identity": float(np.mean(moved)),
                "curve_less_identity_worst_seed": float(np.max(moved)),
            }
        )
    return pd.DataFrame(rows)


def identity_distance(test: FixedTest, harmonizer: Any, scanner: str, seed: int) -> float:
    """Mean distance between curves and the identity over the test images' pixels that are not air."""
    X = test.images.X[test.tested(scanner, seed)]
    moved = []
    for i, curve in enumerate(curves_of(harmonizer, X)):
        seen = X.unit(i)
        seen = seen[seen > 0.02]
        moved.append(np.abs(curve(seen) - seen).mean())
    return float(np.mean(moved))


def permuted(setting: Setting) -> pd.DataFrame:
    """Learn from shuffled labels of the sources: how well can curves write a label into its image.

    On the images that were learned from, against the labels that were learned: a curve that depends on the image may
    lift this above full range's, one for a whole scanner cannot sort images. On test images, against the truth.
    """
    images = setting.density(third=True)
    test = setting.fixed_test(images)
    rows = []
    for scanner in SOURCES:
        learned = test.learned_from(scanner)
        for seed in setting.seeds:
            shuffled = images.y.copy()
            shuffled[learned] = np.random.default_rng([seed, len(learned)]).permutation(images.y[learned])
            for labels, kind in ((images.y, "true"), (shuffled, "permuted")):
                for name in (FULL_RANGE, "GDCE, image", "GDCE, scanner"):
                    found = _learned_and_tested(setting, test, name, scanner, seed, labels, kind)
                    rows += [one.assign(labels=kind, harmonizer=name) for one in found]
        print(f"permuted labels on {scanner}: done", flush=True)
    by = ("scored_on", "labels", "harmonizer")
    scores = score_table(pd.concat(rows, ignore_index=True), setting.n_bootstrap, ("auc",), by)
    return scores[["scanner", *by, "n_images", "n_seeds", "auc", "auc_low", "auc_high"]]


def _learned_and_tested(
    setting: Setting, test: FixedTest, name: str, scanner: str, seed: int, labels: np.ndarray, kind: str
) -> list[pd.DataFrame]:
    """Give predictions on images learned from, against the labels learned, and on test images against the truth."""
    (candidate,) = setting.rows((name,))
    learned, tested = test.learned_from(scanner), test.tested(scanner, seed)
    found = []
    for place, positions, truth in (("learned", learned, labels), ("test", tested, test.images.y)):
        key = f"permuted-{digest(setting.classifier, candidate.steps, scanner, seed, kind, place, test.images.y)[:20]}"
        if key not in test.store:
            sources = () if name == FULL_RANGE else (scanner,)
            harmonizer, model = test.learned(candidate, sources, seed, labels)
            test.store.put_table(key, test.scored(harmonizer, model, positions, truth, seed))
        table = test.store.table(key)
        # Every seed shuffles anew, so that one image has several labels: it counts as several.
        found.append(table.assign(scored_on=place, image=[f"{seed} {image}" for image in table["image"]]))
    return found


def _scores(predictions: pd.DataFrame, setting: Setting) -> dict[str, float]:
    table = score_table(predictions.assign(harmonizer=""), setting.n_bootstrap, ("auc", "worst_group_accuracy"))
    return table.iloc[0].drop(["harmonizer", "scanner", "n_patients"]).to_dict()


def _difference(predictions: pd.DataFrame, untouched: pd.DataFrame, setting: Setting) -> dict[str, float]:
    found = difference(predictions, untouched, setting.n_bootstrap)
    return dict(zip(("less_full_range", "less_full_range_low", "less_full_range_high"), found, strict=True))
