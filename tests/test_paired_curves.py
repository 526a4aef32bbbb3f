"""What DLBC, LUT3D and SupDCE learn. What all paired methods share: test_paired.py."""

from __future__ import annotations

import numpy as np
from tiny_pairs import SETTINGS, bodies, darker, off

from xray_harmonize import DLBC, LUT3D, SupDCE


def test_a_window_is_learned() -> None:
    faint = type(bodies())([0.2 + 0.5 * image for image in bodies()], "faint")
    learned = DLBC(**{**SETTINGS, "max_steps": 100, "view_size": 32, "lr": 5e-3}).fit(faint, target=bodies())
    assert off(faint, bodies()) > 0.1
    assert off(learned.transform(faint), bodies()) < 0.04
    curve = learned.tone_curves(faint[:1])[0]
    inside = (curve.y > 0) & (curve.y < 1)
    assert len(curve.x) <= 4
    assert inside.sum() <= 2


def test_tables_are_learned() -> None:
    learned = LUT3D(**{**SETTINGS, "view_size": 32, "lr": 2e-3}).fit(darker(), target=bodies())
    assert off(learned.transform(darker()), bodies()) < 0.04
    (curve,) = learned.tone_curves(darker()[:1])
    np.testing.assert_allclose(curve.x, np.linspace(0, 1, 33))


def test_a_mixed_table_that_falls_is_levelled() -> None:
    learned = LUT3D(**{**SETTINGS, "max_steps": 1, "view_size": 32}).fit(darker(), target=bodies())
    points = learned.state_["points"].copy()
    points[0, 16:] = 0.01
    learned.state_ = {**learned.state_, "points": points}
    (curve,) = learned.tone_curves(darker()[:1])
    assert (np.diff(curve.y) >= 0).all()
    assert curve.y[-1] == curve.y[15]


def test_curves_a_pixel_are_learned_and_keep_black_and_white() -> None:
    gamma = type(bodies())([image**2 for image in bodies()], "gamma")
    learned = SupDCE(**{**SETTINGS, "n_features": 8, "lr": 1e-2}).fit(gamma, target=bodies())
    assert off(gamma, bodies()) > 0.08
    assert off(learned.transform(gamma), bodies()) < 0.04
    ends = np.zeros((1, 40, 40), "float32")
    ends[:, 20:] = 1
    np.testing.assert_allclose(learned.transform(ends), ends, atol=1e-6)
