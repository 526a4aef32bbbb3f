"""Classifiers of radiographs that scikit-learn can work with. PyTorch is loaded when one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xray_harmonize.classifiers.resnet import ResNetClassifier

__all__ = ["ResNetClassifier"]


def __getattr__(name: str) -> Any:
    if name == "ResNetClassifier":
        from xray_harmonize.classifiers.resnet import ResNetClassifier

        return ResNetClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
