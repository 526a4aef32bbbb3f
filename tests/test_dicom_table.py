"""Every stage of PS3.3 C.11 against every other, compared with the standard's own arithmetic on single numbers."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from dicom_factory import make_dicom, modality_lut
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from xray_harmonize.dicom.read import read_dicom

MODALITIES: dict[str, tuple[float, float] | None] = {
    "no rescale": (1.0, 0.0),
    "slope 1": (1.0, -1024.0),
    "slope -1": (-1.0, 700.0),
    "slope 2.5": (2.5, 3.0),
    "slope -0.25": (-0.25, 40.0),
    "modality LUT": None,
}
# function and number of windows
WINDOWS = {
    "window, no function": (None, 1),
    "LINEAR": ("LINEAR", 1),
    "LINEAR, three": ("LINEAR", 3),
    "LINEAR_EXACT": ("LINEAR_EXACT", 1),
    "LINEAR_EXACT, three": ("LINEAR_EXACT", 3),
    "SIGMOID": ("SIGMOID", 1),
    "SIGMOID, three": ("SIGMOID", 3),
}
VOI_LUT_BITS = {"VOI LUT of 8 bits": 8, "VOI LUT of 12 bits": 12, "VOI LUT of 16 bits": 16}
# of stored values, counted from the smallest: value and range limit
PADDINGS = {"no padding": (None, None), "padding": (3, None), "padding range": (9, 2)}

FACTORS = {
    "photometric": ["MONOCHROME1", "MONOCHROME2"],
    "shape": ["no shape", "shape"],
    "modality": list(MODALITIES),
    "voi": ["nothing", *WINDOWS, *VOI_LUT_BITS, "VOI LUT and window"],
    "bits": [8, 10, 12, 16],
    "signed": [False, True],
    "padding": list(PADDINGS),
}
# 11 shares no factor with the number of combinations, so that any of the factors goes round
STRIDE = 11


class Case(NamedTuple):
    """One combination."""

    photometric: str
    shape: str
    modality: str
    voi: str
    bits: int
    signed: bool
    padding: str


CASES = [Case(*values) for values in itertools.islice(itertools.product(*FACTORS.values()), 0, None, STRIDE)]


def test_table_brings_any_two_values_of_its_factors_together() -> None:
    for (one, first), (other, second) in itertools.combinations(FACTORS.items(), 2):
        met = {(getattr(case, one), getattr(case, other)) for case in CASES}
        assert met == set(itertools.product(first, second))


# ---------------------------------------------------------------- the truth, one number at a time


def modality_value(v: int, case: Case, table: list[int], first: int) -> float:
    """C.11.1.1: rescale, or the entry of the table."""
    rescale = MODALITIES[case.modality]
    if rescale is None:
        return float(table[min(max(v - first, 0), len(table) - 1)])
    return rescale[0] * v + rescale[1]


def windowed(x: float, c: float, w: float, function: str | None) -> float:
    """C.11.2.1.2 and C.11.2.1.3, to [0, 1]."""
    if function == "SIGMOID":
        exponent = -4 * (x - c) / w
        return 0.0 if exponent > 700 else 1 / (1 + math.exp(exponent))
    if function == "LINEAR_EXACT":
        if x <= c - w / 2:
            return 0.0
        return 1.0 if x > c + w / 2 else (x - c) / w + 0.5
    if x <= c - 0.5 - (w - 1) / 2:
        return 0.0
    return 1.0 if x > c - 0.5 + (w - 1) / 2 else (x - (c - 0.5)) / (w - 1) + 0.5


def looked_up(x: float, table: list[int], first: int, bits: int) -> float:
    """C.11.2.1.1, to [0, 1]."""
    entry = table[min(max(math.floor(x + 0.5) - first, 0), len(table) - 1)]
    return entry / (2**bits - 1)


# ---------------------------------------------------------------- the files


def voi_lut(table: list[int], first: int, bits: int) -> Sequence:
    sequence = modality_lut(np.array(table), first, width=bits, signed=first < 0)
    decoy = Dataset()
    decoy.add_new("LUTDescriptor", "SS" if first < 0 else "US", [2, first, 16])
    decoy.add_new("LUTData", "OW", b"\xff\xff\0\0")
    return Sequence([sequence[0], decoy])


def built(case: Case, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """Stored values, attributes of the file, and what the truth needs to know."""
    low = -(2 ** (case.bits - 1)) if case.signed else 0
    high = low + 2**case.bits - 1
    values = rng.integers(low, high, 16, endpoint=True)
    values[:7] = [low, high, low + 2, low + 3, low + 9, low + 10, high - 1]
    stored = values.reshape(4, 4).astype(f"{'i' if case.signed else 'u'}{1 if case.bits == 8 else 2}")

    attributes: dict[str, Any] = {}
    if case.shape == "shape":
        attributes["PresentationLUTShape"] = "INVERSE" if case.photometric == "MONOCHROME1" else "IDENTITY"
    table, first = np.sort(rng.integers(0, 1024, 40)).tolist(), low + 5
    table[-1] = 1000
    rescale = MODALITIES[case.modality]
    if rescale is None:
        attributes["ModalityLUTSequence"] = modality_lut(np.array(table), first, signed=case.signed)
        reach = (0.0, 1023.0)
    else:
        ends = [rescale[0] * v + rescale[1] for v in (low, high)]
        reach = (min(ends), max(ends))
        if case.modality != "no rescale":
            attributes |= {"RescaleSlope": str(rescale[0]), "RescaleIntercept": str(rescale[1])}

    middle, span = (reach[0] + reach[1]) / 2, reach[1] - reach[0]
    known: dict[str, Any] = {"table": table, "first": first, "reach": reach}
    if case.voi in WINDOWS or case.voi == "VOI LUT and window":
        function, n_windows = WINDOWS.get(case.voi, ("LINEAR", 1))
        known |= {"center": round(middle + span / 9, 1), "width": round(span / 3 + 2, 1), "function": function}
        attributes["WindowCenter"] = [known["center"], 7.0, -7.0][:n_windows]
        attributes["WindowWidth"] = [known["width"], 20.0, 3.0][:n_windows]
        if function:
            attributes["VOILUTFunction"] = function
    if case.voi in VOI_LUT_BITS or case.voi == "VOI LUT and window":
        bits = VOI_LUT_BITS.get(case.voi, 12)
        length = min(int(span / 2) + 3, 500)
        lut = np.sort(rng.integers(0, 2**bits, length)).tolist()
        known |= {"lut": lut, "lut_first": min(int(middle - length / 2), 60000), "lut_bits": bits}
        attributes["VOILUTSequence"] = voi_lut(lut, known["lut_first"], bits)
    padding, limit = PADDINGS[case.padding]
    if padding is not None:
        attributes["PixelPaddingValue"] = low + padding
    if limit is not None:
        attributes["PixelPaddingRangeLimit"] = low + limit
    known["padding"] = None if padding is None else sorted((low + padding, low + (padding if limit is None else limit)))
    return stored, attributes, known


def truth(v: int, case: Case, voi: str, known: dict[str, Any]) -> float:
    """Fraction of full scale that stored value ``v`` is shown at."""
    x = modality_value(v, case, known["table"], known["first"])
    if voi in ("lut", "auto") and "lut" in known:
        y = looked_up(x, known["lut"], known["lut_first"], known["lut_bits"])
    elif voi in ("window", "auto") and "center" in known:
        y = windowed(x, known["center"], known["width"], known["function"])
    else:
        low, high = known["reach"]
        y = (x - low) / (high - low)
    return 1 - y if case.photometric == "MONOCHROME1" else y


def choices(known: dict[str, Any]) -> list[str]:
    return ["none", "auto"] + ["window"] * ("center" in known) + ["lut"] * ("lut" in known)


@pytest.mark.parametrize("bits", FACTORS["bits"])
def test_pixels_are_those_of_the_standard(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a.dcm"
    for number, case in enumerate(CASES):
        if case.bits != bits:
            continue
        stored, attributes, known = built(case, np.random.default_rng(number))
        make_dicom(path, stored, bits_stored=bits, photometric=case.photometric, **attributes)
        for voi in choices(known):
            image = read_dicom(path, voi=voi)
            full_scale = 2**image.bits_stored - 1
            expected = [[truth(int(v), case, voi, known) * full_scale for v in row] for row in stored]
            assert np.abs(image.pixels - np.array(expected)).max() <= 0.5 + 1e-6, (case, voi)
            if voi != "none" and ("lut" in known or "center" in known):
                assert (image.bits_stored, image.pixels.dtype) == (16, np.uint16)
            elif MODALITIES[case.modality] is not None:
                assert image.bits_stored == bits
            if known["padding"] is None:
                assert image.mask is None
            else:
                low, high = known["padding"]
                assert image.mask is not None
                np.testing.assert_array_equal(image.mask, (stored < low) | (stored > high))
