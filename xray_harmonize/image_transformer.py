"""What scikit-learn must know of every transformer of images."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator, TransformerMixin


class ImageTransformer(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Transformer whose X holds images and not a table, and which learns nothing unless a subclass says so."""

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn that nothing needs to be learned."""
        return True

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that X holds images, not a table."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.no_validation = True
        tags.requires_fit = False
        return tags
