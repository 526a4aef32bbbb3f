"""Small images for audits: noise under a smooth body, a spot where the label is 1, and a scanner that brightens."""

from __future__ import annotations

import numpy as np
import pandas as pd

from xray_harmonize import ImageSet
from xray_harmonize.auditing.cohort import Cohort, make_cohort

SIDE = 24


def made(
    counts=(("A", 24), ("B", 20)), *, gap=0.0, spot=0.25, shares=None, images_a_patient=1, seed=0, side=SIDE
) -> tuple[ImageSet, np.ndarray]:
    """Give images of scanners and labels 0 and 1, in turn or by the share of ones a scanner."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side - 0.5
    body = 0.35 + 0.3 * np.exp(-6 * (x**2 + y**2))
    pixels, scanner, patient, labels = [], [], [], []
    for place, (name, count) in enumerate(counts):
        ones = round((0.5 if shares is None else shares[name]) * count)
        for number in range(count):
            label = int(number < ones) if shares is not None else number % 2
            for _ in range(images_a_patient):
                where = rng.uniform(-0.2, 0.2, 2)
                image = body * rng.uniform(0.9, 1.1) + 0.03 * rng.standard_normal((side, side))
                image += label * spot * np.exp(-60 * ((x - where[0]) ** 2 + (y - where[1]) ** 2))
                pixels.append((np.clip(image, 0, 1) ** (1 - place * gap) * 4095).astype(np.uint16))
                scanner.append(name)
                patient.append(f"{name}-{number}")
                labels.append(label)
    meta = pd.DataFrame({"path": [f"{name}/{place}.dcm" for place, name in enumerate(scanner)]})
    X = ImageSet(pixels, scanner=scanner, patient=patient, bits_stored=12, meta=meta)
    return X, np.array(labels)


def cohort_of(X: ImageSet, y=None, *, reference="A", image_size=SIDE, seed=0) -> Cohort:
    return make_cohort(X, y, patient=None, reference=reference, image_size=image_size, random_state=seed)
