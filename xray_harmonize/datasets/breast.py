"""A compressed breast, seen from above (cranio-caudal view), chest wall at the left edge."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.special import expit

from xray_harmonize.datasets.anatomy import Body, power_law_texture, ramp

__all__ = ["FIELD_CM", "GLANDULAR_FRACTION", "GLANDULAR_SHARE", "breast", "glandular_region"]

FIELD_CM = 19.0
"""Side of the imaged square in cm."""

GLANDULAR_FRACTION = {"A": (0.03, 0.10), "B": (0.12, 0.22), "C": (0.26, 0.42), "D": (0.48, 0.75)}
"""Share of the breast under the skin that is glandular, by density class: almost entirely fatty to extremely dense."""

GLANDULAR_SHARE = 0.4
"""Share of a ray's path from which on the ray counts as one through glandular tissue."""

_SKIN_CM = 0.15


def _chord(depth: np.ndarray, radius: float) -> np.ndarray:
    """Path length through a slab of thickness 2 `radius` with a half-round rim, `depth` cm inside of its outline."""
    inside = np.clip(depth, 0.0, radius)
    return 2.0 * np.sqrt(np.maximum(inside * (2.0 * radius - inside), 0.0))


def _depth_under_outline(
    x: np.ndarray, y: np.ndarray, length: float, half_height: float, rng: np.random.Generator
) -> np.ndarray:
    """Distance in cm from the skin line, negative outside: a superellipse with a gently uneven rim."""
    exponent = rng.uniform(1.9, 2.3)
    angle = np.arctan2(y / half_height, x / length)
    uneven = 1.0 + rng.uniform(-0.04, 0.04) * np.sin(angle) + rng.uniform(-0.025, 0.025) * np.sin(3.0 * angle)
    level = ((x / length) ** exponent + np.abs(y / half_height) ** exponent) ** (1.0 / exponent) / uneven
    # First-order distance to the level set: exact at the skin, where the rim's roundness needs it.
    pixel = float(x[0, 1] - x[0, 0])
    gradient_y, gradient_x = np.gradient(level, pixel)
    return (1.0 - level) / np.maximum(np.hypot(gradient_x, gradient_y), 0.25 / max(length, half_height))


def _strands(x: np.ndarray, y: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """Thin bright lines towards the nipple (ducts, ligaments): ridges of a texture stretched along its rays."""
    size = x.shape[0]
    texture = power_law_texture(size, 2.4, rng)
    from_nipple = np.hypot(x - length - 2.0, y)
    angle = np.arctan2(y, length + 2.0 - x)
    along, across = 0.35 * from_nipple / FIELD_CM * size, 0.7 * angle * size
    return 1.0 - 2.0 * np.abs(map_coordinates(texture, [along, across], order=1, mode="grid-wrap"))


def _glandular_share(
    x: np.ndarray,
    y: np.ndarray,
    depth: np.ndarray,
    inner: np.ndarray,
    length: float,
    target: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Share of each ray's inner path that is glandular; its mean over the breast is `target`."""
    size = x.shape[0]
    clouds = power_law_texture(size, rng.uniform(2.8, 3.4), rng)
    strands = _strands(x, y, length, rng)
    centre_x, centre_y = rng.uniform(0.40, 0.55) * length, rng.uniform(-0.8, 0.8)
    spread = rng.uniform(0.30, 0.42) * length
    cone = np.exp(-0.5 * (((x - centre_x) / spread) ** 2 + ((y - centre_y) / (1.25 * spread)) ** 2))
    fat_rim = ramp(depth, 0.2, rng.uniform(1.2, 2.2))
    score = 1.2 * clouds + 0.9 * strands + 4.5 * cone + 2.0 * fat_rim
    steepness = rng.uniform(0.7, 1.1)
    # The share rises with an offset to the score; halving finds the offset that gives the target.
    within = inner > 0
    inside, weight = score[within], (fat_rim * inner)[within] / inner.sum()
    low, high = -30.0, 30.0
    for _ in range(24):
        middle = 0.5 * (low + high)
        if float(expit(steepness * (inside + middle)) @ weight) < target:
            low = middle
        else:
            high = middle
    return expit(steepness * (score + high)) * fat_rim


def breast(density: str, size: int, rng: np.random.Generator) -> Body:
    """Draw a breast of a density class.

    The outline, the compressed thickness (3.5 to 6.5 cm), the rounded rim, the skin and the pattern of the gland vary
    from breast to breast; the class sets how much of it is glandular (:data:`GLANDULAR_FRACTION`).

    Parameters
    ----------
    density : {"A", "B", "C", "D"}
    size : int
        Height and width in pixels.
    rng : numpy.random.Generator

    Returns
    -------
    Body
        Materials "adipose", "glandular" and "skin"; facts "glandular_fraction" (share of volume under the skin) and
        "compressed_cm".

    Examples
    --------
    >>> import numpy as np
    >>> body = breast("C", 64, np.random.default_rng(0))
    >>> sorted(body.thickness)
    ['adipose', 'glandular', 'skin']
    >>> 0.25 < body.facts["glandular_fraction"] < 0.43
    True
    """
    pixel_cm = FIELD_CM / size
    y, x = np.meshgrid(
        (np.arange(size) + 0.5) * pixel_cm - FIELD_CM / 2.0 + rng.uniform(-0.5, 0.5),
        (np.arange(size) + 0.5) * pixel_cm,
        indexing="ij",
    )
    length, half_height = rng.uniform(8.5, 14.0), rng.uniform(6.8, 9.0)
    compressed = rng.uniform(3.5, 6.5)
    depth = _depth_under_outline(x, y, length, half_height, rng)
    outer = _chord(depth, compressed / 2.0)
    inner = _chord(depth - _SKIN_CM, compressed / 2.0 - _SKIN_CM)
    skin = outer - inner

    target = float(rng.uniform(*GLANDULAR_FRACTION[density]))
    glandular = _glandular_share(x, y, depth, inner, length, target, rng) * inner
    fraction = float(glandular.sum() / inner.sum())

    # The nipple: a small button of skin-like tissue where the outline is farthest from the chest wall.
    tip_x, tip_y = length - 0.25, rng.uniform(-0.5, 0.5)
    squared = ((x - tip_x) / 0.55) ** 2 + ((y - tip_y) / 0.5) ** 2
    skin = skin + 0.9 * np.sqrt(np.clip(1.0 - squared, 0.0, None)) * np.exp(-outer)
    thickness = {"adipose": inner - glandular, "glandular": glandular, "skin": skin}
    return Body(
        {name: path.astype(np.float32) for name, path in thickness.items()},
        pixel_cm,
        {"glandular_fraction": fraction, "compressed_cm": compressed},
    )


def glandular_region(body: Body) -> np.ndarray:
    """Where a breast is glandular: rays that run through glandular tissue for :data:`GLANDULAR_SHARE` of their path.

    Parameters
    ----------
    body : Body
        As :func:`breast` draws it.

    Returns
    -------
    ndarray of bool of shape (size, size)
        Nothing may be, in a breast that is almost entirely fatty.

    Examples
    --------
    >>> import numpy as np
    >>> fatty, dense = (glandular_region(breast(one, 64, np.random.default_rng(0))).sum() for one in "AD")
    >>> bool(fatty < 0.2 * dense)
    True
    """
    return np.asarray(body.mask & (body.thickness["glandular"] >= GLANDULAR_SHARE * body.total))
