"""What images were made for: further processing, or somebody's eyes.

A detector's raw signal and the picture that the vendor's software makes of it share scanner, matrix and bits, but not
one tone curve (Presentation Intent Type (0008,0068), PS3.3 C.8.11.1.1.1). Statistics over both describe neither.
"""

from __future__ import annotations

from collections.abc import Sequence

from xray_harmonize.exceptions import InvalidParameterError

_INTENTS = ("FOR PROCESSING", "FOR PRESENTATION")


def check_one_intent(intents: Sequence[object], names: Sequence[object]) -> None:
    """Refuse a set of images that were made for different ends.

    Parameters
    ----------
    intents : sequence of str or None
        Presentation Intent Type of each image. Images that do not tell (computed radiography has no such attribute) go
        with either.
    names : sequence
        What errors call the images, one each.

    Raises
    ------
    InvalidParameterError
        Some are FOR PROCESSING, some FOR PRESENTATION.

    Examples
    --------
    >>> check_one_intent(["FOR PROCESSING", None], ["a.dcm", "b.dcm"])
    """
    told = [intent.strip().upper() if isinstance(intent, str) else "" for intent in intents]
    if not all(intent in told for intent in _INTENTS):
        return
    processing, presentation = (f"{told.count(one)} {one} (first {names[told.index(one)]})" for one in _INTENTS)
    raise InvalidParameterError(
        f"The set holds {processing} and {presentation} by Presentation Intent Type (0008,0068), expected one kind: "
        "raw and processed images of one scanner have different tone curves. "
        "Leave one kind out, or pass mixed_intent=True."
    )
