"""How true the maps of the interpretable mapping are, beside what they make of the image."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from mapping_bodies import Presentations
from mapping_longer import learn_longer
from mapping_parts import bodies_to_test, kept, learn
from mapping_setting import Setting, file_name
from scipy.stats import spearmanr

from xray_harmonize import InterpretableMapping
from xray_harmonize.geometry.resampling import resampled
from xray_harmonize.networks.mapping import MAPS, global_lut, regional_lut

# Pixels of a body whose tables are compared, and greys of a table.
_N_PIXELS: Final = 500
_GREYS: Final = torch.linspace(0, 1, 257)
# A body's greys between these shares of its pixels are those that occur.
_OCCURRING: Final = (0.05, 0.95)


def maps_part(setting: Setting) -> None:
    """Compare predicted maps with the true ones, after the main part's training and after three times as long a one."""
    test = bodies_to_test(setting)
    rows = []
    for part, learned in (("main", learn(setting)[0]), ("longer", learn_longer(setting))):
        for name in [name for name in learned if isinstance(learned[name], InterpretableMapping)]:
            steps = learned[name].max_steps
            path = setting.cache / f"maps-{steps}" / f"{file_name(name)}.csv"
            of_bodies = kept(path, lambda mapping=learned[name]: map_rows(mapping, test))
            rows.append({"part": part, "method": name, "steps": steps, "n": len(of_bodies), **summary(of_bodies)})
    table = pd.DataFrame(rows)
    setting.write("maps", table)
    print(table.T.to_string(header=False, float_format="{:.3f}".format))


def map_rows(mapping: Any, shown: Presentations) -> pd.DataFrame:
    """Compare predicted maps with true ones, inside the body and in the resolution in which the true ones are kept.

    Parameters
    ----------
    mapping : InterpretableMapping
        Fitted.
    shown : Presentations
        Test bodies.

    Returns
    -------
    DataFrame
        A row a body: ``within_<map>``, the rank correlation over its pixels (of a and b alone, the others do not
        vary); ``mean_<map>`` and ``true_mean_<map>``; ``spread_<map>``, standard deviation over the body's pixels, and
        ``true_spread_<map>``; ``lut_error``, mean distance of the pixels' composed tables from the true ones over all
        greys, ``lut_error_occurring`` over those that occur in the body, and ``identity_error_occurring``, what tables
        that change nothing are off by.
    """
    images = shown.sources
    rows = []
    for i, row in enumerate(shown.rows):
        truth = row.true_maps()
        shape = truth.shape[1:]
        predicted = np.stack([resampled(one, shape) for one in mapping.maps(images[[i]])[0]])
        body = resampled(np.load(row.body).astype(np.float32), shape) > 0.5
        source = images.unit(i)[np.load(row.body)]
        rows.append({"patient": row.patient, **_compared(predicted, np.asarray(truth), body, source)})
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame) -> dict[str, float]:
    """Average over bodies, and correlate the bodies' means of each map with the true ones."""
    found = {}
    for name in ("a", "b"):
        found[f"within_{name}"] = float(rows[f"within_{name}"].mean())
    for name in MAPS:
        found[f"across_{name}"] = float(spearmanr(rows[f"mean_{name}"], rows[f"true_mean_{name}"])[0])
    for name in MAPS:
        found[f"spread_{name}"] = float(rows[f"spread_{name}"].mean())
        found[f"true_spread_{name}"] = float(rows[f"true_spread_{name}"].mean())
    for name in ("lut_error", "lut_error_occurring", "identity_error_occurring"):
        found[name] = float(rows[name].mean())
    return found


def _compared(predicted: np.ndarray, truth: np.ndarray, body: np.ndarray, source: np.ndarray) -> dict[str, float]:
    of_body, true_of_body = predicted[:, body], truth[:, body]
    found: dict[str, float] = {}
    for name, own, true in zip(MAPS, of_body, true_of_body, strict=True):
        found[f"mean_{name}"], found[f"true_mean_{name}"] = float(own.mean()), float(true.mean())
        found[f"spread_{name}"], found[f"true_spread_{name}"] = float(own.std()), float(true.std())
    for k, name in enumerate(("a", "b")):
        found[f"within_{name}"] = float(spearmanr(of_body[k], true_of_body[k])[0])
    chosen = np.random.default_rng(0).choice(of_body.shape[1], min(_N_PIXELS, of_body.shape[1]), replace=False)
    tables, true_tables = composed_tables(of_body[:, chosen]), composed_tables(true_of_body[:, chosen])
    off = (tables - true_tables).abs()
    low, high = np.quantile(source, _OCCURRING)
    occurring = (low <= _GREYS) & (high >= _GREYS)
    found["lut_error"] = float(off.mean())
    found["lut_error_occurring"] = float(off[:, occurring].mean())
    found["identity_error_occurring"] = float((_GREYS - true_tables).abs()[:, occurring].mean())
    return found


def composed_tables(maps: np.ndarray) -> torch.Tensor:
    """Give the table that each pixel goes through, of 257 greys.

    Parameters
    ----------
    maps : ndarray of shape (4, n)
        a, b, wc and ww of n pixels.

    Returns
    -------
    tensor of shape (n, 257)
    """
    a, b, wc, ww = torch.from_numpy(np.ascontiguousarray(maps))[..., None].float()
    return global_lut(regional_lut(_GREYS, a, b), wc, ww)
