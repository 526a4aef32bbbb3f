"""What a table says, in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
from tiny_study import predictions_of

from xray_harmonize.evaluation.summary import CHOSEN, chosen_elsewhere, summarize
from xray_harmonize.evaluation.verdict import headline, verdict

FIGURES = ("auc", "difference")


def table(rows):
    """A summary from {(harmonizer, scanner): (auc, low, high, difference, low, high)}."""
    made = []
    for (harmonizer, scanner), figures in rows.items():
        names = [f"{figure}{end}" for figure in FIGURES for end in ("", "_low", "_high")]
        sees = "unlabelled images" if "scanner" in harmonizer else "nothing"
        sees = "labelled images" if "GDCE" in harmonizer or "tuned" in harmonizer else sees
        made.append(
            {"harmonizer": harmonizer, "sees": sees, "scanner": scanner, **dict(zip(names, figures, strict=True))}
        )
    return pd.DataFrame(made)


BASE = {
    ("none", "home"): (0.9, 0.85, 0.95, 0, 0, 0),
    ("none", "far"): (0.6, 0.5, 0.7, 0, 0, 0),
    ("none", "worst"): (0.6, 0.5, 0.7, 0, 0, 0),
}
NAN = float("nan")


def test_the_gap_is_told_first():
    first, second, *_ = verdict(table(BASE), "home", {})
    assert first == (
        "Without harmonization the classifier trained on home has an AUC of 0.900 (0.850 to 0.950) on held-out "
        "patients of home itself."
    )
    assert second == "On far the AUC is 0.600 (0.500 to 0.700) without harmonization."


def test_the_best_of_each_class_is_named_with_the_share_of_the_gap_from_least_seen_to_most():
    rows = {
        **BASE,
        ("fine-tuned", "far"): (0.88, 0.8, 0.9, 0.28, 0.2, 0.3),
        ("GDCE", "far"): (0.92, 0.9, 0.95, 0.32, 0.2, 0.4),
        ("higher but not sure, scanner", "far"): (0.85, 0.7, 0.9, 0.25, -0.01, 0.3),
        ("CDF, scanner", "far"): (0.8, 0.75, 0.85, 0.2, 0.1, 0.3),
        ("CDF, image", "far"): (0.7, 0.65, 0.75, 0.1, 0.05, 0.2),
        ("Nyul", "far"): (0.69, 0.65, 0.75, 0.1, 0.05, 0.2),
    }
    assert verdict(table(rows), "home", {})[2:] == [
        "Of the methods that see nothing of far, CDF, image brings it to 0.700 (0.650 to 0.750): +0.100 (0.050 to "
        "0.200), 33% of the gap to home itself.",
        "Of the methods that see unlabelled images of far, CDF, scanner brings it to 0.800 (0.750 to 0.850): +0.200 "
        "(0.100 to 0.300), 67% of the gap to home itself.",
        "Of the methods that see labelled images of far, GDCE brings it to 0.920 (0.900 to 0.950): +0.320 (0.200 to "
        "0.400), all of the gap to home itself.",
    ]


def test_where_there_is_no_gap_no_share_of_it_is_told():
    rows = {**BASE, ("none", "home"): (0.55, 0.5, 0.6, 0, 0, 0), ("CDF", "far"): (0.8, 0.7, 0.9, 0.2, 0.1, 0.3)}
    assert verdict(table(rows), "home", {})[-1].endswith(
        "brings it to 0.800 (0.700 to 0.900): +0.200 (0.100 to 0.300)."
    )


def test_no_gain_is_told_with_the_highest_figure():
    rows = {
        **BASE,
        ("CDF", "far"): (0.65, 0.5, 0.8, 0.05, -0.05, 0.15),
        ("Nyul", "far"): (0.62, 0.5, 0.7, 0.02, -0.05, 0.1),
    }
    assert verdict(table(rows), "home", {})[-1] == (
        "Of the methods that see nothing of far, none improves on that beyond doubt: the highest figure, of CDF, is "
        "0.650 (0.500 to 0.800), and the interval of its difference, (-0.050 to 0.150), includes zero."
    )


def test_worse_methods_are_named_and_an_interval_below_zero_is_not_said_to_include_it():
    rows = {
        **BASE,
        ("CDF", "far"): (0.5, 0.4, 0.55, -0.1, -0.2, -0.05),
        ("Nyul", "far"): (0.4, 0.3, 0.45, -0.2, -0.3, -0.1),
    }
    sentences = verdict(table(rows), "home", {})
    assert sentences[-2].endswith("and the interval of its difference, (-0.200 to -0.050), lies below zero.")
    assert sentences[-1] == "Worse than doing nothing on far: CDF, Nyul."


def test_one_patient_has_no_interval_and_no_claim_is_made_of_it():
    rows = {**BASE, ("none", "far"): (0.6, NAN, NAN, 0, NAN, NAN), ("CDF", "far"): (0.9, NAN, NAN, 0.3, NAN, NAN)}
    sentences = verdict(table(rows), "home", {})
    assert sentences[1] == "On far the AUC is 0.600 (no interval) without harmonization."
    assert sentences[2] == (
        "Of the methods that see nothing of far, none improves on that beyond doubt: the highest figure, of CDF, is "
        "0.900 (no interval), and its difference has no interval."
    )


def test_a_scanner_of_a_single_class_has_no_auc():
    nothing = (NAN,) * 6
    sentences = verdict(table({**BASE, ("none", "far"): nothing, ("CDF", "far"): nothing}), "home", {})
    assert sentences[1:] == ["On far the AUC is undefined without harmonization."]


def test_a_left_out_scanner_needs_no_reference_in_the_test():
    rows = {("none", "far"): (0.6, 0.5, 0.7, 0, 0, 0), ("CDF", "far"): (0.8, 0.7, 0.9, 0.2, 0.1, 0.3)}
    sentences = verdict(table(rows), "home", {})
    assert sentences[0].startswith("On far the AUC is 0.600")
    assert "gap" not in sentences[1]


def test_the_honest_choice_is_told_for_each_class_beside_the_best_row():
    rows = {
        **BASE,
        ("none", "near"): (0.7, 0.6, 0.8, 0, 0, 0),
        (CHOSEN, "far"): (0.65, 0.6, 0.7, 0.05, 0, 0.1),
        (CHOSEN, "near"): (0.75, 0.7, 0.8, 0.05, 0, 0.1),
    }
    more = {
        (CHOSEN, "far"): (0.85, 0.8, 0.9, 0.05, 0, 0.1),
        (CHOSEN, "near"): (0.95, 0.9, 1.0, 0.05, 0, 0.1),
    }
    both = pd.concat([table(rows).assign(sees="nothing"), table(more).assign(sees="labelled images")])
    chosen = {"nothing": {"far": "CDF", "near": "none"}, "labelled images": {"far": "GDCE", "near": "CDF"}}
    assert verdict(both, "home", chosen)[-1] == (
        "The best row of a table is picked by the images it is tested on, which flatters it. Choosing for each scanner "
        "the method that is best on the others gives, among methods that see nothing, far 0.650 (0.600 to 0.700) (by "
        "CDF), near 0.750 (0.700 to 0.800) (by none); among methods that see at most labelled images, far 0.850 (0.800 "
        "to 0.900) (by GDCE), near 0.950 (0.900 to 1.000) (by CDF)."
    )


def test_the_row_of_the_choice_is_no_method_that_could_win():
    rows = {**BASE, (CHOSEN, "far"): (0.99, 0.98, 1, 0.39, 0.3, 0.4)}
    assert len(verdict(table(rows), "home", {})) == 2


def test_it_reads_what_summarize_writes():
    skill = {"none": {"home": 3.0, "far": 0.2, "near": 2.0}, "good": {"home": 3.0, "far": 3.0, "near": 0.1}}
    predictions = predictions_of(skill)
    honest, chosen = chosen_elsewhere(predictions, "home")
    summary = summarize(pd.concat([predictions, honest]), "home", n_bootstrap=100)
    words = " ".join(verdict(summary, "home", chosen))
    assert "Of the methods that see nothing of far, good brings it to" in words
    assert "gives, among methods that see nothing, far" in words
    assert "Worse than doing nothing on near: good." in words
    assert "nan" not in words
    assert np.isfinite(summary.auc).all()
    none_alone = summarize(predictions[predictions.harmonizer == "none"], "home", n_bootstrap=0)
    assert len(verdict(none_alone, "home", {})) == 3


def test_the_headline_says_where_a_method_helps_and_where_not():
    rows = {
        **BASE,
        ("none", "near"): (0.7, 0.6, 0.8, 0, 0, 0),
        ("CDF", "far"): (0.8, 0.7, 0.9, 0.2, 0.1, 0.3),
        ("CDF", "near"): (0.75, 0.6, 0.9, 0.05, -0.1, 0.2),
    }
    assert headline(table(rows), "home", "fixed classifier") == (
        "Protocol fixed classifier: methods help on far (AUC 0.600; seeing nothing 0.800 by CDF), and none beyond "
        "doubt on near."
    )


def test_the_headline_names_who_must_see_more_only_where_that_brings_more():
    rows = {
        **BASE,
        ("none", "near"): (0.7, 0.6, 0.8, 0, 0, 0),
        ("CDF, image", "far"): (0.8, 0.7, 0.9, 0.2, 0.1, 0.3),
        ("CDF, scanner", "far"): (0.78, 0.7, 0.9, 0.18, 0.1, 0.3),
        ("GDCE", "far"): (0.9, 0.8, 0.95, 0.3, 0.2, 0.4),
        ("CDF, scanner", "near"): (0.9, 0.8, 0.95, 0.3, 0.2, 0.4),
        ("GDCE", "near"): (0.95, 0.6, 0.95, 0.3, -0.2, 0.4),
    }
    assert headline(table(rows), "home", "fixed classifier") == (
        "Protocol fixed classifier: methods help on far (AUC 0.600; seeing nothing 0.800 by CDF, image; seeing "
        "labelled images 0.900 by GDCE) and near (AUC 0.700; seeing unlabelled images 0.900 by CDF, scanner)."
    )


def test_the_headline_says_when_nothing_helps():
    rows = {**BASE, ("none", "near"): (0.7, 0.6, 0.8, 0, 0, 0), ("CDF", "far"): (0.8, 0.4, 0.9, 0.2, -0.1, 0.3)}
    assert headline(table(rows), "home", "fixed classifier") == (
        "Protocol fixed classifier: no method helps beyond doubt on far and near."
    )
