"""What the mapping study looks at: simulated bodies in the reference's rendering, and other presentations of them.

The target is the reference's rendering; it stands for the presentation that an expert sets. A source is what the way
back through a random interpretable mapping makes of it, so that the maps that lead from source to target are known.
Where the way back leaves the range of grey values, the whole image is brought into it, which is a mapping too; with
``clipped`` it is cut off there instead, as :func:`~xray_harmonize.harmonizers.self_made_pairs.distort` does, and what
was cut off cannot be given back. Both are stored on 12 bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch

from xray_harmonize import ImageSet, make_cohort
from xray_harmonize.atomic import replacing
from xray_harmonize.geometry.resampling import resampled
from xray_harmonize.harmonizers.network_rendering import view_shape
from xray_harmonize.harmonizers.self_made_pairs import random_maps
from xray_harmonize.networks.mapping import apply_maps, inverse_global_lut

REFERENCES = {"density": "reference", "pneumonia": "chest-reference"}
BODY_PARTS = {"density": "mammogram", "pneumonia": "chest radiograph"}
BITS = 12
# Bodies that are made together: one of each breast density.
N_TOGETHER = 4
# True maps are smooth; they are kept this much smaller.
MAPS_DOWNSCALE = 4


@dataclass(frozen=True)
class Presentation:
    """One way in which a body is shown, and the way it shall be shown.

    Parameters
    ----------
    source, target : path
        uint16 on 12 bits.
    maps : path
        True a, b, wc and ww from source to target, four times smaller.
    body : path
        Mask.
    patient : str
    body_part : str
    size : int
    """

    source: Path
    target: Path
    maps: Path
    body: Path
    patient: str
    body_part: str
    size: int

    def true_maps(self) -> np.ndarray:
        """Give a, b, wc and ww as float32 of shape (4, height, width), four times smaller than the image."""
        return np.load(self.maps, mmap_mode="r")


@dataclass(frozen=True)
class Presentations:
    """Presentations as a method takes them."""

    rows: tuple[Presentation, ...]

    @property
    def sources(self) -> ImageSet:
        """Images to be changed; the body part is there as it is in a header."""
        return self._images([row.source for row in self.rows])

    @property
    def targets(self) -> ImageSet:
        """What they are to become."""
        return self._images([row.target for row in self.rows])

    @property
    def maps(self) -> list[np.ndarray]:
        """The true maps."""
        return [row.true_maps() for row in self.rows]

    def of(self, body_part: str) -> Presentations:
        """Give those of one body part."""
        return Presentations(tuple(row for row in self.rows if row.body_part == body_part))

    def one_each(self) -> Presentations:
        """Give the first presentation of every body."""
        return Presentations(tuple({row.patient: row for row in reversed(self.rows)}.values())[::-1])

    def _images(self, paths: list[Path]) -> ImageSet:
        return ImageSet(paths, patient=[row.patient for row in self.rows], bits_stored=BITS)


def presentations(
    split: str, sizes: Sequence[int], n_each: int, folder: Path, *, clipped: bool = False
) -> Presentations:
    """Make presentations of bodies, or find them made.

    Parameters
    ----------
    split : {"training", "test", "confirmation"}
        Bodies of one are none of another's.
    sizes : sequence of int
        Of four mammograms and four chest radiographs each, in pixels.
    n_each : int
        Presentations of a body.
    folder : path
        Where they are kept, as they are made.
    clipped : bool, default=False
        Whether what leaves the range of grey values is cut off.
    """
    rows: list[Presentation] = []
    for task in REFERENCES:
        for number, size in enumerate(sizes):
            for patient, at in _bodies(task, split, number, size, folder):
                rows += [_presented(patient, at, BODY_PARTS[task], size, k, clipped) for k in range(n_each)]
    return Presentations(tuple(rows))


def _bodies(task: str, split: str, number: int, size: int, folder: Path) -> Iterator[tuple[str, Path]]:
    """Simulate four bodies; give their names and folders."""
    name = f"{split}-{task}-{number:02d}-{size}"
    at = folder / name
    if not (at / "made.json").is_file():
        print(f"simulating {name}", flush=True)
        cohort = make_cohort(task, [REFERENCES[task]], N_TOGETHER, size, random_state=crc32(name.encode()))
        for i in range(N_TOGETHER):
            stored = np.rint(cohort.images.unit(i) * (2**BITS - 1)).astype(np.uint16)
            _keep(at / str(i) / "target.npy", stored)
            _keep(at / str(i) / "body.npy", cohort.body[i])
        with replacing(at / "made.json") as stream:
            json.dump({"bodies": N_TOGETHER}, stream)
    for i in range(N_TOGETHER):
        yield f"{name}-{i}", at / str(i)


def _presented(patient: str, at: Path, body_part: str, size: int, k: int, clipped: bool) -> Presentation:
    kind = f"clipped{k}" if clipped else f"{k}"
    row = Presentation(
        at / f"source{kind}.npy",
        at / "target.npy",
        at / f"maps{kind}.npy",
        at / "body.npy",
        patient,
        body_part,
        size,
    )
    if not row.maps.is_file():
        target = np.load(row.target).astype(np.float32) / np.float32(2**BITS - 1)
        source, maps = presented(target, crc32(f"{patient}-{k}".encode()), clipped)
        _keep(row.source, np.rint(source * (2**BITS - 1)).astype(np.uint16))
        shape = view_shape(target.shape, MAPS_DOWNSCALE)
        _keep(row.maps, np.stack([resampled(one, shape) for one in maps]).astype(np.float32))
    return row


def presented(target: np.ndarray, seed: int, clipped: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Show a body in another way.

    Parameters
    ----------
    target : ndarray of float32 of shape (height, width)
        In [0, 1].
    seed : int
    clipped : bool, default=False
        Whether what leaves [0, 1] is cut off; otherwise the image is brought into it.

    Returns
    -------
    source : ndarray of float32 of shape (height, width)
        In [0, 1].
    maps : ndarray of float32 of shape (4, height, width)
        a, b, wc and ww from source to target.
    """
    generator = torch.Generator().manual_seed(seed)
    a, b, wc, ww = random_maps(1, target.shape, generator).split(1, dim=1)
    seen = (inverse_global_lut(torch.from_numpy(target)[None, None], wc, ww) - b) / a
    if not clipped:
        black, white = min(0.0, float(seen.min())), max(1.0, float(seen.max()))
        seen = (seen - black) / (white - black)
        a, b = a * (white - black), b + a * black
    maps = torch.cat([a, b, wc, ww], dim=1)[0].numpy()
    return seen.clamp(0, 1)[0, 0].numpy(), maps


def through_maps(source: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Put an image through maps of a lower resolution.

    Parameters
    ----------
    source : ndarray of float32 of shape (height, width)
    maps : ndarray of float32 of shape (4, lower height, lower width)
    """
    enlarged = np.stack([resampled(np.ascontiguousarray(one), source.shape) for one in maps])
    rendered: np.ndarray = apply_maps(torch.from_numpy(source)[None, None], torch.from_numpy(enlarged)[None]).numpy()
    return rendered[0, 0]


def _keep(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as stream:
        np.save(stream, array)
