"""Cautions that save a paper: what in a data set makes a comparison of harmonizers say less than it seems to.

Each is a question asked of images, labels, scanners and patients, answered before anything is fitted. :func:`cautions`
asks all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from xray_harmonize.evaluation.patients import is_missing, one_a_row
from xray_harmonize.exceptions import MissingScannerError
from xray_harmonize.images import ImageSet
from xray_harmonize.levels import histogram

SEVERITIES = ("stop", "look", "note")
FEWEST_PATIENTS = 20
"""A scanner or class with fewer patients has intervals that say nothing."""
CONFOUNDED, MUCH_CONFOUNDED = 0.1, 0.3
"""Cramer's V from which labels and scanners go together slightly, and much (Cohen 1988: small, medium)."""

_LOOKED_AT = 40  # images of a scanner whose pixels are looked at
_SHOWN = 4
_GREYS = 256
_EQUALIZED_DISTANCE = 0.02
_LEAST_GREYS = 16
_CORNER = 0.3
_LEAST_ISLAND, _LARGEST_ISLAND = 0.006, 0.15  # of a corner's pixels
_MOST_MARKED, _MORE_MARKED = 0.6, 0.4


@dataclass(frozen=True, slots=True)
class Caution:
    """One thing to know before a figure is believed.

    Parameters
    ----------
    name : str
        Short name, the same for every data set.
    severity : {"stop", "look", "note"}
        "stop": figures are wrong as they stand. "look": they may be. "note": know it.
    what : str
        What was found, with numbers.
    means : str
        What it does to a comparison.
    do : str
        What to do about it.
    """

    name: str
    severity: str
    what: str
    means: str
    do: str


def cautions(
    X: ImageSet,
    y: ArrayLike | None = None,
    *,
    scanner: ArrayLike | None = None,
    patient: ArrayLike | None = None,
    fitted_on: Iterable[Any] | None = None,
) -> list[Caution]:
    """Ask everything that can be asked of a data set.

    Parameters
    ----------
    X : ImageSet
        Images to be harmonized or compared.
    y : array-like of shape (n,), optional
        Labels; what is about labels is left out without.
    scanner, patient : array-like of shape (n,), optional
        ``X.scanner`` and ``X.patient`` by default.
    fitted_on : iterable of patients, optional
        Whose images a harmonizer was fitted to that is to be tested on X.

    Returns
    -------
    list of Caution
        The gravest first.

    Raises
    ------
    MissingScannerError
        If nothing tells the scanners.
    InvalidParameterError
        If labels, scanners or patients differ in number from the images.

    Examples
    --------
    >>> X = ImageSet(np.random.default_rng(0).random((40, 8, 8)), scanner=["A"] * 20 + ["B"] * 20)
    >>> found = cautions(X, [0] * 20 + [1] * 20)
    >>> found[0].name, found[0].severity
    ('label and scanner confounded', 'stop')
    """
    given = X.scanner if scanner is None else scanner
    if given is None:
        raise MissingScannerError("Nothing tells the scanners: pass scanner=, or an ImageSet with scanner.")
    scanners = one_a_row(given, len(X), "scanner").astype(str)
    known = X.patient if patient is None else patient
    patients = None if known is None else one_a_row(known, len(X), "patient")
    labels = None if y is None else one_a_row(y, len(X), "y")
    asked: list[Caution | None] = [
        small_groups(scanners, labels, patients),
        shared_patients(scanners, patients),
        unknown_patients(patients),
        fitted_on_test(patients, fitted_on),
        mixed_intents(X, scanners),
        *processed(X, scanners),
        burnt_in_markers(X, scanners),
    ]
    if labels is not None:
        asked += [confounded(labels, scanners), missing_classes(labels, scanners)]
    return sorted((one for one in asked if one is not None), key=lambda one: SEVERITIES.index(one.severity))


# -- labels, scanners, patients -------------------------------------------------------------------------------------


def cramers_v(a: ArrayLike, b: ArrayLike) -> float:
    """Cramer's V of two labels, corrected for bias (Bergsma 2013): 0 if independent, 1 if one tells the other.

    Examples
    --------
    >>> cramers_v(["x", "x", "y", "y"] * 10, [0, 0, 1, 1] * 10) > 0.95
    True
    """
    table = pd.crosstab(np.asarray(a), np.asarray(b)).to_numpy(dtype=float)
    n = table.sum()
    rows, columns = table.shape
    if min(rows, columns) < 2 or n < 2:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi2 = float((np.square(table - expected) / expected).sum() / n)
    unbiased = max(phi2 - (rows - 1) * (columns - 1) / (n - 1), 0.0)
    spread = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    return float(np.sqrt(unbiased / spread)) if spread > 0 else 0.0


