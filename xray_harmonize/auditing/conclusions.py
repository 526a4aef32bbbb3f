"""What an audit's tables say, in words, and nothing that they do not."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from xray_harmonize.auditing.controls import AREA_CHANGES, FEWEST_PATIENTS, HALVES, PERMUTED, TOLD_APART
from xray_harmonize.auditing.leakage import POOLED_SCANNERS, SCANNER_ALONE
from xray_harmonize.evaluation.candidates import BASELINE
from xray_harmonize.evaluation.cautions import Caution
from xray_harmonize.evaluation.compared import ALL
from xray_harmonize.evaluation.structure import changes_structure

LEVEL = 0.05
"""Chance of claiming a gap where there is none, and of any harmonizer's being said to help where none does."""

_EDGES_KEPT, _ORDER_KEPT = 0.8, 0.95
_SHOWN = 4


def gap_shows(domain: pd.DataFrame) -> bool:
    """Whether scanners can be told apart before harmonizing: the one question whose p decides."""
    return bool(_probe(domain, BASELINE)["p_value"] < LEVEL)


def helpful(task: pd.DataFrame | None, domain: pd.DataFrame) -> pd.DataFrame:
    """Rows of the task that are said to help: a gap shows, and the corrected interval lies above zero.

    Parameters
    ----------
    task : DataFrame or None
        As in :class:`~xray_harmonize.auditing.result.AuditResult`.
    domain : DataFrame

    Returns
    -------
    DataFrame
        The best first; without rows where nothing helps.
    """
    if task is None or not gap_shows(domain):
        return pd.DataFrame(columns=[] if task is None else task.columns)
    better = task[(task["harmonizer"] != BASELINE) & (task["difference_low"] > 0)]
    return better.sort_values("difference", ascending=False)


def conclusions(
    domain: pd.DataFrame,
    content: pd.DataFrame,
    task: pd.DataFrame | None,
    controls: pd.DataFrame,
    cautions: Sequence[Caution],
    reference: str,
    *,
    has_labels: bool = True,
    asked_controls: bool = True,
) -> list[str]:
    """Say what holds, the most important first.

    Parameters
    ----------
    domain, content, task, controls : DataFrame
        As in :class:`~xray_harmonize.auditing.result.AuditResult`. Intervals of differences in ``task`` must be
        corrected for their number.
    cautions : sequence of Caution
    reference : str
    has_labels, asked_controls : bool, default=True
        Whether labels were given and controls asked for, where a table is missing.

    Returns
    -------
    list of str
    """
    gap = gap_shows(domain)
    said = [_gap(domain, gap, has_labels)]
    if task is not None:
        said += _task(task, helpful(task, domain), reference)
    elif has_labels:
        said.append(
            f"No classifier could be asked: a half of {reference} does not hold two classes, so there is nothing to "
            "learn from."
        )
    said += _probes(domain, gap)
    said += _distances(domain, gap)
    said += _content(content)
    if asked_controls:
        said += _controls(controls)
    stops = [one.name for one in cautions if one.severity == "stop"]
    if stops:
        said.insert(0, f"Before any figure is believed: {_listed(stops)}. See the cautions.")
    return said


def _gap(domain: pd.DataFrame, gap: bool, has_labels: bool) -> str:
    row = _probe(domain, BASELINE)
    within = " within classes" if has_labels else ""
    figure = (
        f"balanced accuracy {row['value']:.2f}{_interval(row)}, where scanners dealt anew{within} give "
        f"{row['null']:.2f}"
    )
    if gap:
        return f"Scanners can be told apart: a probe reaches {figure} (p {row['p_value']:.3f})."
    return (
        f"No difference between scanners shows: a probe reaches {figure} (p {row['p_value']:.2f}). There is nothing "
        "that harmonizing could be said to undo."
    )


def _task(task: pd.DataFrame, better: pd.DataFrame, reference: str) -> list[str]:
    none = task[task["harmonizer"] == BASELINE].set_index("scanner")
    known = none[none["auc"].notna()]
    others = [name for name in known.index if name != reference]
    said = [
        f"Untouched, a classifier of {reference} has an AUC of "
        + _listed([f"{known.loc[name, 'auc']:.3f} on {name}" for name in [reference, *others] if name in known.index])
        + "."
    ]
    methods = task[task["harmonizer"] != BASELINE]
    if methods.empty:
        return said
    for name in others:
        rows = better[better["scanner"] == name]
        if len(rows):
            said.append(f"On {name} {_differences(rows)} help{'s' if len(rows) == 1 else ''} beyond doubt.")
        else:
            said.append(f"On {name} no harmonizer helps beyond doubt.")
    worse = methods[methods["difference_high"] < 0].sort_values("difference")
    for name, rows in worse.groupby("scanner", sort=False):
        where = f"{name}, the reference itself" if name == reference else str(name)
        said.append(f"On {where}, it got worse by {_differences(rows)}.")
    return said


def _probes(domain: pd.DataFrame, gap: bool) -> list[str]:
    rows = [(name, _probe(domain, name)) for name in dict.fromkeys(domain["harmonizer"]) if name != BASELINE]
    if not gap or not rows:
        return []
    before = _probe(domain, BASELINE)
    hidden = [f"{name} ({row['value']:.2f})" for name, row in rows if row["p_value"] >= LEVEL]
    less = [
        f"{name} ({row['value']:.2f})" for name, row in rows if row["p_value"] < LEVEL and row["high"] < before["low"]
    ]
    said = []
    if hidden:
        said.append(f"Behind {_listed(hidden)} a probe trained anew tells scanners no better than chance.")
    if less:
        said.append(f"Behind {_listed(less)} it tells them less well, but still does.")
    if not hidden and not less:
        said.append("Behind every harmonizer a probe trained anew tells scanners as well as before.")
    return said


