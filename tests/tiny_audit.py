"""An audit's result made of small plausible tables, without auditing anything."""

from __future__ import annotations

import numpy as np
import pandas as pd

from xray_harmonize.auditing.result import CONTROL_COLUMNS, AuditResult, Sample
from xray_harmonize.auditing.task import TASK_COLUMNS
from xray_harmonize.evaluation.cautions import Caution
from xray_harmonize.evaluation.content import CONTENT_COLUMNS
from xray_harmonize.evaluation.domain import COLUMNS, MEASURES
from xray_harmonize.tone import ToneCurve

SCANNERS = ("home", "north", "south")
NAMES = ("none", "min-max", "CDF, image", "CDF, scanner", "FDA", "bands, scanner")
# How far each harmonizer closes the gap, from 0 to 1.
CLOSED = (0.0, 0.3, 0.95, 0.8, 0.1, 0.9)


def tiny_audit(
    *,
    scanners=SCANNERS,
    names=NAMES,
    labels=("no", "yes"),
    n_images=24,
    n_samples=2,
    side=32,
    noise=False,
    **changes,
):
    """Give an AuditResult: scanners differ by a gamma, harmonizers close the gap more or less, one fails a control.

    Parameters
    ----------
    scanners, names, labels : sequence of str
        The first scanner is the reference, the first name stands for doing nothing; no labels for an audit without.
    n_images : int
        Points of each embedding.
    n_samples, side : int
        Sample images, and how long their sides are.
    noise : bool
        Whether images are noise, which compresses least.
    changes
        Whatever else shall stand in the result.
    """
    rng = np.random.default_rng(0)
    closed = dict(zip(names, np.resize(CLOSED, len(names)), strict=True))
    gammas = dict(zip(scanners, np.linspace(1, 2.2, len(scanners)), strict=True))
    content = {
        "reference": scanners[0],
        "overview": _overview(scanners, labels, n_images),
        "harmonizers": {name: "images as they came" if name == "none" else f"Method({name!r})" for name in names},
        "domain": _domain(scanners, closed, labels),
        "content": _content(scanners, closed),
        "curves": _curve_checks(scanners, closed),
        "task": _task(scanners, closed) if labels else None,
        "controls": _controls(names),
        "cautions": [
            Caution("label and scanner confounded", "stop", "V is 0.41: home 10 % yes, north 60 % yes.", "A classifier "
                    "can score by telling the scanner.", "Draw the same share of every class from every scanner."),
            Caution("groups too small", "look", "Fewer than 20 patients in south: 8.", "Intervals are wide.",
                    "Read intervals, not figures."),
            Caution("eight bits or fewer", "note", "At most 256 grey values.", "Somebody has rounded them.",
                    "Take the DICOM files."),
        ],
        "conclusions": [
            "Before any figure is believed: label and scanner confounded. See the cautions.",
            "Scanners can be told apart by how they render: a probe reaches balanced accuracy 0.97 (0.93 to 0.99).",
            "On north CDF, image (+0.120, +0.031 to +0.205) helps beyond doubt.",
        ],
        "embeddings": _embeddings(scanners, closed, labels, n_images, rng),
        "histograms": {
            name: {scanner: _density(gamma ** (1 - share)) for scanner, gamma in gammas.items()}
            for name, share in closed.items()
        },
        "tone_curves": {
            name: {
                scanner: [_curve(gamma ** (-share) * (0.9 + 0.02 * i)) for i in range(12)]
                for scanner, gamma in gammas.items()
            } if share and name != "FDA" else {}
            for name, share in closed.items()
        },
        "samples": _samples(scanners, gammas, closed, n_samples, side, rng if noise else None),
        "settings": {"features": "IntensityFeatures()", "permutations": 200, "random_state": 0},
        "versions": {"Python": "3.12.1", "numpy": "2.0"},
    }  # fmt: skip
    return AuditResult(**content | changes)