def confounded(labels: np.ndarray, scanners: np.ndarray) -> Caution | None:
    """Whether scanners differ in how often they hold each class."""
    v = cramers_v(labels, scanners)
    if v < CONFOUNDED:
        return None
    counts = pd.crosstab(scanners, labels, normalize="index")
    shares = [
        f"{name}: " + ", ".join(f"{share:.0%} {label}" for label, share in row.items())
        for name, row in counts.iterrows()
    ]
    return Caution(
        "label and scanner confounded",
        "stop" if v >= MUCH_CONFOUNDED else "look",
        f"Labels and scanners go together (Cramer's V {v:.2f}; 0 is none, 1 is complete): {_some(shares, '; ')}.",
        "A classifier can score by telling the scanner. Harmonizing takes that away and looks harmful, or writes the "
        "mix of classes into the images and looks helpful.",
        "Draw the same share of every class from every scanner, look at the figures within each scanner alone, and "
        "at the permuted-label control.",
    )


def missing_classes(labels: np.ndarray, scanners: np.ndarray) -> Caution | None:
    """Whether some scanner lacks a class that another has."""
    counts = pd.crosstab(scanners, labels)
    lacking = [
        f"{name} has no {', '.join(map(str, counts.columns[row.to_numpy() == 0]))}"
        for name, row in counts.iterrows()
        if (row == 0).any()
    ]
    if not lacking:
        return None
    return Caution(
        "classes missing on a scanner",
        "look",
        f"Not every scanner has every class: {_some(lacking, '; ')}.",
        "Grey values are matched to those of another mix of bodies, which moves images of the classes that are there; "
        "an AUC of a scanner with one class does not exist.",
        "Add images of the missing classes, or compare on the classes that all scanners have.",
    )


def small_groups(scanners: np.ndarray, labels: np.ndarray | None, patients: np.ndarray | None) -> Caution | None:
    """Whether a scanner, or a class on a scanner, has too few patients for a figure."""
    who = np.arange(len(scanners)).astype(object) if patients is None else patients.copy()
    gaps = is_missing(who)
    who[gaps] = [f"image {i}" for i in np.flatnonzero(gaps)]
    table = pd.DataFrame({"scanner": scanners, "patient": who.astype(str)})
    groups: list[str] = ["scanner"]
    if labels is not None:
        table["label"] = labels
        groups.append("label")
    n_patients = table.groupby(groups)["patient"].nunique()
    few = n_patients[n_patients < FEWEST_PATIENTS]
    if few.empty:
        return None
    shown = [f"{_joined(key)}: {count}" for key, count in few.items()]
    return Caution(
        "groups too small",
        "look",
        f"Fewer than {FEWEST_PATIENTS} patients in {_some(shown)}.",
        "Intervals of these groups are wider than any effect, and the worst group is the luckiest or unluckiest one.",
        "Read intervals, not figures; pool such scanners, or collect more before deciding by them.",
    )


def shared_patients(scanners: np.ndarray, patients: np.ndarray | None) -> Caution | None:
    """Whether somebody was imaged on several scanners."""
    if patients is None:
        return None
    known = ~is_missing(patients)
    n_scanners = pd.Series(scanners[known]).groupby(patients[known].astype(str)).nunique()
    shared = int((n_scanners > 1).sum())
    if not shared:
        return None
    return Caution(
        "patients on several scanners",
        "note",
        f"{shared} of {len(n_scanners)} patients have images of more than one scanner.",
        "Splits by scanner alone put one person on both sides, and a figure on that person is not one on strangers.",
        "Split by patient, as compare and audit do; do not split these images by scanner yourself.",
    )


def unknown_patients(patients: np.ndarray | None) -> Caution | None:
    """Whether images lack a patient."""
    n_unknown = None if patients is None else int(is_missing(patients).sum())
    if n_unknown == 0:
        return None
    return Caution(
        "patients unknown",
        "look",
        "No image tells its patient." if n_unknown is None else f"{n_unknown} images do not tell their patient.",
        "Each counts as a person of its own. If several are of one person, that person may stand on both sides of a "
        "split, and intervals are too narrow.",
        "Give a patient column or PatientID.",
    )


