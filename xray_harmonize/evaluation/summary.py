"""From predictions to tables that people read, and the choice of a candidate without the scanner it is tested on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from xray_harmonize.evaluation.candidates import BASELINE, SEES
from xray_harmonize.evaluation.scores import WORST, paired_difference, scanner_scores
from xray_harmonize.exceptions import InvalidParameterError

METRICS = ("auc", "balanced_accuracy", "worst_group_accuracy", "precision", "recall")
GROUP = ["protocol", "harmonizer", "sees"]

# What the row is called that shows how well choosing a harmonizer on other scanners works.
CHOSEN = "chosen on the other scanners"


def seed_results(predictions: pd.DataFrame) -> pd.DataFrame:
    """Score every protocol, harmonizer, scanner and seed on its own, without intervals.

    Parameters
    ----------
    predictions : DataFrame
        As :meth:`xray_harmonize.evaluation.study.Study.run` gives.

    Returns
    -------
    DataFrame
        ``protocol``, ``harmonizer``, ``sees``, ``seed``, ``scanner``, ``n_images``, ``n_patients`` and one column a
        metric.
    """
    tables = []
    for (protocol, harmonizer, sees, seed), part in predictions.groupby([*GROUP, "seed"], sort=False):
        scores = _of_scanners(scanner_scores(part, metrics=METRICS, n_bootstrap=0))
        wide = scores.pivot(index=["scanner", "n_images", "n_patients"], columns="metric", values="estimate")
        table = wide[list(METRICS)].reset_index().rename_axis(columns=None)
        for place, (column, value) in enumerate(
            [("protocol", protocol), ("harmonizer", harmonizer), ("sees", sees), ("seed", seed)]
        ):
            table.insert(place, column, value)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def summarize(
    predictions: pd.DataFrame, reference: str, *, n_bootstrap: int = 1000, random_state: int = 0
) -> pd.DataFrame:
    """Score every protocol, harmonizer and scanner over all seeds, with patient-level intervals.

    Parameters
    ----------
    predictions : DataFrame
        As :meth:`xray_harmonize.evaluation.study.Study.run` gives.
    reference : str
        Scanner that is left out of the row ``"worst"``.
    n_bootstrap : int, default=1000
        Resamples of the patients.
    random_state : int, default=0
        Seed of the resamples.

    Returns
    -------
    DataFrame
        ``protocol``, ``harmonizer``, ``sees``, ``scanner`` (``"worst"`` for the lowest figure over the other scanners),
        ``n_images``, ``n_patients``, ``n_seeds``, each metric with ``_low`` and ``_high``, and the AUC less that of
        doing nothing as ``difference``, ``difference_low``, ``difference_high``.

    Raises
    ------
    InvalidParameterError
        If a protocol was run without the candidate ``"none"`` to compare with.
    """
    tables = []
    for protocol, of_protocol in predictions.groupby("protocol", sort=False):
        baseline = of_protocol[of_protocol["harmonizer"] == BASELINE]
        if baseline.empty:
            raise InvalidParameterError(
                f"Protocol {protocol!r} has no predictions of {BASELINE!r}, which every method is compared with; "
                f"add Candidate({BASELINE!r})."
            )
        for (harmonizer, sees), part in of_protocol.groupby(["harmonizer", "sees"], sort=False):
            table = _summarize_one(part, baseline, reference, n_bootstrap, random_state)
            for place, (column, value) in enumerate(
                [("protocol", protocol), ("harmonizer", harmonizer), ("sees", sees)]
            ):
                table.insert(place, column, value)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _summarize_one(
    part: pd.DataFrame, baseline: pd.DataFrame, reference: str, n_bootstrap: int, random_state: int
) -> pd.DataFrame:
    blocks = [predictions for predictions in _blocks(part, reference) if len(predictions)]
    tables = []
    for block in blocks:
        scores = scanner_scores(block, metrics=METRICS, n_bootstrap=n_bootstrap, random_state=random_state)
        same = baseline[baseline["scanner"].isin(block["scanner"])]
        scores = _of_scanners(scores) if set(block["scanner"]) == {reference} else scores
        table = scores[["scanner", "n_images", "n_patients", "n_seeds"]].drop_duplicates().reset_index(drop=True)
        for metric in METRICS:
            of_metric = scores[scores["metric"] == metric].set_index("scanner")
            for column, name in [("estimate", metric), ("low", f"{metric}_low"), ("high", f"{metric}_high")]:
                table[name] = table["scanner"].map(of_metric[column])
        difference = paired_difference(block, same, n_bootstrap=n_bootstrap, random_state=random_state)
        difference = difference.set_index("scanner")
        for column, name in [("difference", "difference"), ("low", "difference_low"), ("high", "difference_high")]:
            table[name] = table["scanner"].map(difference[column])
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _blocks(part: pd.DataFrame, reference: str) -> list[pd.DataFrame]:
    """Give the reference by itself, then the scanners that the worst is taken of."""
    is_reference = part["scanner"] == reference
    return [part[is_reference], part[~is_reference]]


def _of_scanners(scores: pd.DataFrame) -> pd.DataFrame:
    return scores[scores["scanner"] != WORST]


def choose(predictions: pd.DataFrame, scanners: list[str]) -> str:
    """Give the harmonizer with the highest mean AUC over some scanners; ties go to the earlier one.

    Parameters
    ----------
    predictions : DataFrame
        Of one protocol.
    scanners : list of str
        Scanners whose labels may decide.

    Returns
    -------
    str
    """
    seen = predictions[predictions["scanner"].isin(scanners)]
    means = {
        name: _of_scanners(scanner_scores(part, metrics=["auc"], n_bootstrap=0))["estimate"].mean()
        for name, part in seen.groupby("harmonizer", sort=False)
    }
    # Scanners of a single class have no AUC and decide nothing.
    return max(means, key=lambda name: -np.inf if np.isnan(means[name]) else means[name])


def chosen_elsewhere(predictions: pd.DataFrame, reference: str) -> tuple[pd.DataFrame, dict[str, dict[str, str]]]:
    """Predictions of whichever harmonizer is best on the *other* test scanners: an honest figure for choosing one.

    Picking the best row of a table and quoting it is optimistic, since the same images picked it. Here every scanner's
    figure comes from a harmonizer that its labels had no part in choosing. Who cannot show a method labelled images of
    his scanner cannot choose one that needs them, so there is a choice for each class of what methods see.

    Parameters
    ----------
    predictions : DataFrame
        Of one protocol.
    reference : str

    Returns
    -------
    predictions : DataFrame
        Under the harmonizer name ``"chosen on the other scanners"``, with ``sees`` saying how much the methods to
        choose from might see at most; empty with fewer than two test scanners.
    chosen : dict of str to dict
        By what methods might see at most: for each scanner, the harmonizer that was chosen. A class that adds no method
        to those that see less is left out, and so is one with doing nothing alone.
    """
    scanners = [name for name in predictions["scanner"].unique() if name != reference]
    picks, chosen = [predictions.iloc[:0]], {}
    for place, sees in enumerate(SEES):
        allowed = predictions[predictions["sees"].isin(SEES[: place + 1])]
        if len(scanners) < 2 or sees not in set(allowed["sees"]) or allowed["harmonizer"].nunique() < 2:
            continue
        chosen[sees] = {name: choose(allowed, [other for other in scanners if other != name]) for name in scanners}
        for name, harmonizer in chosen[sees].items():
            pick = allowed[(allowed["scanner"] == name) & (allowed["harmonizer"] == harmonizer)]
            picks.append(pick.assign(harmonizer=CHOSEN, sees=sees))
    return pd.concat(picks, ignore_index=True), chosen
