"""What an audit found in short: a row a harmonizer, controls and what became of them, curves at their worst."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from xray_harmonize.evaluation.compared import ALL
from xray_harmonize.evaluation.structure import changes_structure
from xray_harmonize.report.audit_tables import Figure, digits_of, domain_column, estimate_of, number, records_of
from xray_harmonize.report.tables import BASELINE, Estimate

_STEP = 100
# Controls that are asked of every harmonizer say what they ask; others show their figures alone.
_CONTROL_MEANINGS = {
    "halves of one scanner": "One scanner's patients, dealt into two halves that are called two scanners. Nothing "
    "differs, so nothing should be found: a harmonizer that fails makes differences of its own.",
    "permuted labels": "Labels shuffled among patients before anything learns from them. A harmonizer that fails can "
    "write labels into images.",
    "label from the scanner alone": "The label told by nothing but the name of the scanner. What comes out above "
    "chance leaks into every figure that pools scanners.",
}


@dataclass(frozen=True, slots=True)
class GlanceRow:
    """What matters most about one harmonizer, each in a few words."""

    harmonizer: str
    probe: Figure
    is_hidden: bool
    higher: tuple[str, ...]
    lower: tuple[str, ...]
    edges: Estimate
    draws: bool
    n_controls: int
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ControlRow:
    """One question of a control, and how it was answered."""

    harmonizer: str
    measure: str
    estimate: Estimate
    expected: str
    has_passed: bool


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """One control: what it asks, and all that was asked."""

    name: str
    meaning: str
    rows: tuple[ControlRow, ...]


@dataclass(frozen=True, slots=True)
class CurveRow:
    """Curves of one harmonizer: how many there are, and the worst that they do."""

    harmonizer: str
    n_curves: int
    n_rising: int
    steepest: str
    steepest_on: str
    lost: Estimate
    lost_on: str


def glance(
    domain: pd.DataFrame,
    task: pd.DataFrame | None,
    content: pd.DataFrame,
    controls: pd.DataFrame,
    names: Sequence[str],
    level: float,
) -> list[GlanceRow]:
    """Say what matters most, a row a harmonizer.

    Parameters
    ----------
    domain, task, content, controls : DataFrame
        Of the audit.
    names : sequence of str
        Harmonizers in the order to show.
    level : float
        p of the probe from which scanners can no longer be told apart.

    Returns
    -------
    list of GlanceRow
    """
    whole = domain[(domain["measure"] == "probe") & (domain["scanner"] == ALL)]
    probes = dict(zip(names, domain_column(whole, "probe", names), strict=True))
    p_values = {str(name): number(p) for name, p in zip(whole["harmonizer"], whole["p_value"], strict=True)}
    edges = (
        content[(content["measure"] == "edge agreement") & (content["scanner"] == "all")] if len(content) else content
    )
    by_name = records_of(edges, "harmonizer")
    drawn = changes_structure(content)
    # Where nothing told scanners apart, there is nothing that a gain could be said to come from.
    has_gap = p_values.get(BASELINE, math.nan) < level
    rows = []
    for name in names:
        higher, lower = _changed(task, name)
        own = controls[controls["harmonizer"] == name] if len(controls) else controls
        failed = tuple(dict.fromkeys(own.loc[~own["passed"].astype(bool), "control"].astype(str)) if len(own) else ())
        rows.append(
            GlanceRow(
                name,
                probes[name],
                p_values.get(name, math.nan) >= level,
                higher if has_gap else (),
                lower,
                estimate_of(by_name.get((name,)), digits=digits_of("edge agreement")),
                name in drawn,
                len(set(own["control"])) if len(own) else 0,
                failed,
            )
        )
    return rows


def _changed(task: pd.DataFrame | None, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Scanners on which the interval of the change lies above zero, and those where it lies below."""
    if task is None or task.empty or name == BASELINE:
        return (), ()
    own = task[task["harmonizer"] == name]
    above, below = own[own["difference_low"] > 0], own[own["difference_high"] < 0]
    return tuple(above["scanner"].astype(str)), tuple(below["scanner"].astype(str))


def control_groups(controls: pd.DataFrame) -> list[ControlGroup]:
    """Give controls one after the other, in the order they were asked."""
    groups = []
    for name in dict.fromkeys(controls["control"]) if len(controls) else ():
        own = controls[controls["control"] == name].to_dict("records")
        rows = [
            ControlRow(
                str(one["harmonizer"]),
                str(one["measure"]),
                estimate_of(one, signed="change" in str(one["measure"])),
                str(one["expected"]),
                bool(one["passed"]),
            )
            for one in own
        ]
        groups.append(ControlGroup(str(name), _CONTROL_MEANINGS.get(str(name), ""), tuple(rows)))
    return groups


def curve_rows(curves: pd.DataFrame, names: Sequence[str]) -> list[CurveRow]:
    """Curves checked, a row a harmonizer that has any."""
    rows = []
    for name in names:
        own = curves[curves["harmonizer"] == name] if len(curves) else curves
        if own.empty:
            continue
        lost = own.groupby("scanner", sort=False)["lost"].mean()
        steepest = own.loc[own["max_slope"].idxmax()]
        rows.append(
            CurveRow(
                name,
                len(own),
                int(own["monotone"].astype(bool).sum()),
                _slope(number(steepest["max_slope"])),
                str(steepest["scanner"]),
                Estimate(100 * number(lost.max()), digits=0),
                str(lost.idxmax()),
            )
        )
    return rows


def _slope(slope: float) -> str:
    # What is steeper is a step: how steep depends on how finely the curve was written down.
    return f"over {_STEP:g}" if slope > _STEP else Estimate(slope, digits=1).text