def fitted_on_test(patients: np.ndarray | None, fitted_on: Iterable[Any] | None) -> Caution | None:
    """Whether a harmonizer has seen the patients it is tested on."""
    if fitted_on is None or patients is None:
        return None
    seen = {str(one) for one in fitted_on}
    tested = set(patients[~is_missing(patients)].astype(str))
    both = sorted(seen & tested)
    if not both:
        return None
    return Caution(
        "harmonizer fitted on test images",
        "stop",
        f"The harmonizer was fitted to images of {len(both)} of the {len(tested)} patients that it is tested on "
        f"({_some(both)}).",
        "It has seen what it is asked about: distances between scanners come out too small, and the gain too large.",
        "Fit it to other patients, or let audit do so: it fits on one half of the patients and measures on the other.",
    )


# -- what the pixels and headers tell ---------------------------------------------------------------------------------


def mixed_intents(X: ImageSet, scanners: np.ndarray) -> Caution | None:
    """Whether raw (FOR PROCESSING) and processed (FOR PRESENTATION) images stand in one set."""
    meta = X.meta
    if "presentation_intent" not in meta:
        return None
    intents = meta["presentation_intent"].astype("string").fillna("unknown").to_numpy(dtype=object)
    kinds = sorted(set(intents) - {"unknown"})
    if len(kinds) < 2:
        return None
    counts = pd.crosstab(scanners, intents)
    shown = [f"{name}: " + ", ".join(f"{n} {kind}" for kind, n in row.items() if n) for name, row in counts.iterrows()]
    return Caution(
        "raw and processed images mixed",
        "stop",
        f"Presentation Intent Type (0008,0068) differs: {_some(shown, '; ')}.",
        "Raw images are proportional to dose, processed ones are what a vendor's software made of it: the difference "
        "between them is larger than that between scanners, and no tone curve undoes local processing.",
        "Keep one kind, or harmonize each by itself.",
    )