def _distances(domain: pd.DataFrame, gap: bool) -> list[str]:
    """Say how far apart scanners lie before and after: where a probe is always right, it says no more of how much."""
    rows = domain[(domain["measure"] == "mmd2") & (domain["scanner"] == ALL)].set_index("harmonizer")
    if not gap or BASELINE not in rows.index:
        return []
    before, methods = rows.loc[BASELINE], rows.drop(index=BASELINE)
    apart = {
        "falls": methods[methods["high"] < before["low"]].sort_values("value"),
        "grows": methods[methods["low"] > before["high"]].sort_values("value", ascending=False),
    }
    said = [
        f"{verb} to " + _listed([f"{row.value:.3f} behind {row.Index}" for row in found.itertuples()])
        for verb, found in apart.items()
        if len(found)
    ]
    figure = f"The distance between scanners (squared MMD of features), {before['value']:.3f} untouched, "
    return [f"{figure}{'; it '.join(said)}."] if said else []


def _content(content: pd.DataFrame) -> list[str]:
    if content.empty:
        return []
    means = content[content["scanner"] == ALL].pivot_table(index="harmonizer", columns="measure", values="value")
    means = means[means.index != BASELINE].reindex(columns=["edge agreement", "rank agreement"])
    drawn = changes_structure(content[content["harmonizer"] != BASELINE])
    means = means.drop(index=[name for name in drawn if name in means.index])
    moved = means.index[means["edge agreement"] < _EDGES_KEPT].tolist()
    mixed = means.index[means["rank agreement"] < _ORDER_KEPT].difference(moved).tolist()
    said = []
    if drawn:
        figures = _listed([f"{name} ({1 - kept:.0%} of the contrast behind it)" for name, kept in drawn.items()])
        said.append(
            f"{figures} change{'s' if len(drawn) == 1 else ''} structure: edges appear where the image has none or the "
            "opposite, which no tone curve can make. Look at the images for what was drawn, findings included."
        )
    if moved:
        said.append(f"{_listed(moved)} change{'s' if len(moved) == 1 else ''} edges: look at the images.")
    if mixed:
        said.append(
            f"{_listed(mixed)} change{'s' if len(mixed) == 1 else ''} which pixels are brighter than others, which a "
            "strictly rising tone curve never does."
        )
    return said


def _controls(controls: pd.DataFrame) -> list[str]:
    said = []
    if HALVES not in set(controls["control"]):
        said.append(
            f"The control on halves of one scanner could not be asked: the reference has fewer than {FEWEST_PATIENTS} "
            "patients."
        )
    failed = controls[~controls["passed"].astype(bool)]
    for control, measure, meaning in (
        (HALVES, TOLD_APART, "made a difference between two halves of one scanner"),
        (PERMUTED, None, "made shuffled labels predictable, so it can write labels into images"),
    ):
        rows = failed[(failed["control"] == control) & ((measure is None) | (failed["measure"] == measure))]
        if len(rows):
            said.append(f"Control failed: {_listed(list(dict.fromkeys(rows['harmonizer'])))} {meaning}.")
    changes = failed[(failed["control"] == HALVES) & (failed["measure"] == AREA_CHANGES)]
    if len(changes):
        shown = [f"{row.harmonizer} ({row.value:+.3f})" for row in changes.itertuples()]
        said.append(
            f"The AUC changes by {_listed(shown)} between two halves of one scanner too: as much of what it does is "
            "not harmonizing scanners."
        )
    said += _leaks(failed)
    if len(controls) and failed.empty:
        said.append("All controls came out as they should.")
    return said


def _leaks(failed: pd.DataFrame) -> list[str]:
    said = {
        SCANNER_ALONE: "The scanner alone predicts the label with an AUC of {figure}: so much can leak into a figure "
        "that pools scanners.",
        POOLED_SCANNERS: "A classifier trained and tested on all scanners together gains {figure} in AUC over what it "
        "is worth within a scanner: that gain has leaked.",
    }
    return [
        sentence.format(figure=f"{row['value']:.2f}{_interval(row)}")
        for control, sentence in said.items()
        for row in failed[failed["control"] == control].to_dict("records")
    ]


def _probe(domain: pd.DataFrame, harmonizer: str) -> pd.Series:
    rows = domain[(domain["harmonizer"] == harmonizer) & (domain["measure"] == "probe") & (domain["scanner"] == ALL)]
    return rows.iloc[0]


def _interval(row: pd.Series | dict[str, float]) -> str:
    return f" ({row['low']:.2f} to {row['high']:.2f})"


def _differences(rows: pd.DataFrame) -> str:
    said = [
        f"{row.harmonizer} ({row.difference:+.3f}, {row.difference_low:+.3f} to {row.difference_high:+.3f})"
        for row in rows.itertuples()
    ]
    return _listed(said)


def _listed(names: Sequence[str]) -> str:
    shown = [str(name) for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        shown.append(f"{len(names) - _SHOWN} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
