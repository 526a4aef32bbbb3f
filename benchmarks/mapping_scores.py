"""How near images come to their targets: PSNR and SSIM of each, and tables with intervals over bodies."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd

from xray_harmonize.evaluation.bootstrap import bootstrap_patients, interval

METRICS = ("psnr", "ssim", "psnr_body", "ssim_body")
# Gaussian weights of SSIM: deviation and reach in pixels, and the constants for greys in [0, 1].
_SIGMA, _REACH, _C1, _C2 = 1.5, 5, 0.01**2, 0.03**2


def similarity(image: np.ndarray, target: np.ndarray, body: np.ndarray) -> dict[str, float]:
    """Compare an image with its target, over everything and inside the body.

    Parameters
    ----------
    image, target : ndarray of float32 of shape (height, width)
        In [0, 1].
    body : ndarray of bool of shape (height, width)

    Returns
    -------
    dict
        ``psnr`` and ``psnr_body`` in dB with a range of 1; ``ssim`` and ``ssim_body``, means of :func:`ssim_map`.
    """
    squared = np.square(image - target)
    structure = ssim_map(image, target)
    inner = (slice(_REACH, -_REACH),) * 2
    return {
        "psnr": _psnr(squared),
        "ssim": float(structure[inner].mean(dtype=np.float64)),
        "psnr_body": _psnr(squared[body]),
        "ssim_body": float(structure[inner][body[inner]].mean(dtype=np.float64)),
    }


def ssim_map(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Structural similarity at every pixel, of greys in [0, 1].

    The same as scikit-image's ``structural_similarity(..., data_range=1, gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, full=True)``, several times faster.
    """
    x, y = (np.asarray(one, dtype=np.float32) for one in (image, target))

    def mean(values: np.ndarray) -> np.ndarray:
        side = 2 * _REACH + 1
        return cv2.GaussianBlur(values, (side, side), _SIGMA, borderType=cv2.BORDER_REFLECT)

    mean_x, mean_y = mean(x), mean(y)
    varies_x, varies_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    together = mean(x * y) - mean_x * mean_y
    above = (2 * mean_x * mean_y + _C1) * (2 * together + _C2)
    return above / ((mean_x**2 + mean_y**2 + _C1) * (varies_x + varies_y + _C2))


def _psnr(squared: np.ndarray) -> float:
    # What is equal to the last bit counts as 100 dB.
    return float(-10 * np.log10(max(float(squared.mean(dtype=np.float64)), 1e-10)))


def groups_of(scores: pd.DataFrame) -> dict[str, pd.Series]:
    """Give the groups of test images that tables tell apart: all, and by what the table has columns of."""
    groups = {"all": pd.Series(True, index=scores.index)}
    for column, written in (("body_part", "{}"), ("size", "{} pixels"), ("scanner", "{}")):
        values = sorted(scores[column].unique()) if column in scores else []
        if len(values) > 1:
            groups |= {written.format(value): scores[column] == value for value in values}
    return groups


def score_table(scores: pd.DataFrame, compared_with: str, n_bootstrap: int) -> pd.DataFrame:
    """Give means over bodies and differences to one method, with 95 % intervals over bodies.

    Parameters
    ----------
    scores : DataFrame
        A row a method and image: ``method``, ``image``, ``patient``, :data:`METRICS`, and what groups are told by.
    compared_with : str
        Method that each other's scores are compared with, image by image.
    n_bootstrap : int

    Returns
    -------
    DataFrame
        ``bodies`` (a group), ``method``, ``n``, and each metric with ``_low``, ``_high``; ``<metric>_less`` with both
        is the method's less that of `compared_with`.
    """
    rows = []
    for group, chosen in groups_of(scores).items():
        part = scores[chosen]
        other = part[part["method"] == compared_with].set_index("image")
        for method, of_method in part.groupby("method", sort=False):
            own = of_method.set_index("image")
            patient = own["patient"]
            row = {"bodies": group, "method": method, "n": len(own), "n_patients": patient.nunique()}
            for metric in METRICS:
                row |= _with_interval(metric, own[metric], patient, n_bootstrap)
            for metric in METRICS:
                if method != compared_with:
                    row |= _with_interval(f"{metric}_less", own[metric] - other[metric], patient, n_bootstrap)
            rows.append(row)
    return pd.DataFrame(rows)


def difference(scores: pd.DataFrame, one: str, other: str, metric: str, n_bootstrap: int) -> tuple[float, float, float]:
    """Give the mean of one method less that of another, image by image, with its 95 % interval over bodies."""
    own, others = (scores[scores["method"] == name].set_index("image") for name in (one, other))
    found = _with_interval("", own[metric] - others[metric], own["patient"], n_bootstrap)
    return found[""], found["_low"], found["_high"]


def verdict(
    what: str, value: float, low: float, high: float, goal: str, reached: bool, clear: bool
) -> dict[str, object]:
    """Give a row of the table of verdicts; ``clear`` tells whether the whole interval lies on the value's side."""
    told = ("yes" if clear else "yes, not beyond chance") if reached else ("no" if clear else "no, not beyond chance")
    return {"goal": what, "wanted": goal, "found": value, "low": low, "high": high, "reached": told}


def ahead(
    scores: pd.DataFrame, one: str, others: Sequence[str], metric: str, n_bootstrap: int
) -> list[dict[str, object]]:
    """Tell of whether one method's metric is above that of each other."""
    rows = []
    for other in others:
        value, low, high = difference(scores, one, other, metric, n_bootstrap)
        clear = low > 0 if value > 0 else high < 0
        rows.append(verdict(f"{metric} of {one} less {other}", value, low, high, "above 0", value > 0, clear))
    return rows


def _with_interval(name: str, values: pd.Series, patient: pd.Series, n_bootstrap: int) -> dict[str, float]:
    array = values.to_numpy(dtype=np.float64)
    codes = np.unique(patient.loc[values.index].to_numpy().astype(str), return_inverse=True)[1]
    mean, resampled = bootstrap_patients(
        lambda weight: weight @ array / weight.sum(axis=1), codes, n_bootstrap, random_state=0
    )
    low, high = interval(resampled)
    return {name: float(mean), f"{name}_low": low, f"{name}_high": high}
