"""Tone curves against what one would write or call instead: histograms, lookups, CDF matching, windows, copies.

Run it as ``python benchmarks/tone_speed.py`` on a machine that does nothing else: OpenCV uses all cores. All ways of a
comparison take turns in one process, on one 3000 x 3000 image; a ratio is the median over the rounds of the ratio
within a round. Writes ``benchmarks/results/tone_speed.csv``.

``numpy.copy`` of a uint16 image moves 18 MB through memory that is warm from the round before, while every method here
gives float32 in new memory, 36 MB that the system has to hand over first. ``astype(float32)`` is therefore the least
that any of them could take; both are in the table.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from fourier_speed import radiograph, rows, take_turns
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing
from result_files import write_result
from skimage.exposure import match_histograms

from xray_harmonize import CDFMatching, FullRange, ImageSet, MinMax, Nyul, WindowClamp, ZScore
from xray_harmonize.harmonizers.base import Harmonizer
from xray_harmonize.levels import histogram
from xray_harmonize.tone import ToneCurve

RESULT = Path(__file__).parent / "results" / "tone_speed.csv"
WINDOW = {"window_center": 30000.0, "window_width": 30000.0}

Ways = dict[str, Callable[[], object]]


def numba_ways(image: np.ndarray, table: np.ndarray) -> tuple[Ways, Ways]:
    """Histogram and lookup as compiled loops; nothing where numba is not installed."""
    try:
        from numba import njit
    except ImportError:
        print("numba is not installed; its rows are left out")
        return {}, {}

    @njit
    def count(pixels: np.ndarray) -> np.ndarray:
        counts = np.zeros(65536, np.int64)
        for value in pixels.ravel():
            counts[value] += 1
        return counts

    @njit
    def look_up(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
        out = np.empty(pixels.shape, np.float32)
        for row in range(pixels.shape[0]):
            for column in range(pixels.shape[1]):
                out[row, column] = values[pixels[row, column]]
        return out

    return {"numba loop": lambda: count(image)}, {"numba loop": lambda: look_up(image, table)}


def parts(image: np.ndarray, mask: np.ndarray) -> list[tuple[str, str, Ways]]:
    """Comparisons of the two operations that every tone curve is made of."""
    table = np.linspace(0, 1, 65536).astype(np.float32) ** 2
    curve = ToneCurve(np.linspace(0, 1, 1024), np.linspace(0, 1, 1024) ** 2)
    numba_count, numba_look_up = numba_ways(image, table)
    counts: Ways = {
        "numpy.bincount": lambda: np.bincount(image.ravel(), minlength=65536),
        **numba_count,
        "cv2.calcHist": lambda: cv2.calcHist([image], [0], None, [65536], [0.0, 65536.0]),
        "tone.histogram": lambda: histogram(image),
    }
    masked: Ways = {
        "numpy.bincount": lambda: np.bincount(image[mask], minlength=65536),
        "cv2.calcHist": lambda: cv2.calcHist([image], [0], mask.view(np.uint8), [65536], [0.0, 65536.0]),
        "tone.histogram": lambda: histogram(image, mask=mask),
    }
    lookups: Ways = {
        "numpy.take": lambda: table.take(image),
        "fancy indexing": lambda: table[image],
        **numba_look_up,
        "cv2.LUT": lambda: cv2.LUT(image, table),
        "ToneCurve": lambda: curve(image),
    }
    return [
        ("histogram of uint16", "numpy.bincount", counts),
        ("histogram of uint16 in a mask", "numpy.bincount", masked),
        ("lookup of uint16", "numpy.take", lookups),
    ]


def against_libraries(image: np.ndarray, reference: np.ndarray) -> list[tuple[str, str, Ways]]:
    """Comparisons of whole methods with the libraries that have them."""
    floats, reference_floats = (array.astype(np.float32) / np.float32(65535) for array in (image, reference))
    of_stored, of_floats = CDFMatching().fit([reference]), CDFMatching().fit([reference_floats])
    header = Dataset()
    header.update({"WindowCenter": WINDOW["window_center"], "WindowWidth": WINDOW["window_width"], "BitsStored": 16})
    header.update({"PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0})
    # Most detectors store 12 to 14 bits; tables of so few levels stay in the fastest cache.
    twelve, reference_twelve = image >> 4, reference >> 4
    of_twelve = CDFMatching().fit(ImageSet([reference_twelve], bits_stored=12))
    windowed = ImageSet([image], meta=pd.DataFrame([WINDOW]))
    skimage, pydicom = "skimage match_histograms", "pydicom apply_windowing"
    return [
        (
            "CDF matching of uint16",
            skimage,
            {skimage: lambda: match_histograms(image, reference), "CDFMatching": lambda: of_stored.transform([image])},
        ),
        (
            "CDF matching of uint16, 12 bits",
            skimage,
            {
                skimage: lambda: match_histograms(twelve, reference_twelve),
                "CDFMatching": lambda: of_twelve.transform(ImageSet([twelve], bits_stored=12)),
            },
        ),
        (
            "CDF matching of float32",
            skimage,
            {
                skimage: lambda: match_histograms(floats, reference_floats),
                "CDFMatching": lambda: of_floats.transform([floats]),
            },
        ),
        (
            "display window of uint16",
            pydicom,
            {
                pydicom: lambda: apply_windowing(image, header),
                "WindowClamp": lambda: WindowClamp().transform(windowed),
            },
        ),
    ]


def against_copies(image: np.ndarray, reference: np.ndarray) -> tuple[str, str, Ways]:
    """Comparison of every global method with copying the image."""
    methods: list[Harmonizer] = [
        FullRange(),
        MinMax(),
        MinMax(percentiles=(1, 99), foreground="otsu"),
        ZScore(),
        WindowClamp(),
        WindowClamp(window=(0.5, 0.5)),
        CDFMatching(),
        CDFMatching(foreground="otsu", smoothness=0.02, max_slope=4.0),
        CDFMatching(scope="scanner"),
        Nyul(),
    ]
    X = ImageSet([image], "A")
    ways: Ways = {"numpy.copy": image.copy, "astype(float32), copied": lambda: image.astype(np.float32, copy=True)}
    for method in methods:
        ways[str(method)] = partial(method.fit(ImageSet([reference], "A")).transform, X)
    return f"copy of {image.dtype}", "numpy.copy", ways


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=3000, help="side of the image in pixels")
    parser.add_argument("--rounds", type=int, default=11, help="rounds that medians are taken over")
    options = parser.parse_args()
    floats, reference_floats = radiograph(options.size, 0, 0.2), radiograph(options.size, 1, 0.35)
    image, reference = (np.rint(array * 65535).astype(np.uint16) for array in (floats, reference_floats))
    mask = np.ones(image.shape, dtype=bool)
    mask[: options.size // 10] = False
    comparisons = [
        *parts(image, mask),
        *against_libraries(image, reference),
        against_copies(image, reference),
        against_copies(floats, reference_floats),
    ]
    table = []
    for threads in sorted({1, cv2.getNumThreads()}):
        cv2.setNumThreads(threads)
        for group, baseline, ways in comparisons:
            # Sorting millions of floats takes seconds, so that a few rounds are enough.
            rounds = min(options.rounds, 3) if group == "CDF matching of float32" else options.rounds
            table += [{"threads": threads, **row} for row in rows(group, baseline, take_turns(ways, rounds))]
    frame = pd.DataFrame(table)
    frame.insert(0, "pixels", f"{options.size} x {options.size}")
    frame.insert(6, "times_baseline", 1 / frame["faster_than_baseline"])
    with pd.option_context("display.width", 200):
        print(frame.drop(columns=["pixels", "baseline", "rounds"]).to_string(index=False, float_format="{:.3g}".format))
    write_result(RESULT, frame, f"python {shlex.join(sys.argv)}")


if __name__ == "__main__":
    main()
