"""From the tidy summary of a comparison to the table that is read: grouped, ranked, written out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xray_harmonize.evaluation.candidates import BASELINE, SEES
from xray_harmonize.evaluation.scores import WORST
from xray_harmonize.evaluation.summary import CHOSEN
from xray_harmonize.exceptions import InvalidParameterError

__all__ = [
    "BASELINE",
    "CHOSEN",
    "DASH",
    "WORST",
    "ComparisonTable",
    "Estimate",
    "Group",
    "Row",
    "all_figures",
    "check_summary",
    "comparison_table",
]

DASH = "–"

_KEYS = ["protocol", "harmonizer", "sees", "scanner"]
_FIGURES = ["auc", "auc_low", "auc_high", "difference", "difference_low", "difference_high"]
_COUNTS = {"n_images": "Images", "n_patients": "Patients", "n_seeds": "Seeds"}
_METRICS = {
    "auc": "AUC",
    "difference": "AUC difference to none",
    "balanced_accuracy": "Balanced accuracy",
    "worst_group_accuracy": "Worst-group accuracy",
    "precision": "Precision",
    "recall": "Recall",
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval; NaN where it is not known.

    Parameters
    ----------
    value, low, high : float
        The figure and the ends of its interval.
    signed : bool, default=False
        Whether it is a difference, which carries its sign.
    digits : int, default=3
        Behind the point.

    Examples
    --------
    >>> Estimate(0.71, 0.642, 0.78).text, Estimate(0.71, 0.642, 0.78).interval
    ('0.710', '0.642 to 0.780')
    >>> Estimate(-0.02, -0.05, 0.01, signed=True).text
    '−0.020'
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    signed: bool = False
    digits: int = 3

    @property
    def text(self) -> str:
        """The figure, or an en dash."""
        return self._written(self.value)

    @property
    def interval(self) -> str:
        """The interval, or an empty string."""
        if not (math.isfinite(self.value) and math.isfinite(self.low) and math.isfinite(self.high)):
            return ""
        return f"{self._written(self.low)} to {self._written(self.high)}"

    @property
    def direction(self) -> str:
        """``"better"`` or ``"worse"`` where the interval of a difference leaves out zero, else empty."""
        if not self.signed or not self.interval:
            return ""
        return "better" if self.low > 0 else "worse" if self.high < 0 else ""

    def _written(self, number: float) -> str:
        if not math.isfinite(number):
            return DASH
        # What rounds to zero has no sign; a minus sign is as wide as a plus sign, a hyphen is not.
        rounded = round(number, self.digits) or 0.0
        sign = "+" if self.signed and rounded else ""
        return format(rounded, f"{sign}.{self.digits}f").replace("-", "−")


@dataclass(frozen=True, slots=True)
class Row:
    """One harmonizer: its AUC by column, and the difference of its worst scanner to that of no harmonizer."""

    harmonizer: str
    auc: Mapping[str, Estimate]
    difference: Estimate
    is_best: bool

    @property
    def is_baseline(self) -> bool:
        """Whether this is the comparison's zero, no harmonizer."""
        return self.harmonizer == BASELINE

    @property
    def is_choice(self) -> bool:
        """Whether this is no method, but another one for each scanner, chosen on the other scanners."""
        return self.harmonizer == CHOSEN


