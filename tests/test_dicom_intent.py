"""Images for processing and images for presentation do not mix by accident."""

from __future__ import annotations

import pytest

from xray_harmonize.dicom.intent import check_one_intent
from xray_harmonize.exceptions import InvalidParameterError


@pytest.mark.parametrize(
    "intents",
    [
        [],
        [None, None],
        ["FOR PROCESSING", None, "FOR PROCESSING"],
        ["FOR PRESENTATION", None, "", " for presentation "],
        ["FOR PROCESSING", "SOMETHING ELSE", float("nan")],
    ],
)
def test_one_intent_and_images_that_do_not_tell_go_together(intents: list[object]) -> None:
    check_one_intent(intents, list(range(len(intents))))


def test_mixed_intents_are_refused_with_the_first_of_each() -> None:
    intents = [None, "FOR PRESENTATION", "for processing", "FOR PRESENTATION "]
    with pytest.raises(
        InvalidParameterError,
        match=r"holds 1 FOR PROCESSING \(first c\.dcm\) and 2 FOR PRESENTATION \(first b\.dcm\) by Presentation Intent "
        r"Type \(0008,0068\), expected one kind: .*mixed_intent=True",
    ):
        check_one_intent(intents, ["a.dcm", "b.dcm", "c.dcm", "d.dcm"])
