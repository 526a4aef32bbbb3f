"""Transformers that bring bodies to one frame: crop to what was exposed, resize to one shape.

Scanners differ in more than tone: in borders, plates and bands around the body, and in matrices.
Both transformers move pixels and change none: what comes out are stored values as before, so a
harmonizer after them sees what it would have seen, less the surroundings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import pandas as pd

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.geometry.framing import FILLS, crop_of, cropped, resized
from xray_harmonize.geometry.resampling import Shape
from xray_harmonize.image_transformer import ImageTransformer
from xray_harmonize.images import ImageSet, in_container_of
from xray_harmonize.radiograph import Radiograph


class _FrameTransformer(ImageTransformer):
    """Learns nothing and treats every image alone. Hooks: ``_check_parameters``, ``_function``."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check parameters and container; nothing is learned.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        InvalidParameterError
            If a parameter is out of range.
        InvalidImageError
            If X is no set of images.
        """
        self._check_parameters()
        ImageSet.of(X)
        return self

    def transform(self, X: Any) -> Any:
        """Bring every image to its frame.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths

        Returns
        -------
        same container as X
            Of the same dtypes, in new memory; an ImageSet keeps its labels, its masks move along,
            and a lazy one stays lazy. A stack whose images come out in several shapes is a list.

        Raises
        ------
        InvalidImageError
            If an image holds NaN or infinite pixels.
        """
        self._check_parameters()
        return in_container_of(X, ImageSet.of(X).map(self._function()))

    def _check_parameters(self) -> None:
        """Refuse parameters out of range (hook)."""
        raise TypeError(f"{type(self).__name__} must define _check_parameters")  # pragma: no cover

    def _function(self) -> Callable[[Radiograph], Radiograph]:
        """Give what is done to one image, free of self, as lazy sets are computed later (hook)."""
        raise TypeError(f"{type(self).__name__} must define _function")  # pragma: no cover


class CropForeground(_FrameTransformer):
    """Crop radiographs to the collimated, exposed body.

    Finds white and black borders, bands and padding, collimation that is tilted or left bright,
    letters and plates that lie in air, and cuts them off; then a body in open air to its bounding
    box. Display shutter and padding come with the mask of an image, collimator edges with its
    header, where they are positions in the image. No two images influence each other.

    Parameters
    ----------
    margin : float, default=0.02
        Kept around the body where it ends in air, as a fraction of its longer side.
    fill : {"aspect", "square", "stretch"}, default="aspect"
        "aspect" keeps the crop as it is (with `size`: within it). "square" centers it in a square
        (with `size`: in that shape) of its own background. "stretch" stretches it to `size`.
    size : int or tuple of two int, optional
        Shape to resize to, (height, width); an int stands for a square. None: pixels keep their size.
    threshold : float, default=0.35
        Where the body begins, on the way from the level of air (0; the darkest 1 %) to the level
        that Otsu's method puts between dark and bright (1). Low values keep soft skin lines and
        faint shoulders.
    deskew : bool, default=True
        Turn an image by the tilt of its collimation, from 0.5 to 12 degrees, found from straight
        edges, never from anatomy. Pixels that come in at the corners repeat their neighbours and
        count as masked.
    use_collimator : bool, default=True
        Trust collimator edges of the header that lie in the image.
    min_fraction : float, default=0.1
        To find less than this share of an image is to find nothing: the whole image is kept.

    See Also
    --------
    Resize : the same shape for all images, without a crop.

    Notes
    -----
    Assumes that air is dark (MONOCHROME2), as everywhere in the package. A plate that overlaps the
    body, or lies within its bounding box, stays. ``fill="square"`` keeps proportions, but pads crops
    that are wider or higher, and a network sees the padding; ``fill="stretch"`` leaves no bands.

    References
    ----------
    DICOM PS3.3 C.8.7.3 (collimator), C.7.6.11 (display shutter).

    Examples
    --------
    A body on a black image, with a letter apart from it:

    >>> import numpy as np
    >>> image = np.zeros((64, 64), dtype="uint16")
    >>> image[8:50, 12:60] = 3000
    >>> image[1:4, 1:3] = 4095
    >>> crop = CropForeground(margin=0)
    >>> crop.fit_transform([image])[0].shape
    (42, 48)
    >>> crop.crops([image])[["top", "bottom", "left", "right", "reason"]]
       top  bottom  left  right reason
    0    8      14    12      4   body
    """

    def __init__(
        self,
        margin: float = 0.02,
        fill: str = "aspect",
        size: int | tuple[int, int] | None = None,
        threshold: float = 0.35,
        deskew: bool = True,
        use_collimator: bool = True,
        min_fraction: float = 0.1,
    ) -> None:
        self.margin = margin
        self.fill = fill
        self.size = size
        self.threshold = threshold
        self.deskew = deskew
        self.use_collimator = use_collimator
        self.min_fraction = min_fraction

    def crops(self, X: Any) -> pd.DataFrame:
        """Tell what is cut off each image, and why.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths

        Returns
        -------
        DataFrame with one row an image
            ``top``, ``bottom``, ``left``, ``right``: pixels cut off each side, after the image was
            turned upright; ``angle``: tilt of the collimation in degrees, counter-clockwise
            positive; ``kept_fraction``: share of the image's area that is kept; ``reason``: what
            decided, or why the whole image is kept.

        Raises
        ------
        InvalidImageError
            If an image holds NaN or infinite pixels.
        """
        self._check_parameters()
        images, settings = ImageSet.of(X), self._settings()
        rows = []
        for i in range(len(images)):
            radiograph = images.radiograph(i)
            found = crop_of(radiograph, **settings)
            (height, width), (top, bottom, left, right) = radiograph.pixels.shape, found.box
            kept = (bottom - top) * (right - left) / (height * width)
            rows.append((top, height - bottom, left, width - right, found.angle, kept, found.reason))
        columns = ["top", "bottom", "left", "right", "angle", "kept_fraction", "reason"]
        return pd.DataFrame(rows, columns=columns)

    def _settings(self) -> dict[str, Any]:
        return {
            "use_collimator": bool(self.use_collimator),
            "threshold": float(self.threshold),
            "margin": float(self.margin),
            "min_fraction": float(self.min_fraction),
            "deskew": bool(self.deskew),
        }

    def _function(self) -> Callable[[Radiograph], Radiograph]:
        return partial(cropped, fill=self.fill, size=_shape(self.size), settings=self._settings())

    def _check_parameters(self) -> None:
        name = type(self).__name__
        _check_number(name, "margin", self.margin, 0, 1)
        _check_number(name, "threshold", self.threshold, 0, 1)
        _check_number(name, "min_fraction", self.min_fraction, 0, 1)
        _check_frame(name, self.fill, self.size)


class Resize(_FrameTransformer):
    """Bring radiographs to one shape: areas are averaged to shrink, levels interpolated to enlarge.

    Parameters
    ----------
    size : int or tuple of two int, default=224
        Shape that comes out, (height, width); an int stands for a square.
    fill : {"square", "aspect", "stretch"}, default="square"
        "square" keeps the aspect and pads with the image's own background to `size`, "aspect" keeps
        it and stays within `size`, "stretch" gives it up.

    See Also
    --------
    CropForeground : crops first, and resizes too.

    Examples
    --------
    >>> import numpy as np
    >>> images = [np.ones((40, 80)), np.ones((60, 30))]
    >>> [image.shape for image in Resize(20).fit_transform(images)]
    [(20, 20), (20, 20)]
    >>> [image.shape for image in Resize(20, fill="aspect").fit_transform(images)]
    [(10, 20), (20, 10)]
    """

    def __init__(self, size: int | tuple[int, int] = 224, fill: str = "square") -> None:
        self.size = size
        self.fill = fill

    def _function(self) -> Callable[[Radiograph], Radiograph]:
        return partial(resized, fill=self.fill, size=_shape(self.size))

    def _check_parameters(self) -> None:
        if self.size is None:
            raise InvalidParameterError("Resize: size is None, expected an int or (height, width) of at least 1.")
        _check_frame("Resize", self.fill, self.size)


def _shape(size: int | tuple[int, int] | None) -> Shape | None:
    if size is None:
        return None
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) else (int(size),) * 2


def _check_number(owner: str, name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
        raise InvalidParameterError(f"{owner}: {name} is {value!r}, expected a number from {low} to {high}.")


def _check_frame(owner: str, fill: Any, size: Any) -> None:
    if fill not in FILLS:
        names = ", ".join(map(repr, FILLS))
        raise InvalidParameterError(f"{owner}: fill is {fill!r}, expected one of {names}.")
    if size is None:
        if fill == "stretch":
            raise InvalidParameterError(f"{owner}: fill='stretch' needs a size to stretch to.")
        return
    sides = list(size) if isinstance(size, list | tuple) else [size, size]
    if len(sides) != 2 or not all(_is_side(side) for side in sides):
        raise InvalidParameterError(
            f"{owner}: size is {size!r}, expected an int or (height, width), each from 1 to 16384."
        )


def _is_side(side: Any) -> bool:
    return isinstance(side, Integral) and side is not True and 1 <= int(side) <= 2**14
