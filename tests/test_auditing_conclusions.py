"""What an audit says in words: every sentence, and that none is said without its ground."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from xray_harmonize.auditing.conclusions import conclusions, gap_shows, helpful
from xray_harmonize.auditing.controls import AREA_CHANGES, HALVES, PERMUTED, TOLD_APART
from xray_harmonize.auditing.leakage import POOLED_SCANNERS, SCANNER_ALONE
from xray_harmonize.auditing.result import CONTROL_COLUMNS
from xray_harmonize.auditing.task import TASK_COLUMNS
from xray_harmonize.evaluation.cautions import Caution

METHODS = ("none", "CDF", "FDA")
NOTHING = pd.DataFrame()


def domain(p=(0.005, 0.4, 0.005), value=(0.9, 0.5, 0.7)):
    """The probe of each method, on all scanners and on one."""
    rows = [
        {
            "harmonizer": name,
            "measure": measure,
            "scanner": scanner,
            "value": value[i],
            "low": value[i] - 0.05,
            "high": value[i] + 0.05,
            "p_value": p[i] if (measure, scanner) == ("probe", "all") else 1 - p[i],
            "null": 0.5,
        }
        for i, name in enumerate(METHODS)
        for measure in ("probe", "mmd2")
        for scanner in ("all", "B")
    ]
    return pd.DataFrame(rows)


def task(differences=(("CDF", "B", 0.1, 0.02, 0.18),)):
    """Areas of all methods, the differences named and all others without a sign."""
    told = {(name, scanner): bounds for name, scanner, *bounds in differences}
    rows = []
    for name in METHODS:
        for scanner, auc in (("A", 0.9), ("B", 0.6)):
            bounds = told.get((name, scanner), [0.0, -0.1, 0.1] if name != "none" else [0.0, 0.0, 0.0])
            rows.append([name, scanner, auc, auc - 0.1, auc + 0.1, *bounds, 0.5, 40, 40])
    return pd.DataFrame(rows, columns=TASK_COLUMNS)


def content(edges=(1.0, 1.0), ranks=(1.0, 1.0), structure=(1.0, 1.0)):
    """Agreements of each method over all scanners; of structure also on one, where it is as told."""
    rows = [
        {"harmonizer": name, "measure": measure, "scanner": "all", "value": value}
        for name, *values in (("none", 1.0, 1.0), ("CDF", edges[0], ranks[0]), ("FDA", edges[1], ranks[1]))
        for measure, value in zip(("edge agreement", "rank agreement"), values, strict=True)
    ]
    for name, kept in zip(METHODS, (1.0, *structure), strict=True):
        both = {"all": (1 + kept) / 2, "B": kept}
        rows += [
            {"harmonizer": name, "measure": "structure agreement", "scanner": scanner, "value": value}
            for scanner, value in both.items()
        ]
    return pd.DataFrame(rows)


def controls(*failed):
    """A table of all controls, of which some failed: their control, measure and harmonizer."""
    asked = [
        (HALVES, TOLD_APART, "none", 0.5),
        (HALVES, TOLD_APART, "CDF", 0.9),
        (HALVES, AREA_CHANGES, "CDF", 0.07),
        (PERMUTED, "highest AUC of a scanner (B)", "CDF", 0.8),
        (SCANNER_ALONE, "AUC over all scanners together", "", 0.8),
        (POOLED_SCANNERS, "AUC over all together, less that within scanners", "none", 0.12),
    ]
    rows = [
        [control, name, measure, value, value - 0.02, value + 0.02, "", (control, measure, name) not in failed]
        for control, measure, name, value in asked
    ]
    return pd.DataFrame(rows, columns=CONTROL_COLUMNS)


def said(**changes):
    options = {"domain": domain(), "content": content(), "task": task(), "controls": controls(), "cautions": []}
    return conclusions(**{**options, "reference": "A", **changes})


def test_a_gap_is_said_with_its_figures():
    assert said()[0] == (
        "Scanners can be told apart: a probe reaches balanced accuracy 0.90 (0.85 to 0.95), where scanners dealt anew "
        "within classes give 0.50 (p 0.005)."
    )
    assert "where scanners dealt anew give 0.50" in said(task=None, has_labels=False)[0]


@pytest.mark.parametrize(("p", "shows"), [(0.005, True), (0.049, True), (0.05, False), (0.6, False), (np.nan, False)])
def test_one_question_decides_on_the_gap(p, shows):
    assert gap_shows(domain(p=(p, 0.001, 0.001))) == shows


def test_without_a_gap_nothing_is_said_to_help_or_to_hide_one():
    words = said(domain=domain(p=(0.3, 0.4, 0.005)))
    assert words[0].startswith("No difference between scanners shows: a probe reaches")
    assert words[0].endswith("(p 0.30). There is nothing that harmonizing could be said to undo.")
    assert "On B no harmonizer helps beyond doubt." in words
    assert not any("probe trained anew" in one for one in words)
    assert helpful(task(), domain(p=(0.3, 0.4, 0.005))).empty


def test_what_helps_is_named_with_its_interval_the_best_first():
    both = task((("CDF", "B", 0.1, 0.02, 0.18), ("FDA", "B", 0.2, 0.05, 0.35)))
    assert helpful(both, domain())["harmonizer"].tolist() == ["FDA", "CDF"]
    words = said(task=both)
    assert "Untouched, a classifier of A has an AUC of 0.900 on A and 0.600 on B." in words
    assert "On B FDA (+0.200, +0.050 to +0.350) and CDF (+0.100, +0.020 to +0.180) help beyond doubt." in words
    assert "On B CDF (+0.100, +0.020 to +0.180) helps beyond doubt." in said()


def test_an_interval_that_touches_zero_helps_nobody():
    assert helpful(task((("CDF", "B", 0.1, 0.0, 0.2),)), domain()).empty


def test_what_harms_is_named_gap_or_not():
    worse = task((("CDF", "A", -0.1, -0.2, -0.05), ("FDA", "B", -0.3, -0.4, -0.2)))
    for p in (0.005, 0.5):
        words = said(task=worse, domain=domain(p=(p, 0.4, 0.4)))
        assert "On A, the reference itself, it got worse by CDF (-0.100, -0.200 to -0.050)." in words
        assert "On B, it got worse by FDA (-0.300, -0.400 to -0.200)." in words


def test_scanners_without_an_area_are_not_spoken_of():
    table = task()
    table.loc[table["scanner"] == "B", ["auc", "difference", "difference_low", "difference_high"]] = np.nan
    words = said(task=table)
    assert "Untouched, a classifier of A has an AUC of 0.900 on A." in words
    assert not any(" on B" in one or "On B" in one for one in words)


def test_without_labels_nothing_is_said_of_a_task_and_without_classes_why():
    assert not any("classifier" in one for one in said(task=None, has_labels=False))
    assert (
        "No classifier could be asked: a half of A does not hold two classes, so there is nothing to learn from."
        in said(task=None)
    )


def test_without_harmonizers_no_one_helps_and_no_one_does_not():
    alone = domain()[lambda table: table["harmonizer"] == "none"]
    words = said(domain=alone, task=task()[lambda table: table["harmonizer"] == "none"], content=NOTHING)
    assert len(words) == 3


def test_probes_say_behind_whom_scanners_are_still_told():
    words = said()
    assert "Behind CDF (0.50) a probe trained anew tells scanners no better than chance." in words
    assert "Behind FDA (0.70) it tells them less well, but still does." in words
    assert "Behind every harmonizer a probe trained anew tells scanners as well as before." in said(
        domain=domain(p=(0.005,) * 3, value=(0.9, 0.9, 0.88))
    )


def test_distances_that_fall_or_grow_are_said_with_their_figures():
    distance = "The distance between scanners (squared MMD of features), 0.900 untouched, "
    assert f"{distance}falls to 0.500 behind CDF and 0.700 behind FDA." in said()
    far = said(domain=domain(value=(0.9, 0.5, 1.2)))
    assert f"{distance}falls to 0.500 behind CDF; it grows to 1.200 behind FDA." in far
    for table in (domain(value=(0.9, 0.88, 0.91)), domain(p=(0.5, 0.5, 0.5))):
        assert not any("distance between scanners" in one for one in said(domain=table))


def test_content_that_changes_is_said():
    words = said(content=content(edges=(1.0, 0.5), ranks=(0.9, 0.5)))
    assert "FDA changes edges: look at the images." in words
    assert "CDF changes which pixels are brighter than others, which a strictly rising tone curve never does." in words
    assert "CDF and FDA change edges: look at the images." in said(content=content(edges=(0.5, 0.5)))


def test_a_method_that_draws_is_named_before_all_else_that_became_of_images():
    words = said(content=content(edges=(0.5, 0.5), structure=(1.0, 0.94)))
    drawn = (
        "FDA (6% of the contrast behind it) changes structure: edges appear where the image has none or the opposite, "
        "which no tone curve can make. Look at the images for what was drawn, findings included."
    )
    assert words.index(drawn) + 1 == words.index("CDF changes edges: look at the images.")
    assert not any("FDA change" in one for one in words if one != drawn)
    both = said(content=content(structure=(0.8, 0.4)))
    assert any(one.startswith("FDA (60% of the contrast behind it) and CDF (20% of") for one in both)
    assert any("change structure" in one for one in both)


@pytest.mark.parametrize("kept", [0.95, 1.0, np.nan])
def test_who_keeps_structure_on_every_scanner_is_not_said_to_draw(kept):
    assert not any("structure" in one for one in said(content=content(structure=(kept, kept))))


def test_content_without_ranks_or_without_rows_is_passed_over():
    constant = content()
    constant.loc[constant["measure"] == "rank agreement", "value"] = np.nan
    assert said(content=constant) == said(content=NOTHING) == said()


def test_controls_that_pass_are_said_to():
    assert said()[-1] == "All controls came out as they should."


@pytest.mark.parametrize(
    ("failed", "sentence"),
    [
        ((HALVES, TOLD_APART, "CDF"), "Control failed: CDF made a difference between two halves of one scanner."),
        (
            (PERMUTED, "highest AUC of a scanner (B)", "CDF"),
            "Control failed: CDF made shuffled labels predictable, so it can write labels into images.",
        ),
        (
            (HALVES, AREA_CHANGES, "CDF"),
            "The AUC changes by CDF (+0.070) between two halves of one scanner too: as much of what it does is not "
            "harmonizing scanners.",
        ),
        (
            (SCANNER_ALONE, "AUC over all scanners together", ""),
            "The scanner alone predicts the label with an AUC of 0.80 (0.78 to 0.82): so much can leak into a figure "
            "that pools scanners.",
        ),
        (
            (POOLED_SCANNERS, "AUC over all together, less that within scanners", "none"),
            "A classifier trained and tested on all scanners together gains 0.12 (0.10 to 0.14) in AUC over what it is "
            "worth within a scanner: that gain has leaked.",
        ),
    ],
)
def test_each_control_that_fails_is_said_in_its_own_words(failed, sentence):
    words = said(controls=controls(failed))
    assert sentence in words
    assert "All controls came out as they should." not in words
    assert len(words) == len(said())


def test_controls_that_were_not_asked_for_are_not_spoken_of_and_one_that_could_not_be_is():
    none = pd.DataFrame(columns=CONTROL_COLUMNS)
    assert not any("control" in one.lower() for one in said(controls=none, asked_controls=False))
    assert "The control on halves of one scanner could not be asked: the reference has fewer than 16 patients." in said(
        controls=none
    )


def test_what_stops_comes_before_everything():
    grave = [Caution("label and scanner confounded", "stop", "", "", ""), Caution("small", "look", "", "", "")]
    assert said(cautions=grave)[0] == ("Before any figure is believed: label and scanner confounded. See the cautions.")
    assert said(cautions=grave[1:])[0].startswith("Scanners can be told apart")


def test_long_lists_are_cut():
    many = [Caution(f"caution {i}", "stop", "", "", "") for i in range(7)]
    assert "caution 0, caution 1, caution 2, caution 3 and 3 more." in said(cautions=many)[0]