def processed(X: ImageSet, scanners: np.ndarray) -> list[Caution]:
    """Whether images are histogram-equalized or have been squeezed into 8 bits, as published JPEG collections are."""
    equalized: dict[str, int] = {}
    eight: dict[str, int] = {}
    looked: dict[str, int] = {}
    for name, i in _sample(scanners):
        radiograph = X.radiograph(i)
        looked[name] = looked.get(name, 0) + 1
        if radiograph.pixels.dtype.kind == "f":
            continue
        counts = histogram(radiograph.pixels, radiograph.bits_stored, radiograph.mask)
        equalized[name] = equalized.get(name, 0) + is_equalized(counts)
        # Few pixels cannot have many values, however many bits they were stored with.
        few = bool(np.count_nonzero(counts) <= min(_GREYS, radiograph.pixels.size // 4))
        eight[name] = eight.get(name, 0) + int(few or len(counts) <= _GREYS)
    found = []
    if any(equalized.values()):
        found.append(
            Caution(
                "already histogram-equalized",
                "stop" if sum(equalized.values()) > sum(looked.values()) / 2 else "look",
                f"Grey values are spread as evenly as by equalizing in {_shares(equalized, looked)} images looked at.",
                "Equalizing has taken the scanner's tone away already, and content with it: a tone curve has nothing "
                "left to match, and whether harmonizing helps cannot be seen. MIMIC-CXR-JPG and CheXpert are so.",
                "Take the DICOM files of the collection.",
            )
        )
    if any(eight.values()):
        found.append(
            Caution(
                "eight bits or fewer",
                "note",
                f"At most {_GREYS} grey values in {_shares(eight, looked)} images looked at.",
                "Somebody has windowed and rounded them: what lay outside of the window is gone, and steep curves show "
                "steps. Gaps between the grey values left can betray the scanner after any tone curve.",
                "Take the DICOM files if there are any; otherwise say in the paper that images were processed.",
            )
        )
    return found


def is_equalized(counts: np.ndarray) -> bool:
    """Whether a histogram is that of an equalized image: its distribution a straight line, with few grey values gone.

    An equalized image's distribution function differs from a straight line by little more than the share of its most
    frequent value, which equalizing can only move.

    Examples
    --------
    >>> is_equalized(np.full(256, 100)), is_equalized(np.exp(-np.linspace(0, 5, 256)) * 1000)
    (True, False)
    """
    used = np.flatnonzero(counts)
    if used.size < _LEAST_GREYS or counts.sum() == 0:
        return False
    shares = counts[used] / counts.sum()
    upper = np.cumsum(shares)
    line = (used + 1) / len(counts)
    # Equalizing maps each value to the share of pixels up to and with it, less that of the darkest, spread anew.
    darkest = shares[0]
    expected = (upper - darkest) / (1 - darkest) if darkest < 1 else upper
    return bool(np.abs(expected - line).max() < _EQUALIZED_DISTANCE)


def burnt_in_markers(X: ImageSet, scanners: np.ndarray) -> Caution | None:
    """Whether a corner holds a plate or letters on one scanner and not on the others.

    A mark is a small island at the top of an image's own grey values within a corner, apart from the body. One scanner
    has marks of its own if most of its images have one in the same corner, and far fewer of every other scanner's do.
    """
    names = sorted(set(scanners))
    if len(names) < 2:
        return None
    marks: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for name, i in _sample(scanners):
        marks[name].append(_corner_marks(X.unit(i) if X[i].dtype.kind != "f" else X[i]))
    shares = {name: np.mean(found, axis=0) for name, found in marks.items()}
    own = []
    for name in names:
        others = np.max([shares[other] for other in names if other != name], axis=0)
        here = (shares[name] >= _MOST_MARKED) & (shares[name] - others >= _MORE_MARKED)
        if len(marks[name]) >= _SHOWN and here.any():
            corner = _CORNERS[int(np.flatnonzero(here)[0])]
            own.append(f"{name} ({shares[name][here].max():.0%} of images, {corner})")
    if not own:
        return None
    return Caution(
        "burnt-in markers",
        "look",
        f"Small bright marks in a corner, far more often than on other scanners: {_some(own)}.",
        "Letters and plates name the scanner to a network, whatever becomes of the grey values, and some (supine, "
        "portable) name the patient's state too.",
        "Crop them off or mask them, and look at a few images.",
    )


_CORNERS = ("top left", "top right", "bottom left", "bottom right")


def _corner_marks(image: np.ndarray) -> np.ndarray:
    """Tell for each of the four corners whether there is a small bright island in it, apart from what is inside."""
    height, width = (max(int(side * _CORNER), 4) for side in image.shape)
    low, high = np.quantile(image, [0.01, 0.995])
    if high <= low:
        return np.zeros(4)
    # Closed, so that the letters of a plate are one island.
    bright = cv2.morphologyEx((image >= low + 0.9 * (high - low)).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3)))
    marks = []
    for down, across in ((False, False), (False, True), (True, False), (True, True)):
        corner = bright[-height:] if down else bright[:height]
        corner = corner[:, -width:] if across else corner[:, :width]
        # Turned so that the image's own corner is at the top left: islands that reach the other edges lead inwards.
        corner = np.ascontiguousarray(corner[:: -1 if down else 1, :: -1 if across else 1])
        _, _, stats, _ = cv2.connectedComponentsWithStats(corner, connectivity=8)
        islands = stats[1:]
        inwards = (islands[:, 0] + islands[:, 2] >= width) | (islands[:, 1] + islands[:, 3] >= height)
        area = islands[~inwards, 4] / corner.size
        marks.append(float(((area >= _LEAST_ISLAND) & (area <= _LARGEST_ISLAND)).any()))
    return np.array(marks)


def _sample(scanners: np.ndarray) -> list[tuple[str, int]]:
    """Give up to 40 images of each scanner, evenly spaced."""
    chosen = []
    for name in sorted(set(scanners)):
        own = np.flatnonzero(scanners == name)
        places = np.unique(np.linspace(0, len(own) - 1, min(_LOOKED_AT, len(own))).round().astype(int))
        chosen += [(str(name), int(i)) for i in own[places]]
    return chosen


def _some(items: Sequence[Any], separator: str = ", ") -> str:
    shown = [str(item) for item in items[:_SHOWN]]
    return separator.join(shown) + (f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")


def _joined(key: Any) -> str:
    return ", ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _shares(counts: dict[str, int], looked: dict[str, int]) -> str:
    return _some([f"{count} of {looked[name]} {name}" for name, count in counts.items() if count])
