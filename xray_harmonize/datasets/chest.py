"""A chest seen from the front, the patient's right at the left edge, with or without an opacity in the lung."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from xray_harmonize.datasets.anatomy import Body, power_law_texture, ramp

__all__ = ["FIELD_CM", "LUNG_CM", "chest", "lung_region"]

FIELD_CM = 37.0
"""Side of the imaged square in cm."""

LUNG_CM = 3.0
"""Path through the lungs from which on a ray counts as one through them."""


@dataclass(frozen=True)
class _Frame:
    """Pixel coordinates in cm (x to the patient's left from the midline, y down) and the patient's proportions."""

    x: np.ndarray
    y: np.ndarray
    half_width: float  # of the trunk at the level of the lungs
    half_depth: float  # front to back
    apex: float  # y of the top of the lungs
    base: float  # y of the dome of the right diaphragm

    @property
    def pixel_cm(self) -> float:
        return float(self.x[0, 1] - self.x[0, 0])


def _frame(size: int, rng: np.random.Generator) -> _Frame:
    pixel_cm = FIELD_CM / size
    centred = (np.arange(size) + 0.5) * pixel_cm - FIELD_CM / 2.0
    y, x = np.meshgrid(centred, centred, indexing="ij")
    tilt = np.deg2rad(rng.normal(0.0, 1.5))
    scale = rng.uniform(0.94, 1.06)
    turned_x = (x * np.cos(tilt) + y * np.sin(tilt)) / scale + rng.normal(0.0, 0.5)
    turned_y = (y * np.cos(tilt) - x * np.sin(tilt)) / scale + FIELD_CM / 2.0 + rng.normal(0.0, 0.6)
    return _Frame(
        turned_x,
        turned_y,
        half_width=rng.uniform(15.5, 18.0),
        half_depth=rng.uniform(9.0, 11.5),
        apex=rng.uniform(4.5, 5.8),
        base=rng.uniform(25.5, 28.5),
    )


def _trunk(frame: _Frame, rng: np.random.Generator) -> np.ndarray:
    """Front-to-back thickness in cm of neck, shoulders, chest and upper abdomen."""
    x, y = np.abs(frame.x), frame.y
    shoulder = ramp(y, -1.5, 6.5)
    arms = rng.uniform(2.0, 4.0) * ramp(y, 26.0, 5.0)
    half_width = 5.5 + (frame.half_width - 5.5) * shoulder + arms * shoulder
    half_depth = 5.5 + (frame.half_depth - 5.5) * ramp(y, 0.0, 12.0) + 0.8 * ramp(y, 22.0, 32.0)
    trunk = 2.0 * half_depth * np.clip(1.0 - (x / half_width) ** 2.6, 0.0, None) ** 0.5
    # Breasts or pectoral muscles: soft shadows over the lower lungs that are no disease.
    thickness = max(0.0, rng.normal(0.6, 1.0))
    centre_x, centre_y = rng.uniform(7.5, 9.0), rng.uniform(21.0, 24.0)
    squared = ((x - centre_x) / 5.0) ** 2 + ((y - centre_y) / rng.uniform(3.8, 5.0)) ** 2
    bulge = thickness * np.sqrt(np.clip(1.0 - squared, 0.0, None))
    return trunk + np.where(trunk > 0, bulge, 0.0)


def _lung_border(frame: _Frame, y: np.ndarray) -> np.ndarray:
    """Distance in cm of the lungs' lateral border from the midline; 0 above the apex."""
    height = 19.0
    level = np.clip((y - frame.apex) / height, 0.0, 1.0)
    return (frame.half_width - 2.0) * (1.0 - (1.0 - level) ** 2.3) ** 0.5


def _lungs(frame: _Frame, rng: np.random.Generator) -> np.ndarray:
    """Front-to-back path in cm through both lungs, before the heart takes its place."""
    x, y = np.abs(frame.x), frame.y
    left = frame.x > 0
    lateral = _lung_border(frame, y)
    medial = 2.2 + 1.2 * np.exp(-(((y - 17.5) / 4.0) ** 2)) + 0.8 * ramp(y, 8.0, 3.0)
    width = np.maximum(lateral - medial, 0.1)
    across = np.clip((x - medial) / width, 0.0, 1.0)
    profile = np.clip(1.0 - np.abs(2.0 * across - 1.0) ** 2.6, 0.0, None) ** 0.5
    # The dome of the diaphragm, higher on the right, falls to the costophrenic angle at the chest wall.
    dome = frame.base + np.where(left, rng.uniform(0.8, 1.8), 0.0)
    steep = rng.uniform(4.5, 7.0)
    off_centre = (x - 0.45 * frame.half_width) / (0.55 * frame.half_width)
    floor = dome + steep * np.where(off_centre > 0, off_centre**2, 0.45 * off_centre**2)
    above_floor = ramp(floor - y, -0.15, 1.3)
    depth = 2.0 * (frame.half_depth - 2.2) * (0.55 + 0.45 * ramp(y, frame.apex, 18.0))
    return depth * profile * above_floor**0.5 * ramp(lateral - medial, 0.0, 2.5)


def _heart(frame: _Frame, rng: np.random.Generator) -> np.ndarray:
    """Front-to-back path in cm through heart, great vessels and mediastinum."""
    x, y = frame.x, frame.y
    size = rng.uniform(0.88, 1.15)
    turn = np.deg2rad(rng.uniform(30.0, 48.0))
    dx, dy = x - 2.3 * size, y - (frame.base - 4.2 * size)
    along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    blobs = [(along / (6.6 * size), across / (4.8 * size), 9.5 * size)]
    blobs.append(((x + 1.8) / 2.7, (y - frame.base + 4.5) / 3.8, 7.0))  # right atrium
    blobs.append(((x - 2.0) / 1.9, (y - 12.8) / 1.9, 5.0))  # aortic knob
    blobs.append(((x - 2.2) / 2.2, (y - 16.3) / 2.4, 5.5))  # pulmonary trunk
    path = np.zeros_like(x)
    for u, v, thickness in blobs:
        path = np.maximum(path, thickness * np.clip(1.0 - u**2 - v**2, 0.0, None) ** 0.45)
    return path


def _gas(frame: _Frame, rng: np.random.Generator) -> np.ndarray:
    """Path in cm through gas outside of the lungs, which attenuates nothing: windpipe and stomach bubble."""
    x, y = frame.x, frame.y
    carina = frame.apex + rng.uniform(9.5, 11.0)
    bend = 0.3 * np.sin(y / 5.0)
    trachea = 1.8 * np.clip(1.0 - ((x + bend) / 0.95) ** 2, 0.0, None) ** 0.5 * ramp(y, carina, carina - 1.5)
    fork = np.abs(np.abs(x + bend) - 0.75 * (y - carina + 1.0))
    bronchi = 1.1 * ramp(fork, 0.8, 0.2) * ramp(y, carina - 1.5, carina) * ramp(y, carina + 4.5, carina + 1.5)
    bubble_x, bubble_y = rng.uniform(5.5, 8.0), frame.base + rng.uniform(5.0, 6.5)
    squared = ((x - bubble_x) / rng.uniform(1.5, 3.0)) ** 2 + ((y - bubble_y) / rng.uniform(0.8, 1.6)) ** 2
    return trachea + bronchi + rng.uniform(0.0, 5.0) * np.clip(1.0 - squared, 0.0, None)


def _vessels(frame: _Frame, rng: np.random.Generator) -> np.ndarray:
    """Path in cm through the vessels of the lungs: random walks that branch outwards from the hila and thin out."""
    size = frame.x.shape[0]
    n_branches, n_steps = 44, 60
    side = np.where(np.arange(n_branches) % 2 == 0, -1.0, 1.0)
    heading = rng.uniform(-1.35, 1.45, n_branches)
    turns = np.cumsum(rng.normal(0.0, 0.10, (n_branches, n_steps)), axis=1) + heading[:, None]
    step = rng.uniform(0.10, 0.20, n_branches)[:, None]
    x = side[:, None] * (3.8 + np.cumsum(step * np.cos(turns), axis=1))
    y = 17.0 + np.cumsum(step * np.sin(turns), axis=1)
    # Nearest pixel of each point; the frame is a similarity, so three corners give it.
    origin = np.array([frame.x[0, 0], frame.y[0, 0]])
    axis_x = np.array([frame.x[0, 1], frame.y[0, 1]]) - origin
    axis_y = np.array([frame.x[1, 0], frame.y[1, 0]]) - origin
    offset = np.stack([x.ravel(), y.ravel()]) - origin[:, None]
    column, row = np.linalg.solve(np.stack([axis_x, axis_y], axis=1), offset)
    inside = (column > 0) & (column < size - 1) & (row > 0) & (row < size - 1)
    taper = np.broadcast_to(np.linspace(1.0, 0.12, n_steps) ** 1.3, x.shape).ravel()
    width = np.broadcast_to(rng.uniform(0.5, 1.25, n_branches)[:, None], x.shape).ravel()
    paths = np.zeros_like(frame.x)
    for low, high, sigma_cm in ((0.0, 0.4, 0.15), (0.4, 1.3, 0.28)):
        bore = taper * width
        chosen = inside & (bore >= low) & (bore < high)
        drops = np.zeros_like(frame.x)
        amount = bore[chosen] ** 2 * np.broadcast_to(step, x.shape).ravel()[chosen]
        np.add.at(drops, (row[chosen].round().astype(int), column[chosen].round().astype(int)), amount)
        # The blurred drops have the volume of the vessel: pi/4 bore^2 for each cm of length.
        paths += gaussian_filter(drops, sigma_cm / frame.pixel_cm) * (0.785 / frame.pixel_cm**2)
    return paths


def _bar(distance: np.ndarray, half_width: float, thickness: float) -> np.ndarray:
    """Bone path of a bar: a shell that is thickest at its two edges."""
    u = np.abs(distance) / half_width
    return thickness * ramp(u, 1.15, 0.85) * (0.6 + 0.4 * np.clip(u, 0.0, 1.0) ** 2)


def _bones(frame: _Frame, rng: np.random.Generator) -> np.ndarray:
    """Path in cm through bone: spine, ribs, clavicles, edges of the shoulder blades."""
    x, y = np.abs(frame.x), frame.y
    spacing, phase = rng.uniform(2.3, 2.6), rng.uniform(0.0, 1.0)
    cycle = (y / spacing + phase) % 1.0
    body = ramp(cycle, 0.0, 0.14) * ramp(cycle, 1.0, 0.86)
    density = rng.uniform(0.8, 1.2)
    # Vertebral bodies with discs between them, pedicles as a pair of brighter spots.
    spots = np.exp(-(((x - 1.2) / 0.35) ** 2) - ((cycle - 0.4) / 0.16) ** 2)
    bone = density * (ramp(x, 2.1, 1.4) * (0.35 + 0.5 * body) + 0.35 * spots)

    wall = np.maximum(_lung_border(frame, np.maximum(y, frame.apex + 0.5)) + 0.7, 1.0)
    reach = ramp(x, wall + 0.4, wall - 0.4) * ramp(x, 1.2, 2.0)
    span = frame.half_width - 1.3
    slope = rng.uniform(0.9, 1.2)
    for k in range(10):
        u = np.clip(x / span, 0.0, 1.2)
        start = frame.apex + 0.3 + k * spacing * 0.93
        drop = slope * (3.2 + 0.45 * k)
        posterior = start - 0.9 * np.sin(np.pi * np.clip(1.6 * u, 0.0, 1.0)) + drop * u**2
        bone = np.maximum(bone, _bar(y - posterior, 0.55, 0.6 * density) * reach)
        if k < 7:
            # From the side of the chest forwards and down to the cartilage, which does not show.
            anterior = start + drop + 0.2 + (6.0 + 0.3 * k) * slope * np.clip(1.0 - u, 0.0, 1.0) ** 1.25
            fade = ramp(x, 5.5 + 0.35 * k, 8.5 + 0.35 * k)
            bone = np.maximum(bone, _bar(y - anterior, 0.62, 0.36 * density) * reach * fade)
    tilt = rng.uniform(0.10, 0.28)
    clavicle = frame.apex + 3.6 - tilt * (x - 2.0) - 0.5 * np.sin((x - 2.0) * 0.45)
    bone += _bar(y - clavicle, 0.6, 0.85 * density) * ramp(x, 1.6, 2.4) * ramp(x, 16.0, 15.0)
    blade = frame.half_width - 3.0 + 0.12 * (y - 10.0)
    bone += 0.22 * density * np.exp(-(((x - blade) / 0.5) ** 2)) * ramp(y, 7.0, 9.0) * ramp(y, 20.0, 16.0)
    # The head of the upper arm.
    squared = ((x - frame.half_width - 0.5) / 2.6) ** 2 + ((y - frame.apex - 3.0) / 2.8) ** 2
    return bone + 0.9 * density * np.clip(1.0 - squared, 0.0, None) ** 0.8


def _opacity(frame: _Frame, lung: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Path in cm through fluid that fills parts of the lungs: one to three patchy foci, lower lobes first."""
    fluid = np.zeros_like(lung)
    likely = lung * (0.4 + ramp(frame.y, 10.0, 24.0))
    chance = np.cumsum(likely.ravel())
    for _ in range(rng.integers(1, 4)):
        pick = int(np.searchsorted(chance, rng.uniform(0.0, 1.0) * chance[-1]))
        row, column = np.unravel_index(min(pick, lung.size - 1), lung.shape)
        dx, dy = frame.x - frame.x[row, column], frame.y - frame.y[row, column]
        turn, radius, ratio = rng.uniform(0.0, np.pi), rng.uniform(2.8, 5.0), rng.uniform(0.7, 1.0)
        u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        distance = np.hypot(u / radius, v / (radius * ratio))
        patchy = distance + 0.28 * power_law_texture(lung.shape[0], 3.0, rng)
        fluid += rng.uniform(4.0, 8.0) * ramp(patchy, 1.35, 0.35)
    return np.minimum(fluid, 0.85 * lung)


def chest(opacity: bool, size: int, rng: np.random.Generator) -> Body:
    """Draw a chest; the opacity comes from its own stream, so that the same chest exists with and without it.

    Parameters
    ----------
    opacity : bool
        Whether parts of the lung are filled with fluid, as in pneumonia.
    size : int
        Height and width in pixels.
    rng : numpy.random.Generator

    Returns
    -------
    Body
        Materials "soft_tissue", "lung", "bone" and "fluid"; facts "fluid_fraction" (share of the lungs' volume that is
        filled) and "depth_cm" (thickness of the chest, front to back).

    Examples
    --------
    >>> import numpy as np
    >>> well, ill = (chest(state, 64, np.random.default_rng(0)) for state in (False, True))
    >>> bool((well.thickness["bone"] == ill.thickness["bone"]).all())
    True
    >>> ill.facts["fluid_fraction"] > well.facts["fluid_fraction"] == 0.0
    True
    """
    structure, disease = rng.spawn(2)
    frame = _frame(size, structure)
    trunk = _trunk(frame, structure)
    lungs = np.minimum(_lungs(frame, structure), np.maximum(trunk - 3.0, 0.0))
    vessels = _vessels(frame, structure)
    heart = _heart(frame, structure)
    bone = np.minimum(_bones(frame, structure), 0.3 * trunk)
    air_space = np.maximum(lungs - heart, 0.0)
    air_space = air_space * np.exp(-vessels / np.maximum(air_space, 1.0))
    air_space *= 1.0 + 0.02 * power_law_texture(size, 2.6, structure)
    gas = _gas(frame, structure) * (air_space <= 0.5)
    fluid = _opacity(frame, air_space, disease) if opacity else np.zeros_like(air_space)
    volume = float(air_space.sum())
    thickness = {
        "soft_tissue": np.maximum(trunk - air_space - bone - gas, 0.0),
        "lung": air_space - fluid,
        "bone": bone,
        "fluid": fluid,
    }
    return Body(
        {name: path.astype(np.float32) for name, path in thickness.items()},
        FIELD_CM / size,
        {"fluid_fraction": float(fluid.sum()) / volume, "depth_cm": 2.0 * frame.half_depth},
    )


def lung_region(body: Body) -> np.ndarray:
    """Where the lungs are, filled parts among them: rays of at least :data:`LUNG_CM` through their air space.

    Parameters
    ----------
    body : Body
        As :func:`chest` draws it.

    Returns
    -------
    ndarray of bool of shape (size, size)
        The same with an opacity and without.

    Examples
    --------
    >>> import numpy as np
    >>> well, ill = (lung_region(chest(state, 64, np.random.default_rng(0))) for state in (False, True))
    >>> bool((well == ill).all()), bool(0.15 < well.mean() < 0.4)
    (True, True)
    """
    return np.asarray(body.thickness["lung"] + body.thickness["fluid"] >= LUNG_CM)