@dataclass(frozen=True, slots=True)
class Group:
    """Harmonizers that see equally much of the test scanner: the baseline, then best to worst, then the choice."""

    sees: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """The results under one protocol.

    Parameters
    ----------
    protocol : str
        Its name, as in the summary.
    reference : str
        Label of the reference scanner.
    columns : tuple of str
        ``"worst"`` (where there is more than one source scanner), the source scanners, the reference.
    groups : tuple of Group
        In the order of what they see.
    """

    protocol: str
    reference: str
    columns: tuple[str, ...]
    groups: tuple[Group, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows in the order they are read."""
        return tuple(row for group in self.groups for row in group.rows)

    @property
    def baseline(self) -> Row | None:
        """The row of no harmonizer, if it was among those compared."""
        return next((row for row in self.rows if row.is_baseline), None)

    @property
    def reference_auc(self) -> float:
        """AUC on the reference scanner without a harmonizer: what the classifier reaches at home; NaN if not known."""
        return self.baseline.auc[self.reference].value if self.baseline and self.reference in self.columns else math.nan


def check_summary(summary: pd.DataFrame) -> pd.DataFrame:
    """Refuse a summary that lacks a column, or says something twice.

    Parameters
    ----------
    summary : DataFrame
        One row a protocol, harmonizer and scanner.

    Returns
    -------
    DataFrame
        The same with its labels as strings: after a way through CSV, the scanner "1" is the number 1.

    Raises
    ------
    InvalidParameterError
        If it is not such a table.
    """
    missing = [name for name in _KEYS + _FIGURES if name not in summary.columns]
    if missing:
        raise InvalidParameterError(
            f"The summary lacks the columns {', '.join(missing)}; it holds {', '.join(map(str, summary.columns))}. "
            "Pass the summary table of a comparison."
        )
    summary = summary.assign(**{name: summary[name].astype(str) for name in _KEYS})
    repeated = summary[summary.duplicated(_KEYS)]
    if len(repeated):
        named = ", ".join(f"{name}={repeated.iloc[0][name]!r}" for name in _KEYS)
        raise InvalidParameterError(
            f"The summary holds more than one row for {named}; expected one. Average the seeds before the report."
        )
    return summary


def comparison_table(summary: pd.DataFrame, protocol: str, reference: str) -> ComparisonTable | None:
    """Arrange the rows of one protocol for reading.

    Parameters
    ----------
    summary : DataFrame
        Columns protocol, harmonizer, sees, scanner, auc, difference, and ``_low`` and ``_high`` of both. Rows with the
        scanner ``"worst"`` hold the worst over the source scanners.
    protocol : str
        Whose rows to take.
    reference : str
        Label of the reference scanner.

    Returns
    -------
    ComparisonTable or None
        None where the protocol has no row.

    Examples
    --------
    >>> import pandas as pd
    >>> summary = pd.DataFrame({"protocol": "fixed", "harmonizer": ["none", "CDF"], "sees": "nothing", "scanner": "B",
    ...     "auc": [0.6, 0.8], "auc_low": 0.5, "auc_high": 0.9,
    ...     "difference": [0.0, 0.2], "difference_low": [0.0, 0.1], "difference_high": [0.0, 0.3]})
    >>> table = comparison_table(summary, "fixed", "A")
    >>> [(row.harmonizer, row.auc["B"].text, row.is_best) for row in table.rows]
    [('none', '0.600', False), ('CDF', '0.800', True)]
    """
    part = summary[summary["protocol"] == protocol]
    if part.empty:
        return None
    sources = [name for name in pd.unique(part["scanner"]) if name not in (WORST, reference)]
    has_worst = (part["scanner"] == WORST).any() and len(sources) != 1
    has_reference = (part["scanner"] == reference).any()
    columns = ((WORST,) if has_worst else ()) + tuple(sources) + ((reference,) if has_reference else ())
    classes = [name for name in SEES if (part["sees"] == name).any()]
    classes += [name for name in pd.unique(part["sees"]) if name not in SEES]
    groups = tuple(Group(str(name), _ranked(part[part["sees"] == name], columns, sources)) for name in classes)
    return ComparisonTable(protocol, reference, columns, groups)


def _ranked(part: pd.DataFrame, columns: tuple[str, ...], sources: list[str]) -> tuple[Row, ...]:
    """Rows of one class; the measure of a harmonizer is its worst scanner."""
    found: list[tuple[float, Row]] = []
    for name in pd.unique(part["harmonizer"]):
        records = {record["scanner"]: record for record in part[part["harmonizer"] == name].to_dict("records")}
        auc = {scanner: _estimate(records.get(scanner), "auc") for scanner in columns}
        measured = [records[scanner]["auc"] for scanner in sources if scanner in records]
        known = [value for value in measured if math.isfinite(value)]
        worst = records.get(WORST, records[sources[0]] if len(sources) == 1 and sources[0] in records else None)
        score = worst["auc"] if worst is not None else min(known, default=math.nan)
        found.append((float(score), Row(str(name), auc, _estimate(worst, "difference", signed=True), False)))
    found.sort(
        key=lambda pair: (
            not pair[1].is_baseline,
            pair[1].is_choice,
            -pair[0] if math.isfinite(pair[0]) else math.inf,
        )
    )
    scores = [score for score, row in found if math.isfinite(score) and not row.is_choice]
    # One method alone is the best of nothing.
    best = max(scores) if len(scores) > 1 else math.nan
    return tuple(
        Row(row.harmonizer, row.auc, row.difference, score == best and not row.is_choice) for score, row in found
    )


def _estimate(record: Mapping[Any, Any] | None, figure: str, *, signed: bool = False) -> Estimate:
    if record is None or figure not in record:
        return Estimate(signed=signed)
    low, high = (_number(record.get(f"{figure}{end}", math.nan)) for end in ("_low", "_high"))
    return Estimate(_number(record[figure]), low, high, signed)


def _number(cell: Any) -> float:
    return math.nan if pd.isna(cell) else float(cell)


def all_figures(summary: pd.DataFrame, table: ComparisonTable) -> tuple[list[str], list[tuple[str, list[list[Any]]]]]:
    """Every figure of one protocol, in the order of its table.

    Parameters
    ----------
    summary : DataFrame
        As for :func:`comparison_table`; counts and further metrics are shown where they are there.
    table : ComparisonTable
        Gives the order.

    Returns
    -------
    headings : list of str
        Names of the columns after the scanner.
    blocks : list of (harmonizer, rows)
        Each row is the scanner followed by one entry a heading: a str (a count) or an Estimate. The baseline's
        difference to itself is left open.
    """
    part = summary[summary["protocol"] == table.protocol]
    counts = [name for name in _COUNTS if name in part.columns]
    metrics = [name for name in _METRICS if name in part.columns]
    blocks: list[tuple[str, list[list[Any]]]] = []
    for group in table.groups:
        for row in group.rows:
            mine = part[(part["harmonizer"] == row.harmonizer) & (part["sees"] == group.sees)].set_index("scanner")
            lines: list[list[Any]] = []
            for scanner in (name for name in table.columns if name in mine.index):
                record: dict[Any, Any] = dict(mine.loc[scanner])
                if row.is_baseline:
                    record.pop("difference")
                written = [DASH if pd.isna(record[name]) else f"{record[name]:g}" for name in counts]
                lines.append(
                    [scanner, *written, *(_estimate(record, name, signed=name == "difference") for name in metrics)]
                )
            blocks.append((row.harmonizer, lines))
    return [_COUNTS[name] for name in counts] + [_METRICS[name] for name in metrics], blocks