def _overview(scanners, labels, n_images):
    rows = [{"scanner": name, "n_images": n_images, "n_patients": n_images // 2} for name in scanners]
    return pd.DataFrame([row | {label: n_images // len(labels) for label in labels} for row in rows])


def _domain(scanners, closed, labels):
    rows = []
    for name, share in closed.items():
        for measure, (_, better) in MEASURES.items():
            if measure == "fid" or (measure.endswith("label") and not labels):
                continue
            whole = measure == "probe" or "_label" in measure or "_scanner" in measure
            places = ["all"] if whole else list(scanners) if measure == "probe_recall" else ["all", *scanners[1:]]
            for place in places:
                null = 1 / len(scanners) if measure.startswith("probe") else 0.0
                value = null + (0.97 - null) * (1 - share) if better == "lower" else 0.2
                low, high = value - 0.06, min(value + 0.05, 1.0)
                p = 0.005 if share < 0.9 else 0.31
                rows.append([name, measure, place, value, low, high, p, null, better])
    return pd.DataFrame(rows, columns=["harmonizer", *COLUMNS])


def _content(scanners, closed):
    figures = {
        "edge agreement": 0.98,
        "rank agreement": 0.99,
        "structure agreement": 0.995,
        "PSNR to the input": 24.0,
        "SSIM to the input": 0.8,
    }
    rows = []
    for name, share in closed.items():
        for measure, value in figures.items():
            better = "" if measure.endswith("input") else "higher"
            if not share:
                value = 100.0 if measure.startswith("PSNR") else 1.0
            places = ["all", *scanners]
            rows += [[name, measure, place, value, value * 0.99, value, 24, better] for place in places]
    return pd.DataFrame(rows, columns=["harmonizer", *CONTENT_COLUMNS])


def _curve_checks(scanners, closed):
    rows = [
        [name, scanner, True, 1.5 + share if i else 143_000.0 * (name == "bands, scanner") + 2.0, 0.02, 0.0, 1.0]
        for name, share in closed.items()
        if share and name != "FDA"
        for scanner in scanners
        for i in range(12)
    ]
    columns = ["harmonizer", "scanner", "monotone", "max_slope", "lost", "lowest", "highest"]
    return pd.DataFrame(rows, columns=columns)


def _task(scanners, closed):
    rows = []
    for name, share in closed.items():
        for i, scanner in enumerate(scanners):
            gain = 0.16 * share * i - 0.07 * (name == "FDA") * (i == 0)
            auc = 0.9 - 0.12 * i + gain
            width = 0.06 if i else 0.03
            rows.append(
                [name, scanner, auc, auc - 0.07, auc + 0.05, gain, gain - width, gain + width, 0.02, 24, 12]
            )  # fmt: skip
    return pd.DataFrame(rows, columns=TASK_COLUMNS)


def _controls(names):
    rows = []
    for i, name in enumerate(names):
        value = 0.5 + 0.02 * i
        rows.append(["halves of one scanner", name, "probe of the two halves", value, value - 0.1, value + 0.1,
                     "0.50, no better than permuted halves (p 0.480)", True])  # fmt: skip
        if i:
            change = -0.2 if name == "FDA" else 0.01
            rows.append(["halves of one scanner", name, "change of the AUC", change, change - 0.05, change + 0.05,
                         "0 within the interval", name != "FDA"])  # fmt: skip
    rows += [
        ["permuted labels", name, "highest AUC of a scanner (north)", 0.55, 0.43, 0.69,
         "0.5 within the interval of every scanner", True]
        for name in names
    ]  # fmt: skip
    rows.append(["label from the scanner alone", "", "AUC over all scanners together", 0.48, 0.4, 0.55,
                 "0.5 within the interval", True])  # fmt: skip
    return pd.DataFrame(rows, columns=CONTROL_COLUMNS)


def _embeddings(scanners, closed, labels, n_images, rng):
    scanner = np.resize(np.arange(len(scanners)), n_images)
    label = rng.integers(0, max(len(labels), 1), n_images)
    tables = []
    for name, share in closed.items():
        places = rng.normal(size=(n_images, 2))
        places[:, 0] += 5 * (1 - share) * scanner
        places[:, 1] += 2 * label
        table = pd.DataFrame(places, columns=["x", "y"])
        table.insert(0, "harmonizer", name)
        table["scanner"] = np.array(scanners, dtype=object)[scanner]
        table["label"] = np.array(labels, dtype=object)[label] if labels else ""
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _density(gamma):
    middles = (np.arange(64) + 0.5) / 64
    density = np.exp(-(((middles**gamma - 0.45) / 0.18) ** 2))
    density[0] += 3
    return density * 64 / density.sum()


def _curve(gamma):
    x = np.linspace(0, 1, 33)
    return ToneCurve(x, x**gamma)


def _samples(scanners, gammas, closed, n_samples, side, rng):
    y, x = np.mgrid[-1 : 1 : 1j * side, 0 : 1 : 1j * side]
    body = np.clip(1.1 - (x / 0.8) ** 2 - y**2, 0, 1) * (0.7 + 0.15 * np.sin(14 * x + 9 * y) * np.cos(17 * y - 4 * x))
    samples = []
    for i in range(n_samples):
        scanner = scanners[i % len(scanners)]
        images = {
            name: rng.random((side, side)) if rng else np.clip(body, 0, 1) ** (gammas[scanner] ** (1 - share))
            for name, share in closed.items()
        }
        samples.append(Sample(scanner, f"image {i}", images))
    return samples
