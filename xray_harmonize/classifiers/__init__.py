"""Classifiers and features of radiographs that scikit-learn can work with. PyTorch is loaded when one asks for it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xray_harmonize.classifiers.deep_features import DeepFeatures
    from xray_harmonize.classifiers.intensity_features import IntensityFeatures
    from xray_harmonize.classifiers.resnet import ResNetClassifier
    from xray_harmonize.classifiers.scanner_classifier import ScannerClassifier

__all__ = ["DeepFeatures", "IntensityFeatures", "ResNetClassifier", "ScannerClassifier"]

_MODULES = {
    "DeepFeatures": "deep_features",
    "IntensityFeatures": "intensity_features",
    "ResNetClassifier": "resnet",
    "ScannerClassifier": "scanner_classifier",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
