"""FourierSwap against the whole transforms it avoids, and MultiBand against Gaussians on every pixel.

Run it as ``python benchmarks/fourier_speed.py``. All ways take turns in one process, on one 2048 x 2048 float32 image;
a ratio is the median over the rounds of the ratio within a round. Writes ``benchmarks/results/fourier_speed.csv``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.fft
from result_files import write_result
from scipy.ndimage import gaussian_filter

from xray_harmonize.exceptions import XRayHarmonizeWarning
from xray_harmonize.harmonizers.bands import MultiBand, band_sigmas
from xray_harmonize.harmonizers.fourier import FourierSwap

RESULT = Path(__file__).parent / "results" / "fourier_speed.csv"


def radiograph(size: int, seed: int, contrast: float) -> np.ndarray:
    """Texture on every scale with noise on top, float32 in [0, 1]."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None] * size, np.fft.rfftfreq(size) * size)
    texture = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) / np.maximum(frequency, 1) ** 1.4)
    texture *= contrast / np.abs(texture).max()
    return (0.5 + texture + 0.005 * rng.standard_normal((size, size))).clip(0, 1).astype(np.float32)


def plain_swap(source: np.ndarray, target_amplitude: np.ndarray, b: int) -> np.ndarray:
    """Swap as it is usually written; ``target_amplitude`` is shifted to the centre already."""
    spectrum = np.fft.fft2(source)
    amplitude, phase = np.fft.fftshift(np.abs(spectrum)), np.angle(spectrum)
    height, width = source.shape
    window = np.s_[height // 2 - b : height // 2 + b + 1, width // 2 - b : width // 2 + b + 1]
    amplitude[window] = target_amplitude[window]
    return np.clip(np.fft.ifft2(np.fft.ifftshift(amplitude) * np.exp(1j * phase)).real, 0, 1)


def plain_swap_of_two(source: np.ndarray, target: np.ndarray, b: int) -> np.ndarray:
    """Swap as published, which transforms the target image each time."""
    return plain_swap(source, np.fft.fftshift(np.abs(np.fft.fft2(target))), b)


def whole_real_swap(source: np.ndarray, target_amplitude: np.ndarray, b: int) -> np.ndarray:
    """Swap with whole real transforms, touching the window alone; ``target_amplitude`` is that of ``rfft2``."""
    spectrum = scipy.fft.rfft2(source)
    rows = np.r_[: b + 1, source.shape[0] - b : source.shape[0]]
    part = spectrum[rows, : b + 1]
    spectrum[rows, : b + 1] = part * (target_amplitude[rows, : b + 1] / np.abs(part))
    return np.clip(scipy.fft.irfft2(spectrum, s=source.shape, overwrite_x=True), 0, 1)


def plain_split(source: np.ndarray, sigmas: np.ndarray) -> list[np.ndarray]:
    """Gaussians of doubling width on every pixel: what one round of MultiBand would need without coarser grids."""
    lows = [source, *(gaussian_filter(source, sigma) for sigma in sigmas)]
    return [finer - coarser for finer, coarser in pairwise(lows)]


def take_turns(ways: dict[str, Callable[[], object]], n_rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of every way in every round, after one round that warms up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(n_rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: np.array(values[1:]) for name, values in times.items()}


def rows(group: str, baseline: str, times: dict[str, np.ndarray]) -> list[dict[str, object]]:
    """Table rows: median time of every way and how many times faster it is than the baseline."""
    return [
        {
            "comparison": group,
            "way": name,
            "median_ms": float(np.median(values)),
            "faster_than_baseline": float(np.median(times[baseline] / values)),
            "baseline": baseline,
            "rounds": len(values),
        }
        for name, values in times.items()
    ]


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048, help="side of the image in pixels")
    parser.add_argument("--rounds", type=int, default=9, help="rounds that medians are taken over")
    options = parser.parse_args()
    source, target = radiograph(options.size, 0, 0.2), radiograph(options.size, 1, 0.35)
    amplitude = np.fft.fftshift(np.abs(np.fft.fft2(target)))
    real_amplitude = np.abs(scipy.fft.rfft2(target))
    b = int(options.size * 0.01)
    swap = FourierSwap(beta=0.01).fit([target])
    reflected, cosines = (FourierSwap(**other).fit([target]) for other in ({"padding": "reflect"}, {"mode": "dct"}))
    difference = float(np.abs(swap.transform([source])[0] - plain_swap(source, amplitude, b)).max())
    table = rows(
        "beta 0.01",
        "numpy, two transforms",
        take_turns(
            {
                "numpy, two transforms": lambda: plain_swap(source, amplitude, b),
                "numpy, target transformed too": lambda: plain_swap_of_two(source, target, b),
                "scipy, whole real transforms": lambda: whole_real_swap(source, real_amplitude, b),
                "FourierSwap.transform": lambda: swap.transform([source]),
                "FourierSwap.transform, reflect": lambda: reflected.transform([source]),
                "FourierSwap.transform, dct": lambda: cosines.transform([source]),
                "numpy.copy": lambda: source.copy(),
            },
            options.rounds,
        ),
    )
    for beta in (0.02, 0.04, 0.08, 0.16):
        wider, cycles = FourierSwap(beta=beta).fit([target]), int(options.size * beta)
        ways = {
            "scipy, whole real transforms": lambda c=cycles: whole_real_swap(source, real_amplitude, c),
            "FourierSwap.transform": lambda w=wider: w.transform([source]),
        }
        table += rows(f"beta {beta:g}", "scipy, whole real transforms", take_turns(ways, options.rounds))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XRayHarmonizeWarning)
        # No image gets this close, so each takes as many rounds as it may; a radiograph usually takes 1 to 3.
        few, many = (MultiBand(tolerance=1e-9, max_iter=n).fit([target]) for n in (2, 20))
        sigmas = band_sigmas(source.shape, few.n_bands, few.base_sigma)
        # A split takes so long that one is enough.
        times = take_turns({"scipy, one split on every pixel": lambda: plain_split(source, sigmas)}, 1)
        ways = {
            "MultiBand.transform, 2 rounds": lambda: few.transform([source]),
            "MultiBand.transform, 20 rounds": lambda: many.transform([source]),
        }
        times |= take_turns(ways, options.rounds)
        table += rows("bands", "scipy, one split on every pixel", times)
    frame = pd.DataFrame(table)
    frame.insert(0, "pixels", f"{options.size} x {options.size} float32")
    print(frame.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    print(f"largest difference between FourierSwap and numpy at beta 0.01: {difference:.2g}")
    write_result(RESULT, frame, f"python {shlex.join(sys.argv)}")


if __name__ == "__main__":
    main()
