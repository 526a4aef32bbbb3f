"""From predictions to the tables of the GDCE study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from gdce_setting import CLOSED_FORMS, FULL_RANGE

from xray_harmonize.evaluation.metrics import confusion_matrices
from xray_harmonize.evaluation.scores import WORST, paired_difference, scanner_scores

METRICS = ("auc", "worst_group_accuracy", "balanced_accuracy")


def score_table(
    predictions: pd.DataFrame, n_bootstrap: int, metrics: Sequence[str] = METRICS, by: Sequence[str] = ("harmonizer",)
) -> pd.DataFrame:
    """Score every row and scanner over all seeds, with patient-level intervals.

    Parameters
    ----------
    predictions : DataFrame
        Prediction tables with the columns `by` that tell rows apart.
    n_bootstrap : int
    metrics : sequence of str
    by : sequence of str

    Returns
    -------
    DataFrame
        `by`, scanner, n_images, n_patients, n_seeds, and each metric with ``_low`` and ``_high``.
    """
    rows = []
    for name, part in predictions.groupby([*by, "scanner"], sort=False):
        scores = scanner_scores(part, metrics=metrics, n_bootstrap=n_bootstrap, random_state=0)
        scores = scores[scores["scanner"] != WORST].set_index("metric")
        row = dict(zip([*by, "scanner"], name, strict=True))
        row |= {column: scores[column].iloc[0] for column in ("n_images", "n_patients", "n_seeds")}
        for metric in metrics:
            row[metric] = scores.loc[metric, "estimate"]
            row[f"{metric}_low"], row[f"{metric}_high"] = scores.loc[metric, ["low", "high"]]
        rows.append(row)
    return pd.DataFrame(rows)


def difference(
    predictions: pd.DataFrame, baseline: pd.DataFrame, n_bootstrap: int, metric: str = "auc"
) -> tuple[float, float, float]:
    """Give how much better predictions are than others of the same images of one scanner, with its interval."""
    row = paired_difference(predictions, baseline, metric=metric, n_bootstrap=n_bootstrap, random_state=0).iloc[0]
    return float(row["difference"]), float(row["low"]), float(row["high"])


def with_difference(
    table: pd.DataFrame, predictions: pd.DataFrame, to: dict[str, str], name: str, n_bootstrap: int
) -> pd.DataFrame:
    """Add the AUC less that of another row of the same scanner.

    Parameters
    ----------
    table : DataFrame
        With the columns harmonizer and scanner.
    predictions : DataFrame
        With the column harmonizer.
    to : dict of str to str
        By scanner, the row to compare with; scanners that are not there are left empty.
    name : str
        Of the three columns, with ``_low`` and ``_high``.
    n_bootstrap : int
    """
    found = []
    for row in table.itertuples():
        other = to.get(row.scanner)
        if other is None or other == row.harmonizer:
            found.append((np.nan, np.nan, np.nan))
            continue
        of_scanner = predictions[predictions["scanner"] == row.scanner]
        own, others = (of_scanner[of_scanner["harmonizer"] == one] for one in (row.harmonizer, other))
        found.append(difference(own, others, n_bootstrap))
    columns = pd.DataFrame(found, columns=[name, f"{name}_low", f"{name}_high"], index=table.index)
    return pd.concat([table, columns], axis=1)


def with_gap(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Add the share of the gap that is closed: (AUC - full range) / (the reference's own AUC - full range).

    The reference's own AUC is that of full range on its held-out folds; on the reference itself there is no gap.
    """
    untouched = table[table["harmonizer"] == FULL_RANGE].set_index("scanner")["auc"]
    at_home = untouched[reference]
    floor = table["scanner"].map(untouched)
    share = (table["auc"] - floor) / (at_home - floor)
    return table.assign(gap_closed=share.where(table["scanner"] != reference))


def best_closed_forms(table: pd.DataFrame) -> dict[str, str]:
    """Give, by scanner, the per-image closed form with the highest AUC: chosen on the test images, in its favour."""
    forms = table[table["harmonizer"].isin(CLOSED_FORMS)]
    best = forms.loc[forms.groupby("scanner")["auc"].idxmax()]
    return dict(zip(best["scanner"], best["harmonizer"], strict=True))


def confusion_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Give confusion matrices, each row of which adds up to 1, averaged over the seeds.

    Returns
    -------
    DataFrame
        Columns harmonizer, scanner, label, predicted, share; classes that a scanner does not hold are left out.
    """
    tables = []
    for (harmonizer, _), part in predictions.groupby(["harmonizer", "seed"], sort=False):
        counts = confusion_matrices(part)
        shares = counts.div(counts.sum(axis=1), axis=0).reset_index()
        tables.append(shares.melt(["scanner", "label"], value_name="share").assign(harmonizer=harmonizer))
    keys = ["harmonizer", "scanner", "label", "predicted"]
    return pd.concat(tables).dropna().groupby(keys, sort=False)["share"].mean().reset_index()


def with_recalls(table: pd.DataFrame, confusion: pd.DataFrame) -> pd.DataFrame:
    """Add the recall of every class, averaged over the seeds."""
    own = confusion[confusion["label"].astype(str) == confusion["predicted"].astype(str)]
    recalls = own.pivot(index=["harmonizer", "scanner"], columns="label", values="share")
    return table.join(recalls.add_prefix("recall_"), on=["harmonizer", "scanner"])


def show(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Print some columns of a table."""
    print(table[[name for name in columns if name in table]].round(3).to_string(index=False))
