"""What methods share that render images by what a network says of a small view: applying it, and keeping it as arrays.

How the network is learned is another matter: from pairs (:mod:`xray_harmonize.harmonizers.paired`), or without
(:mod:`xray_harmonize.harmonizers.translation`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.base import ToneCurveMixin
from xray_harmonize.harmonizers.built_network import BuiltNetwork
from xray_harmonize.harmonizers.pair_images import small_view
from xray_harmonize.images import ImageSet
from xray_harmonize.levels import as_unit
from xray_harmonize.networks.rendering import RenderingNetwork
from xray_harmonize.networks.resunet import SMALLEST_VIEW
from xray_harmonize.parameters import check_whole_numbers
from xray_harmonize.radiograph import Radiograph
from xray_harmonize.tone import ToneCurve
from xray_harmonize.training import exactly, resolve_device

# Pixels that are rendered together, so that what is computed on the way stays in the caches.
_PIXELS_AT_ONCE = 2**18


class NetworkRendering(BuiltNetwork):
    """Base of methods that a network was learned for, whose weights are ``state_``.

    Hooks of a subclass: those of :class:`BuiltNetwork`, ``_view_shape(shape)``, and ``_render`` or ``_tone_curve``.
    """

    device: str

    def _parameters_of(self, radiograph: Radiograph) -> torch.Tensor:
        """Give what the network says of one image, with a first axis of length 1."""
        height, width = radiograph.pixels.shape
        view, weight = (
            torch.from_numpy(one)[None, None] for one in small_view(radiograph, self._learned_view((height, width)))
        )
        network, device = self._fitted_network()
        with exactly(device), torch.inference_mode():
            parameters: torch.Tensor = network(view.to(device), weight.to(device))
        return parameters

    def _fitted_network(self) -> tuple[RenderingNetwork, torch.device]:
        """Give the network, and where it is."""
        device = resolve_device(self.device)
        return self._built_network(self.state_, device), device

    def _view_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Shape of what the network sees of an image (hook)."""
        raise TypeError(f"{type(self).__name__} must define _view_shape(shape)")  # pragma: no cover

    def _learned_view(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Shape of what the fitted network is to see of an image; ``_view_shape`` is that of one to be trained."""
        return self._view_shape(shape)


class LocalRendering(NetworkRendering):
    """Base of methods whose network answers for every pixel of a view ``downscale`` times smaller."""

    downscale: int

    def _view_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        return view_shape(shape, self.downscale)

    def _render(self, radiograph: Radiograph) -> np.ndarray:
        pixels = as_unit(radiograph.pixels, radiograph.bits_stored, name=radiograph.name or "The image")
        maps = self._maps_of(radiograph)
        network, device = self._fitted_network()
        height, width = pixels.shape
        n_rows = max(1, _PIXELS_AT_ONCE // width)
        result = np.empty_like(pixels)
        with exactly(device), torch.inference_mode():
            for top in range(0, height, n_rows):
                rows = slice(top, top + n_rows)
                strip = torch.from_numpy(pixels[rows])[None, None].to(device)
                result[rows] = network.render(strip, maps[:, :, rows]).clamp_(0, 1)[0, 0].cpu().numpy()
        if radiograph.mask is not None and not network.pointwise:
            # What was made of black there means nothing.
            np.copyto(result, pixels, where=~radiograph.mask)
        return result

    def _maps_of(self, radiograph: Radiograph) -> torch.Tensor:
        """Give the maps of one image in its own resolution, of shape (1, n_maps, height, width)."""
        shape = radiograph.pixels.shape
        parameters = self._parameters_of(radiograph)
        with torch.inference_mode():
            return functional.interpolate(parameters, size=shape, mode="bilinear", align_corners=False)

    def _check_parameters(self) -> None:
        check_whole_numbers(self.get_params(deep=False), {"downscale": 1})
        super()._check_parameters()


class GlobalRendering(ToneCurveMixin, NetworkRendering):
    """Base of methods whose network gives one tone curve an image, read off a square view.

    Hooks of a subclass: ``_curve(parameters) -> ToneCurve`` of what the network gave for one image, and ``"view_size"``
    among its ``_network_parameters``.
    """

    view_size: int

    def _view_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        return int(self.view_size), int(self.view_size)

    def _learned_view(self, shape: tuple[int, int]) -> tuple[int, int]:
        # A parameter that is set after fit is for the next one.
        return int(self.network_["view_size"]), int(self.network_["view_size"])

    def _tone_curve(self, radiograph: Radiograph) -> ToneCurve:
        return self._curve(self._parameters_of(radiograph)[0].cpu())

    def _curve(self, parameters: torch.Tensor) -> ToneCurve:
        """Give the curve that parameters stand for (hook)."""
        raise TypeError(f"{type(self).__name__} must define _curve(parameters)")  # pragma: no cover

    def _check_parameters(self) -> None:
        check_whole_numbers(self.get_params(deep=False), {"view_size": SMALLEST_VIEW})
        if self.view_size % SMALLEST_VIEW:
            raise InvalidParameterError(
                f"view_size must be a multiple of {SMALLEST_VIEW}, which the network halves five times; got "
                f"{self.view_size!r}."
            )
        super()._check_parameters()


def view_shape(shape: tuple[int, int], downscale: int) -> tuple[int, int]:
    """Shape of an image ``downscale`` times smaller, of at least 32 pixels a side.

    Examples
    --------
    >>> view_shape((3000, 100), 8)
    (375, 32)
    """
    height, width = (max(SMALLEST_VIEW, -(-side // int(downscale))) for side in shape)
    return height, width


def one_radiograph(image: Any) -> Radiograph:
    """Give one image in any accepted form as a Radiograph.

    Parameters
    ----------
    image : Radiograph, ImageSet of one image, ndarray of shape (height, width), or path

    Raises
    ------
    InvalidParameterError
        If a set holds more images than one, or none.
    """
    if isinstance(image, Radiograph):
        return replace(image, name=image.name or "The image")
    images = image if isinstance(image, ImageSet) else ImageSet.of([image])
    if len(images) != 1:
        raise InvalidParameterError(f"Expected one image, got a set of {len(images)}. Give X[[i]] or X.radiograph(i).")
    return images.radiograph(0)
