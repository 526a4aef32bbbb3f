"""What a table says, in words."""

from __future__ import annotations

import pandas as pd

from xray_harmonize.evaluation.candidates import BASELINE
from xray_harmonize.evaluation.scores import WORST
from xray_harmonize.evaluation.summary import CHOSEN


def headline(summary: pd.DataFrame, reference: str, protocol: str) -> str:
    """Say in one sentence on which scanners a method helps.

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
    """
    table = summary[~summary["scanner"].isin([WORST, reference])]
    none = table[table["harmonizer"] == BASELINE].set_index("scanner")
    methods = table[~table["harmonizer"].isin([BASELINE, CHOSEN])]
    helped, not_helped = [], []
    for scanner in none.index:
        sure = methods[(methods["scanner"] == scanner) & (methods["difference_low"] > 0)]
        if sure.empty:
            not_helped.append(scanner)
        else:
            best = sure.sort_values("auc", ascending=False, kind="stable").iloc[0]
            helped.append(f"{scanner} ({best['harmonizer']}: AUC {none.loc[scanner, 'auc']:.3f} to {best['auc']:.3f})")
    if not helped:
        return f"Protocol {protocol}: no method helps beyond doubt on {_listed(not_helped)}."
    rest = f", and not beyond doubt on {_listed(not_helped)}" if not_helped else ""
    return f"Protocol {protocol}: harmonizing helps on {_listed(helped)}{rest}."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def verdict(summary: pd.DataFrame, reference: str, chosen: dict[str, str]) -> list[str]:
    """Say what the gap is, what closes it, and how sure that is.

    Parameters
    ----------
    summary : DataFrame
        Of one protocol, as :func:`~xray_harmonize.evaluation.summary.summarize` gives.
    reference : str
    chosen : dict
        As :func:`~xray_harmonize.evaluation.summary.chosen_elsewhere` gives.

    Returns
    -------
    list of str
        Sentences.
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
        before = none.loc[scanner]
        sentences.append(f"On {scanner} the AUC is {_figure(before, 'auc')} without harmonization.")
        rows = methods[(methods["scanner"] == scanner) & methods["auc"].notna()]
        if rows.empty:
            continue
        sure = rows[rows["difference_low"] > 0]
        best = (rows if sure.empty else sure).sort_values("auc", ascending=False, kind="stable").iloc[0]
        if sure.empty:
            sentences.append(
                f"On {scanner} no method improves on that beyond doubt: the highest figure, of {best['harmonizer']}, "
                f"is {_figure(best, 'auc')}, and {_doubt(best)}."
            )
        else:
            closed = ""
            if own is not None and own > before["auc"]:
                share = best["difference"] / (own - before["auc"])
                closed = f", {'all' if share >= 1 else format(share, '.0%')} of the gap to {reference} itself"
            sentences.append(
                f"There {best['harmonizer']} (which sees {best['sees']} of the test scanner) brings it to "
                f"{_figure(best, 'auc')}: {best['difference']:+.3f} {_interval(best, 'difference')}{closed}."
            )
        worse = rows[rows["difference_high"] < 0]
        if len(worse):
            sentences.append(f"Worse than doing nothing on {scanner}: {', '.join(worse['harmonizer'])}.")
    if chosen:
        honest = table[table["harmonizer"] == CHOSEN].set_index("scanner")
        parts = [f"{scanner} {_figure(honest.loc[scanner], 'auc')} (by {name})" for scanner, name in chosen.items()]
        sentences.append(
            "The best row of a table is picked by the images it is tested on, which flatters it. Choosing for each "
            f"scanner the method that is best on the others gives {', '.join(parts)}."
        )
    return sentences


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
