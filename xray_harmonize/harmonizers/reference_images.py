"""Which training images show the rendering that all others are brought to."""

from __future__ import annotations

from typing import Any

import numpy as np

from xray_harmonize.exceptions import InvalidParameterError, MissingScannerError, UnknownScannerError
from xray_harmonize.images import ImageSet


def check_reference(reference: Any) -> None:
    """Refuse a reference that is no name.

    Raises
    ------
    InvalidParameterError
    """
    if reference is not None and not isinstance(reference, str):
        raise InvalidParameterError(
            f"reference must be the name of a scanner as text, or None; got {reference!r} ({type(reference).__name__})."
        )


def reference_images(images: ImageSet, reference: str | None, method: str) -> tuple[str | None, np.ndarray]:
    """Find the images of the reference.

    Parameters
    ----------
    images : ImageSet
    reference : str or None
        Scanner; None for the one with most images, of equals the first by name. Without any labels every image counts
        as the reference's.
    method : str
        What errors call the caller, such as ``"ResUNet.fit"``.

    Returns
    -------
    reference : str or None
        None where there are no labels.
    positions : ndarray of int

    Raises
    ------
    MissingScannerError
        If a reference is named but no image has a label.
    UnknownScannerError
        If no image is the reference's.
    InvalidParameterError
        If the reference is no text.

    Examples
    --------
    >>> reference_images(ImageSet(np.zeros((3, 4, 4)), ["B", "A", "B"]), None, "fit")
    ('B', array([0, 2]))
    """
    check_reference(reference)
    if images.scanner is None:
        if reference is not None:
            verb = method.rpartition(".")[2]
            raise MissingScannerError(
                f"{method} needs to know which scanner made each image, to find those of reference={reference!r}. "
                f"Give X as ImageSet(images, scanner=...), or call {verb}(X, scanner=...)."
            )
        return None, np.arange(len(images))
    labels = images.scanner.astype(str)
    names, counts = np.unique(labels, return_counts=True)
    if reference is None:
        reference = str(names[counts.argmax()])
    elif reference not in names:
        raise UnknownScannerError(
            f"reference={reference!r} has no training image; the scanners are {', '.join(names)}. "
            "Choose one of them, or None for the largest."
        )
    return reference, np.flatnonzero(labels == reference)
