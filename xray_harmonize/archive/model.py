"""What of a fitted model harmonizes: its transformers, the classifier at the end of a pipeline left aside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.geometry.transformers import CropForeground, Resize
from xray_harmonize.images import ImageSet
from xray_harmonize.networks.devices import is_absent
from xray_harmonize.persistence import fingerprint
from xray_harmonize.radiograph import Radiograph
from xray_harmonize.tone import ToneCurve

_HEADER_TEXT = 64


@dataclass(frozen=True)
class HarmonizingSteps:
    """Fitted transformers that an image goes through one after the other.

    Parameters
    ----------
    steps : tuple of transformer
        At least one.

    Examples
    --------
    >>> from xray_harmonize import FullRange, ResNetClassifier
    >>> HarmonizingSteps.of(Pipeline([("tone", FullRange()), ("classifier", ResNetClassifier())])).method
    'FullRange()'
    """

    steps: tuple[Any, ...]

    @classmethod
    def of(cls, model: Any) -> HarmonizingSteps:
        """Take the transformers of a harmonizer or a Pipeline, nested ones included.

        Raises
        ------
        InvalidParameterError
            If nothing in the model transforms images.
        """
        steps = tuple(_flat(model))
        if steps and not hasattr(steps[-1], "transform") and hasattr(steps[-1], "predict"):
            steps = steps[:-1]
        idle = [type(step).__name__ for step in steps if not hasattr(step, "transform")]
        if idle or not steps:
            raise InvalidParameterError(
                f"{idle[0] if idle else type(model).__name__} harmonizes no image; expected a fitted harmonizer, or a "
                "Pipeline of transformers with or without a classifier at its end."
            )
        return cls(steps)

    @property
    def method(self) -> str:
        """What was done to an image, in one line."""
        return " + ".join(" ".join(repr(step).split()) for step in self.steps)

    @property
    def header_method(self) -> str:
        """The same as a DICOM header can hold it: 1 to 64 characters of ASCII."""
        for text in (self.method, " + ".join(type(step).__name__ for step in self.steps)):
            if len(text) <= _HEADER_TEXT and text.isascii() and text.isprintable() and "\\" not in text:
                return text
        last = type(self.steps[-1]).__name__.encode("ascii", "replace").decode()
        return f"{len(self.steps)} steps, the last {last}"[:_HEADER_TEXT]

    @cached_property
    def model_hash(self) -> str:
        """What tells these steps from all others; a classifier after them has no part in it."""
        return fingerprint(self.steps[0] if len(self.steps) == 1 else Pipeline([(str(i), s) for i, s in self._named]))

    @property
    def _named(self) -> list[tuple[int, Any]]:
        return list(enumerate(self.steps))

    @property
    def geometric(self) -> list[str]:
        """Names of the steps that move pixels."""
        return [type(step).__name__ for step in self.steps if isinstance(step, CropForeground | Resize)]

    @property
    def without_curves(self) -> list[str]:
        """Names of the steps that are no tone curves."""
        return [type(step).__name__ for step in self.steps if not hasattr(step, "tone_curves")]

    def check_ready(self, scanner_known: bool, *, here: bool = True) -> None:
        """Refuse, before any image is read, a harmonizer for which every image would fail.

        Parameters
        ----------
        scanner_known : bool
            Whether something names the scanners.
        here : bool, default=True
            Whether this machine does the work; what devices others have is not known.

        Raises
        ------
        NotFittedError
            If a step is not fitted.
        InvalidParameterError
            If a step computes on a device that this machine does not have.
        MissingScannerError
            If a step needs to know the scanners and nothing says them.
        """
        for step in self.steps:
            if hasattr(step, "__sklearn_is_fitted__"):
                check_is_fitted(step)
            if here and _lacks_device(step):
                raise InvalidParameterError(
                    f"{type(step).__name__} is to compute on device={step.device!r}, which this machine does not have. "
                    "Call set_params(device='cpu') on it first, or 'auto' for a GPU where there is one."
                )
        if not scanner_known:
            # A lazy set is not read before it is looked at.
            images: Any = ImageSet([Path("image")])
            for step in self.steps:
                images = step.transform(images)

    def render(self, images: ImageSet) -> Radiograph:
        """Harmonize a set of one image."""
        result: Any = images
        for step in self.steps:
            result = step.transform(result)
        return ImageSet.of(result).radiograph(0)

    def curve(self, images: ImageSet) -> ToneCurve:
        """Give the one curve that takes the image of a set of one through all steps."""
        curve: ToneCurve | None = None
        result: Any = images
        for place, step in self._named:
            (own,) = step.tone_curves(result)
            curve = own if curve is None else own.compose(curve)
            if place < len(self.steps) - 1:
                result = step.transform(result)
        assert curve is not None
        return curve


def _lacks_device(step: Any) -> bool:
    """Tell whether a step cannot do without the device that it names and that is not here."""
    if not is_absent(getattr(step, "device", None)):
        return False
    # Some learn on it and apply without it, as GDCE; which ones is not known here, so one is tried.
    try:
        step.transform(np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(1, 32, 32))
    except (InvalidParameterError, RuntimeError, AssertionError):  # ours, and what PyTorch raises by itself
        return True
    except Exception:  # of a scanner without a name, say: no matter of devices, and told where it is one of files
        return False
    return False


def _flat(model: Any) -> list[Any]:
    if isinstance(model, Pipeline):
        return [one for _, step in model.steps if step not in (None, "passthrough") for one in _flat(step)]
    return [model]
