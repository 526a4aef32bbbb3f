"""Every error the package raises, so that one ``except`` can catch them all.

::

    XRayHarmonizeError
    ├── InvalidImageError      (ValueError)   pixels that cannot be what they claim to be
    ├── InvalidParameterError  (ValueError)   a constructor or function argument out of range
    ├── LabelTableError        (ValueError)   a row or column of a label table
    ├── ImageReadError         (OSError)      a file that cannot be opened or decoded
    ├── MissingScannerError    (ValueError)   a scanner label is needed and none was given
    ├── UnknownScannerError    (ValueError)   a scanner that was not seen in fit
    ├── NotEnoughImagesError   (ValueError)   too few images for what was asked
    ├── PersistenceError       (ValueError)   a model file that cannot be written or understood
    ├── CatalogError           (ValueError)   a catalogue, or a question to one, that cannot be understood
    └── MissingDependencyError (ImportError)  an optional package that is not installed

Each child also subclasses the builtin that fits, so code that knows nothing of this package catches it as usual.
"""

from __future__ import annotations


class XRayHarmonizeError(Exception):
    """Root of all errors raised by xray_harmonize."""


class InvalidImageError(XRayHarmonizeError, ValueError):
    """An image (or a stack of images) has the wrong shape, dtype or range."""


class InvalidParameterError(XRayHarmonizeError, ValueError):
    """An argument lies outside of what the method is defined for."""


class LabelTableError(XRayHarmonizeError, ValueError):
    """A label table lacks a column, repeats a path or has an empty cell where one is needed."""


class ImageReadError(XRayHarmonizeError, OSError):
    """A file is missing, is no image, or cannot be decoded."""


class MissingScannerError(XRayHarmonizeError, ValueError):
    """A method needs to know which scanner made an image, and nothing says so."""


class UnknownScannerError(XRayHarmonizeError, ValueError):
    """A scanner was not seen in ``fit`` and the method cannot do without."""


class NotEnoughImagesError(XRayHarmonizeError, ValueError):
    """Fewer images, patients, classes or scanners than a method needs."""


class PersistenceError(XRayHarmonizeError, ValueError):
    """A saved model cannot be written, or a file is no saved model of this package."""


class CatalogError(XRayHarmonizeError, ValueError):
    """A file is no catalogue of this package, or a question to a catalogue is no SQL that it can answer."""


class MissingDependencyError(XRayHarmonizeError, ImportError):
    """An optional dependency is needed for what was asked."""


class XRayHarmonizeWarning(UserWarning):
    """Something went on, but the user should know about it."""
