"""Tables of the BlindHarmony study: means over test patients with intervals, and differences from doing nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
from blind_cohorts import AGAIN, SOURCES
from blind_measures import CEILING
from blind_methods import BLIND, MATCHED, SEEN, SOURCE

from xray_harmonize.evaluation.bootstrap import bootstrap_patients, interval

COMPARED = ("psnr", "ssim", "iou")
TOLD = ("psnr_whole", "ssim_whole", "psnr_to_source", "correlation_to_source", "seconds", "seconds_fit")
# What the paper gains on average, and what may be lost on the reference itself, in decibel.
GAIN_DB, LOSS_DB = 0.7, 0.1


def study_table(measured: pd.DataFrame, n_bootstrap: int) -> pd.DataFrame:
    """Give a row a task, scanner and method.

    Parameters
    ----------
    measured : DataFrame
        As :func:`blind_measures.measured` gives.
    n_bootstrap : int

    Returns
    -------
    DataFrame
        For each of ``psnr``, ``ssim`` and ``iou`` the mean, its 95 % interval over resampled patients (``_low``,
        ``_high``), and the mean paired difference from the source with its own; means alone of all else.
    """
    rows = []
    for (task, scanner), of_scanner in measured.groupby(["task", "scanner"], sort=False):
        source = _by_patient(of_scanner[of_scanner["method"] == SOURCE])
        for method, own in of_scanner.groupby("method", sort=False):
            known = {"task": task, "scanner": scanner, "method": method, "sees": SEEN.get(own["sees"].iloc[0], "")}
            rows.append({**known, **_figures(_by_patient(own), source, n_bootstrap)})
    return pd.DataFrame(rows)


def mean_table(measured: pd.DataFrame, n_bootstrap: int) -> pd.DataFrame:
    """Give a row a task and method: means over the four sources, of methods that were measured on all of them."""
    rows = []
    for task, of_task in measured[~measured["scanner"].isin([AGAIN])].groupby("task", sort=False):
        ceiling = of_task[of_task["method"] == CEILING]
        sources = of_task[of_task["method"] != CEILING]
        n_sources = len(SOURCES[task])
        whole = [own for _, own in sources.groupby("method", sort=False) if own["scanner"].nunique() == n_sources]
        source = _by_patient(sources[sources["method"] == SOURCE])
        for own in (ceiling, *whole):
            known = {"task": task, "method": own["method"].iloc[0], "sees": SEEN.get(own["sees"].iloc[0], "")}
            rows.append({**known, "sources": n_sources, **_figures(_by_patient(own), source, n_bootstrap)})
    return pd.DataFrame(rows)


def _by_patient(measured: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds and, where there are several, over scanners: one row a patient."""
    numbers = [*COMPARED, *TOLD]
    return measured.reindex(columns=["patient", *numbers]).groupby("patient").mean()


def _figures(own: pd.DataFrame, source: pd.DataFrame, n_bootstrap: int) -> dict[str, float]:
    figures: dict[str, float] = {"n_patients": len(own)}
    for measure in COMPARED:
        before, after = (one[measure] for one in (source.reindex(own.index), own))
        for name, values in ((measure, after), (f"{measure}_difference", after - before)):
            figures |= dict(zip((name, f"{name}_low", f"{name}_high"), _mean(values, n_bootstrap), strict=True))
    return figures | {measure: float(own[measure].mean()) for measure in TOLD}


def _mean(values: pd.Series, n_bootstrap: int) -> tuple[float, float, float]:
    known = values.dropna().to_numpy(dtype=float)
    if not len(known):
        return float("nan"), float("nan"), float("nan")
    value, resampled = bootstrap_patients(
        lambda weights: weights @ known / weights.sum(axis=1), np.arange(len(known)), n_bootstrap, random_state=0
    )
    return (float(value), *interval(resampled))


def printed(table: pd.DataFrame) -> str:
    """Give a table for reading: a line a row, grouped by task and scanner."""
    shown = pd.DataFrame({name: table[name] for name in ("task", "scanner", "method") if name in table})
    for measure, digits in (("psnr", 2), ("ssim", 3), ("iou", 3)):
        shown[measure] = [f"{value:.{digits}f}" for value in table[measure]]
        parts = (table[f"{measure}_difference{end}"] for end in ("", "_low", "_high"))
        shown[f"{measure} - source"] = [
            f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
            for value, low, high in zip(*parts, strict=True)
        ]
    shown["to source"] = [f"{value:.1f} dB" for value in table["psnr_to_source"]]
    shown["r"] = [f"{value:.3f}" for value in table["correlation_to_source"]]
    shown["s/image"] = [f"{value:.3f}" for value in table["seconds"]]
    shown["s fit"] = [f"{value:.0f}" for value in table["seconds_fit"]]
    return shown.replace(r".*nan.*", "", regex=True).to_string(index=False)


def findings(table: pd.DataFrame) -> str:
    """Say of BlindHarmony on each scanner whether it reaches what the study asks for."""
    lines = []
    for _, row in table[table["method"].isin([BLIND, MATCHED])].iterrows():
        again = row["scanner"] == AGAIN
        gain, low, high = (row[f"psnr_difference{end}"] for end in ("", "_low", "_high"))
        by_psnr = f"{gain:+.2f} dB [{low:+.2f}, {high:+.2f}]"
        iou, low, high = (row[f"iou_difference{end}"] for end in ("", "_low", "_high"))
        by_iou = f"IoU {iou:+.3f} [{low:+.3f}, {high:+.3f}]"
        asked = f"at most {LOSS_DB} dB lost" if again else f"at least {GAIN_DB} dB won"
        verdict = "reached" if gain >= (-LOSS_DB if again else GAIN_DB) else "missed"
        lines.append(f"{row['method']}; {row['task']}, {row['scanner']}: {by_psnr}, {by_iou}; {asked}: {verdict}")
    return "\n".join(lines)
