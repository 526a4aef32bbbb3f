"""What a table says, in words."""

from __future__ import annotations

import pandas as pd

from xray_harmonize.evaluation.candidates import BASELINE, NOTHING, SEES
from xray_harmonize.evaluation.scores import WORST
from xray_harmonize.evaluation.summary import CHOSEN


def headline(summary: pd.DataFrame, reference: str, protocol: str) -> str:
    """Say in one sentence on which scanners a method helps, and how much it had to see for that.

    Parameters
    ----------
    summary : DataFrame
        Of one protocol, as :func:`~xray_harmonize.evaluation.summary.summarize` gives.
    reference : str
    protocol : str
        What the sentence calls it.

    Returns
    -------
    str
        For every scanner, the best method that sees nothing of it, and those that see more and do better.
    """
    table = summary[~summary["scanner"].isin([WORST, reference])]
    none = table[table["harmonizer"] == BASELINE].set_index("scanner")
    methods = table[~table["harmonizer"].isin([BASELINE, CHOSEN])]
    helped, not_helped = [], []
    for scanner in none.index:
        best, parts = -1.0, []
        for sees in SEES:
            rows = methods[(methods["scanner"] == scanner) & (methods["sees"] == sees)]
            sure = rows[rows["difference_low"] > 0]
            if len(sure) and (row := _highest(sure))["auc"] > best:
                best = row["auc"]
                parts.append(f"seeing {sees} {row['auc']:.3f} by {row['harmonizer']}")
        if parts:
            helped.append(f"{scanner} (AUC {none.loc[scanner, 'auc']:.3f}; {'; '.join(parts)})")
        else:
            not_helped.append(scanner)
    if not helped:
        return f"Protocol {protocol}: no method helps beyond doubt on {_listed(not_helped)}."
    rest = f", and none beyond doubt on {_listed(not_helped)}" if not_helped else ""
    return f"Protocol {protocol}: methods help on {_listed(helped)}{rest}."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def verdict(summary: pd.DataFrame, reference: str, chosen: dict[str, dict[str, str]]) -> list[str]:
    """Say what the gap is, what closes it, and how sure that is.

    Parameters
    ----------
    summary : DataFrame
        Of one protocol, as :func:`~xray_harmonize.evaluation.summary.summarize` gives.
    reference : str
    chosen : dict of str to dict
        As :func:`~xray_harmonize.evaluation.summary.chosen_elsewhere` gives.

    Returns
    -------
    list of str
        Sentences. The best method is named for each class of what methods see of the test scanner.
    """
    sentences = []
    table = summary[summary["scanner"] != WORST]
    none = table[table["harmonizer"] == BASELINE].set_index("scanner")
    own = float(none.loc[reference, "auc"]) if reference in none.index else None
    if own is not None:
        sentences.append(
            f"Without harmonization the classifier trained on {reference} has an AUC of "
            f"{_figure(none.loc[reference], 'auc')} on held-out patients of {reference} itself."
        )
    methods = table[~table["harmonizer"].isin([BASELINE, CHOSEN])]
    for scanner in [name for name in none.index if name != reference]:
        sentences.append(f"On {scanner} the AUC is {_figure(none.loc[scanner], 'auc')} without harmonization.")
        rows = methods[(methods["scanner"] == scanner) & methods["auc"].notna()]
        gap = None if own is None else own - none.loc[scanner, "auc"]
        for sees in SEES:
            of_class = rows[rows["sees"] == sees]
            if len(of_class):
                sentences.append(_best_of_class(of_class, scanner, sees, reference, gap))
        worse = rows[rows["difference_high"] < 0]
        if len(worse):
            sentences.append(f"Worse than doing nothing on {scanner}: {', '.join(worse['harmonizer'])}.")
    if chosen:
        sentences.append(_honest_choice(table[table["harmonizer"] == CHOSEN], chosen))
    return sentences


def _best_of_class(rows: pd.DataFrame, scanner: str, sees: str, reference: str, gap: float | None) -> str:
    """Say what the best of the methods achieves that see equally much of a scanner."""
    sure = rows[rows["difference_low"] > 0]
    if sure.empty:
        best = _highest(rows)
        return (
            f"Of the methods that see {sees} of {scanner}, none improves on that beyond doubt: the highest figure, of "
            f"{best['harmonizer']}, is {_figure(best, 'auc')}, and {_doubt(best)}."
        )
    best = _highest(sure)
    closed = ""
    if gap is not None and gap > 0:
        share = best["difference"] / gap
        closed = f", {'all' if share >= 1 else format(share, '.0%')} of the gap to {reference} itself"
    return (
        f"Of the methods that see {sees} of {scanner}, {best['harmonizer']} brings it to {_figure(best, 'auc')}: "
        f"{best['difference']:+.3f} {_interval(best, 'difference')}{closed}."
    )


def _honest_choice(honest: pd.DataFrame, chosen: dict[str, dict[str, str]]) -> str:
    choices = []
    for sees, names in chosen.items():
        rows = honest[honest["sees"] == sees].set_index("scanner")
        parts = [f"{scanner} {_figure(rows.loc[scanner], 'auc')} (by {name})" for scanner, name in names.items()]
        choices.append(f"among methods that see {'' if sees == NOTHING else 'at most '}{sees}, {', '.join(parts)}")
    return (
        "The best row of a table is picked by the images it is tested on, which flatters it. Choosing for each "
        f"scanner the method that is best on the others gives, {'; '.join(choices)}."
    )


def _highest(rows: pd.DataFrame) -> pd.Series:
    return rows.sort_values("auc", ascending=False, kind="stable").iloc[0]


def _doubt(row: pd.Series) -> str:
    """Say why a difference is no clear gain."""
    if pd.isna(row["difference_low"]):
        return "its difference has no interval"
    where = "lies below zero" if row["difference_high"] < 0 else "includes zero"
    return f"the interval of its difference, {_interval(row, 'difference')}, {where}"


def _figure(row: pd.Series, metric: str) -> str:
    return "undefined" if pd.isna(row[metric]) else f"{row[metric]:.3f} {_interval(row, metric)}"


def _interval(row: pd.Series, metric: str) -> str:
    low, high = row[f"{metric}_low"], row[f"{metric}_high"]
    return "(no interval)" if pd.isna(low) else f"({low:.3f} to {high:.3f})"
