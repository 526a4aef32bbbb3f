"""What the GDCE study looks at: simulated cohorts, and the user's own folders of EMBED and RSNA.

Everything is cropped to the body once, so that rows differ in tone alone, and so that whoever has real images reads
each file once.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Memory

from xray_harmonize import CropForeground, ImageSet, make_cohort
from xray_harmonize.catalog import embed, rsna
from xray_harmonize.catalog.selection import Selection, write_table
from xray_harmonize.datasets.cohort import Cohort
from xray_harmonize.datasets.physics import Acquisition
from xray_harmonize.datasets.responses import ToneResponse
from xray_harmonize.datasets.vendors import VendorPreset

SENOGRAPH, CLEARVIEW = "senograph-like", "clearview-like"
SOURCES = (SENOGRAPH, CLEARVIEW)
WINDOW_COLUMNS = ("window_center", "window_width", "voi_lut_function")

# Between the two in range and in bend, and like neither: nothing is ever fitted to it but where it says so.
BETWEEN = VendorPreset(
    "between-like",
    "density",
    Acquisition(30.0, 75.0, "W", (("Rh", 0.05),), "CsI", scatter=0.055, blur_mm=0.7),
    ToneResponse("power", (0.0, 5.2), strength=1.0, gamma=1.2, output_range=(0.0, 0.6), bits_stored=14, window="body"),
)


@dataclass(frozen=True)
class Images:
    """Images of several scanners with their labels, cropped to the body.

    Parameters
    ----------
    X : ImageSet
    y : ndarray of shape (n,)
    reference : str
    test_only : tuple of (scanner, label)
        Cells of which nothing may be learned in the part "absent".
    cohort : Cohort or None
        Where the images are simulated: with the truth, and not cropped.
    """

    X: ImageSet
    y: np.ndarray
    reference: str
    test_only: tuple[tuple[str, object], ...] = ()
    cohort: Cohort | None = None

    @property
    def sources(self) -> list[str]:
        """All scanners but the reference, by name."""
        return sorted(set(self.X.scanner) - {self.reference})

    def of(self, *scanners: str) -> Images:
        """Give the images of some scanners alone."""
        chosen = np.flatnonzero(np.isin(self.X.scanner, scanners))
        return Images(self.X[chosen], self.y[chosen], self.reference)


def simulated(task: str, n_patients: int, size: int, cache: Path, third: bool = False) -> Images:
    """Simulate mammograms ("density") or chest radiographs ("pneumonia") on the task's scanners.

    Parameters
    ----------
    task : {"density", "pneumonia"}
    n_patients : int
        Patients of each scanner, the classes in turn.
    size : int
        Height and width in pixels.
    cache : path
        Folder that keeps cohorts once they are made, which takes minutes.
    third : bool
        Whether the scanner :data:`BETWEEN` is among them.
    """
    scanners = ["reference", SENOGRAPH, CLEARVIEW, BETWEEN] if third else None
    make = Memory(cache / "cohorts", verbose=0).cache(make_cohort)
    cohort = make(task, scanners, n_patients=n_patients, size=size, random_state=7)
    # As in the published study, the rare ends of the scale are missing from the sources, and only from these.
    rare = [(name, label) for name in SOURCES for label in "AD"] if task == "density" else []
    return Images(cropped(cohort.images), cohort.labels, cohort.reference, tuple(rare), cohort)


def two_halves(images: Images) -> Images:
    """Give the reference's images as if two scanners had made them: every class is dealt to both in turn."""
    own = images.of(images.reference)
    scanner = np.full(len(own.y), "first half", dtype=object)
    for label in np.unique(own.y):
        scanner[np.flatnonzero(own.y == label)[1::2]] = "second half"
    return Images(in_memory(own.X, scanner), own.y, "first half")


def embed_images(metadata: Path, clinical: Path, folder: Path, n: int, size: int) -> Images:
    """Read the density study's mammograms from tables and folder of EMBED, within `size` pixels."""
    selection = embed.embed_table(metadata, clinical, images=folder, n=n)
    return _read(selection, folder, "Selenia", size, embed.TEST_ONLY)


def rsna_images(folder: Path, labels: Path, mapping: Path | None, n: int, size: int) -> Images:
    """Read the pneumonia study's radiographs from the folder of the challenge, within `size` pixels."""
    selection = rsna.rsna_table(folder, labels, mapping=mapping, n=n)
    return _read(selection, folder, "Brand Y", size, ())


def cropped(X: ImageSet, size: int | None = None) -> ImageSet:
    """Crop to the body, within `size` pixels where it is given."""
    return CropForeground(size=size).fit(X).transform(X)


def _read(
    selection: Selection, folder: Path, reference: str, size: int, test_only: tuple[tuple[str, object], ...]
) -> Images:
    with tempfile.TemporaryDirectory() as beside:
        table = Path(beside) / "labels.csv"
        write_table(selection.images, table)
        X = ImageSet.from_folder(folder, table)
    print(selection.flow.to_string(index=False))
    return Images(in_memory(cropped(X, size)), X.label, reference, test_only)


def in_memory(X: ImageSet, scanner: np.ndarray | None = None) -> ImageSet:
    """Read every file once, however many methods look at it; `scanner` renames who made the images."""
    radiographs = [X.radiograph(i) for i in range(len(X))]
    windows = {name: [one.meta.get(name) for one in radiographs] for name in WINDOW_COLUMNS}
    return ImageSet(
        [one.pixels for one in radiographs],
        scanner=X.scanner if scanner is None else scanner,
        patient=X.patient,
        bits_stored=np.array([one.bits_stored for one in radiographs]),
        mask=[one.mask for one in radiographs],
        meta=X.meta.assign(**windows),
    )
