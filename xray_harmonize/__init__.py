"""xray_harmonize: scikit-learn for X-ray images that come from different scanners.

Names are loaded when they are first used, so that importing the package costs next to nothing and draws in neither
torch nor MONAI.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> module that defines it.
_PUBLIC = {
    "BlindHarmony": "harmonizers.blind",
    "CDFMatching": "harmonizers.cdf",
    "Catalog": "catalog.store",
    "CropForeground": "geometry",
    "CycleGAN": "harmonizers.translation",
    "DLBC": "harmonizers.paired_curves",
    "DeepFeatures": "classifiers.deep_features",
    "FourierSwap": "harmonizers.fourier",
    "FullRange": "harmonizers.linear",
    "GDCE": "harmonizers.gdce",
    "ImageSet": "images",
    "IntensityFeatures": "classifiers.intensity_features",
    "InterpretableMapping": "harmonizers.mapping",
    "LUT3D": "harmonizers.paired_curves",
    "LeaveOneScannerOut": "evaluation.splitters",
    "MinMax": "harmonizers.linear",
    "MultiBand": "harmonizers.bands",
    "Nyul": "harmonizers.cdf",
    "Radiograph": "radiograph",
    "ResNetClassifier": "classifiers.resnet",
    "ResUNet": "harmonizers.paired_unets",
    "Resize": "geometry",
    "ScannerClassifier": "classifiers.scanner_classifier",
    "SupDCE": "harmonizers.paired_curves",
    "ToneCurve": "tone",
    "UNet": "harmonizers.paired_unets",
    "WindowClamp": "harmonizers.linear",
    "XRayHarmonizeError": "exceptions",
    "XRayHarmonizeWarning": "exceptions",
    "ZScore": "harmonizers.linear",
    "adapt": "adaptation",
    "audit": "auditing.audit",
    "load": "persistence",
    "make_cohort": "datasets",
    "save": "persistence",
    "set_cache_size": "images",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name in _PUBLIC:
        value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *_PUBLIC})
