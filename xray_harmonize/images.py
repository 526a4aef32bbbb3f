"""ImageSet: radiographs with the labels that must travel with them.

scikit-learn's metadata routing loses per-sample metadata on the way to ``transform`` during string scoring,
``cross_val_predict`` and calibration, so the scanner lives in X itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.image_sources import (
    WINDOW_COLUMNS,
    FileSource,
    MappedSource,
    MemorySource,
    RadiographFunction,
    Source,
    apply_to,
    image_cache,
)
from xray_harmonize.levels import as_unit, full_scale
from xray_harmonize.radiograph import Radiograph

if TYPE_CHECKING:
    from xray_harmonize.labels import LabelTable


class ImageSet:
    """Radiographs of any sizes with scanner, patient, mask and acquisition of each.

    Behaves as a one-dimensional array of images wherever scikit-learn looks: it has a length and a shape, and an array
    of positions, a boolean mask or a slice selects a smaller ImageSet whose labels come along.

    Parameters
    ----------
    images : ndarray of shape (n, height, width), sequence of 2-D arrays, or sequence of paths
        Unsigned integers are stored values; floats lie in [0, 1]. Paths make the set lazy: a file is decoded when its
        image is asked for, kept in a size-bounded cache, and pickled as a path.
    scanner : array-like of str of shape (n,), or str, optional
        Which scanner made each image; one string names all.
    patient : array-like of shape (n,), optional
        Whose images these are. An image without counts as a patient of its own.
    bits_stored : array-like of int of shape (n,), or int, optional
        Bits in use of integer pixels; the file's or the dtype's bits where unknown.
    mask : sequence of 2-D bool arrays (or None) of length n, optional
        True where a pixel counts (no padding, shutter, collimation).
    meta : DataFrame with n rows, optional
        Anything else about the images. ``window_center`` and ``window_width`` are in units of the pixels.

    Raises
    ------
    InvalidImageError
        If an image is not 2-D, has no pixel, or is neither unsigned integer nor float.
    InvalidParameterError
        If labels and images differ in number, or a label is missing.

    Examples
    --------
    >>> import numpy as np
    >>> X = ImageSet(np.zeros((3, 4, 5), dtype="uint16"), scanner=["A", "B", "B"], bits_stored=12)
    >>> len(X), X[0].shape, X[[1, 2]].scanner.tolist()
    (3, (4, 5), ['B', 'B'])
    """

    def __init__(
        self,
        images: np.ndarray | Sequence[Any],
        scanner: ArrayLike | None = None,
        patient: ArrayLike | None = None,
        bits_stored: ArrayLike | None = None,
        mask: Sequence[np.ndarray | None] | np.ndarray | None = None,
        meta: pd.DataFrame | None = None,
    ) -> None:
        n = len(images)
        bits = _bits(bits_stored, n)
        masks: list[np.ndarray | None] = [None] * n if mask is None else [_as_mask(m) for m in mask]
        if len(masks) != n:
            raise InvalidParameterError(f"There are {n} images but {len(masks)} masks; expected one an image.")
        if n and all(isinstance(image, str | Path) for image in images):
            source: Source = FileSource([Path(image) for image in images], bits, masks)
        else:
            source = MemorySource([_radiograph(images[i], bits[i], masks[i], i) for i in range(n)])
        self._set(source, _labels("scanner", scanner, n), _labels("patient", patient, n), _table(meta, n))

    def _set(
        self, source: Source, scanner: np.ndarray | None, patient: np.ndarray | None, table: pd.DataFrame
    ) -> ImageSet:
        self._source = source
        self.scanner = scanner
        self.patient = patient
        self._table = table
        return self

    def _like(self, source: Source, table: pd.DataFrame) -> ImageSet:
        return ImageSet.__new__(ImageSet)._set(source, self.scanner, self.patient, table)

    # -- making one -----------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, X: Any, scanner: ArrayLike | None = None) -> ImageSet:
        """Make an ImageSet of any accepted container.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or sequence of 2-D arrays or paths
        scanner : array-like of str of shape (n,), or str, optional
            Labels that X does not carry.

        Returns
        -------
        ImageSet

        Raises
        ------
        InvalidImageError
            If X is one 2-D image, or no container of images.
        InvalidParameterError
            If ``scanner`` and ``X.scanner`` are both given and differ.
        """
        if not isinstance(X, cls):
            if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype != object:
                raise InvalidImageError(
                    f"Expected a set of images, got one array of shape {X.shape}. For one image pass X[None]."
                )
            no_images = isinstance(X, str | bytes | Mapping | pd.DataFrame)
            if no_images or not hasattr(X, "__len__") or not hasattr(X, "__getitem__"):
                raise InvalidImageError(
                    f"Expected an ImageSet, a stack (n, height, width), or a list of 2-D arrays or paths; "
                    f"got {type(X).__name__}."
                )
            return cls(list(X) if not isinstance(X, np.ndarray) else X, scanner=scanner)
        return X if scanner is None else X.with_scanner(scanner)

    @classmethod
    def from_folder(cls, root: str | Path, labels: str | Path | None = None, **options: Any) -> ImageSet:
        """Read a folder of images and, beside it, a table of labels.

        Parameters
        ----------
        root : path
            Folder that the paths of the table are relative to.
        labels : path, optional
            CSV with the columns ``path`` and, as far as known, ``label``, ``scanner``, ``patient``. Without it every
            image below ``root`` is taken, and the first folder below ``root`` names its scanner.
        **options
            Names of columns and ``skip_bad``, as :func:`xray_harmonize.labels.read_labels` takes them.

        Returns
        -------
        ImageSet
            Lazy; the labels are in ``X.label``, further columns in ``X.meta``.

        Raises
        ------
        LabelTableError, ImageReadError
            As :func:`xray_harmonize.labels.read_labels`: the message names row and file.
        """
        from xray_harmonize.labels import find_images, read_labels

        return cls.from_table(find_images(root) if labels is None else read_labels(root, labels, **options))

    @classmethod
    def from_table(cls, table: LabelTable) -> ImageSet:
        """Make a lazy set of the files that a label table names.

        Parameters
        ----------
        table : LabelTable
            As :func:`xray_harmonize.labels.read_labels` gives.

        Returns
        -------
        ImageSet
        """
        meta = table.extra.reset_index(drop=True)
        meta["path"] = [str(path) for path in table.paths]
        if table.labels is not None:
            meta["label"] = np.asarray(table.labels)
        return cls(list(table.paths), scanner=table.scanner, patient=table.patient, meta=meta)

    @classmethod
    def from_dicom(cls, paths: Iterable[str | Path], *, mixed_intent: bool = False) -> ImageSet:
        """Make a lazy set of DICOM files, its meta read from their headers.

        Parameters
        ----------
        paths : iterable of path
        mixed_intent : bool, default=False
            Whether images for processing and images for presentation may be in one set.

        Returns
        -------
        ImageSet
            ``scanner`` is manufacturer and model, ``patient`` the patient's identifier.

        Raises
        ------
        ImageReadError
            If a file is no readable DICOM image.
        InvalidParameterError
            If some images are FOR PROCESSING and some FOR PRESENTATION, unless ``mixed_intent``.
        """
        from xray_harmonize.dicom.intent import check_one_intent
        from xray_harmonize.dicom.read import read_header

        files = [Path(path) for path in paths]
        headers = [read_header(path) for path in files]
        if not mixed_intent:
            check_one_intent([one["presentation_intent"] for one in headers], files)
        scanner = [" ".join(filter(None, (one["manufacturer"], one["model"]))) or "unknown" for one in headers]
        return cls(files, scanner=scanner, patient=[one["patient"] for one in headers], meta=pd.DataFrame(headers))

    # -- one image ------------------------------------------------------------------------------------------------

    @cached_property
    def _columns(self) -> dict[Any, Any]:
        # Taken out of the table once: it makes a Series of a column whenever it is asked for one.
        return {key: column.array for key, column in self._table.items()}

    def radiograph(self, i: int) -> Radiograph:
        """Give image ``i`` with mask, bits, and meta: what the file says, overridden by the set's own table."""
        radiograph = self._source.radiograph(i)
        # Cell by cell: a whole row would come as one type, its integers as floats.
        row = {key: cell for key, cells in self._columns.items() if not _is_missing(cell := cells[i])}
        return replace(
            radiograph,
            meta={**radiograph.meta, **row},
            name=radiograph.name or str(row.get("path", f"Image {i}")),
            scanner="" if self.scanner is None else self.scanner[i],
        )

    def unit(self, i: int) -> np.ndarray:
        """Give image ``i`` as float32 in [0, 1] of full scale, in new memory."""
        radiograph = self._source.radiograph(i)
        return as_unit(radiograph.pixels, radiograph.bits_stored, name=radiograph.name or f"Image {i}")

    def mask(self, i: int) -> np.ndarray | None:
        """Give the bool mask of image ``i``, None where every pixel counts."""
        return self._source.radiograph(i).mask

    def meta_value(self, i: int, column: str) -> Any:
        """Give one cell of the set's table, None where there is none."""
        return self._table[column].iloc[i] if column in self._table else None

    def source_key(self, i: int) -> Any:
        """Name what image ``i`` is made of, for caches."""
        return self._source.key(i)

    # -- the whole set --------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int]:
        """``(n,)``: to scikit-learn a set is one-dimensional."""
        return (len(self),)

    @property
    def is_lazy(self) -> bool:
        """Whether images are read or computed only when asked for."""
        return self._source.is_lazy

    @property
    def files(self) -> FileSource | None:
        """The files that the images are; None where images lie in memory or are computed."""
        return self._source if isinstance(self._source, FileSource) else None

    @property
    def bits_stored(self) -> np.ndarray:
        """Bits in use of each image, 0 for floats, as int64 of shape (n,); a lazy set reads its files for it."""
        radiographs = (self._source.radiograph(i) for i in range(len(self)))
        return np.array(
            [0 if r.pixels.dtype.kind == "f" else r.bits_stored or 8 * r.pixels.dtype.itemsize for r in radiographs],
            dtype=np.int64,
        )

    @property
    def meta(self) -> pd.DataFrame:
        """Table about the images, one row each; a copy."""
        return self._table.copy()

    @property
    def label(self) -> np.ndarray:
        """Labels as the table gave them, shape (n,).

        Raises
        ------
        InvalidParameterError
            If there are none.
        """
        if "label" not in self._table:
            raise InvalidParameterError("This ImageSet has no labels; read it with a label column, or pass y.")
        return self._table["label"].to_numpy()

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[np.ndarray]:
        for i in range(len(self)):
            yield self[i]

    @overload
    def __getitem__(self, key: int | np.integer) -> np.ndarray: ...

    @overload
    def __getitem__(self, key: Any) -> ImageSet: ...

    def __getitem__(self, key: Any) -> ImageSet | np.ndarray:
        """Give one image for an integer, a smaller ImageSet for a slice, positions or a boolean mask."""
        if isinstance(key, tuple):  # scikit-learn indexes arrays as X[rows, ...]
            if len(key) != 2 or key[1] is not Ellipsis:
                raise InvalidParameterError(f"An ImageSet has one dimension; got the index {key!r}.")
            key = key[0]
        if isinstance(key, int | np.integer):
            i = int(key)
            if not -len(self) <= i < len(self):
                raise IndexError(f"There is no image {i} in a set of {len(self)}.")
            return self._source.radiograph(i % len(self)).pixels
        positions = np.arange(len(self))[key if isinstance(key, slice) else _positions(key)]
        chosen = ImageSet.__new__(ImageSet)
        return chosen._set(
            self._source.take(positions.tolist()),
            None if self.scanner is None else self.scanner[positions],
            None if self.patient is None else self.patient[positions],
            self._table.iloc[positions].reset_index(drop=True),
        )

    def __repr__(self) -> str:
        scanners = "" if self.scanner is None else f", scanners {', '.join(sorted(set(self.scanner)))}"
        return f"ImageSet({len(self)} {'lazy ' if self.is_lazy else ''}images{scanners})"

    # -- another set from this one ----------------------------------------------------------------------------------

    def with_scanner(self, scanner: ArrayLike) -> ImageSet:
        """Give the same images under these scanner labels.

        Raises
        ------
        InvalidParameterError
            If the set has scanner labels already and they differ.
        """
        labels = _labels("scanner", scanner, len(self))
        assert labels is not None
        if self.scanner is not None and not np.array_equal(labels, self.scanner):
            place = int(np.flatnonzero(labels != self.scanner)[0])
            raise InvalidParameterError(
                f"scanner= and X.scanner differ, first at image {place}: {labels[place]!r} against "
                f"{self.scanner[place]!r}. Give the scanner one way only."
            )
        return ImageSet.__new__(ImageSet)._set(self._source, labels, self.patient, self._table)

    def map(self, function: RadiographFunction) -> ImageSet:
        """Put every image through a function, now if the set is in memory, when asked for if it is lazy.

        Parameters
        ----------
        function : callable
            Takes a Radiograph; gives its new pixels as floats in [0, 1], or a whole Radiograph. Must be picklable for
            lazy sets that travel to workers.

        Returns
        -------
        ImageSet
            With the same scanners, patients and meta (less display windows, unless the function's Radiograph has them).
        """
        table = self._table[[name for name in self._table.columns if name not in WINDOW_COLUMNS]]
        if self.is_lazy:
            return self._like(MappedSource(self, function), table)
        return self._like(MemorySource([apply_to(function, self.radiograph(i)) for i in range(len(self))]), table)


def in_container_of(X: Any, result: ImageSet) -> Any:
    """Give ``result`` in the kind of container that X is: ImageSet, stack or list.

    A stack whose images have come to differ in shape becomes a list; a list of paths becomes a lazy ImageSet.
    """
    if isinstance(X, ImageSet) or result.is_lazy:
        return result
    images = list(result)
    if isinstance(X, np.ndarray) and X.dtype != object and len({image.shape for image in images}) == 1:
        return np.stack(images)
    if isinstance(X, np.ndarray) and X.ndim == 3 and not images:
        return np.empty(X.shape, dtype=np.float32)
    return images


def set_cache_size(mebibytes: float) -> None:
    """Bound the memory that decoded and lazily computed images of this process may keep (default 256 MiB)."""
    if mebibytes < 0:
        raise InvalidParameterError(f"The cache cannot have a size of {mebibytes} MiB; expected 0 or more.")
    image_cache().resize(int(mebibytes * 2**20))


def _radiograph(image: Any, bits_stored: int, mask: np.ndarray | None, i: int) -> Radiograph:
    if isinstance(image, str | Path):
        raise InvalidImageError(f"Image {i} is a path among arrays; give paths only, or arrays only.")
    pixels = np.asarray(image)
    if pixels.ndim != 2 or pixels.size == 0:
        raise InvalidImageError(
            f"Image {i} has shape {pixels.shape}; expected a 2-D grey image with at least one pixel."
        )
    if pixels.dtype.kind == "i":
        # Signed types hold stored values too, as long as none is negative; their sign bit carries nothing.
        if pixels.min() < 0:
            raise InvalidImageError(
                f"Image {i} holds negative stored values (lowest {pixels.min()}); "
                "expected 0 or more. Apply the rescale intercept first."
            )
        if not bits_stored and pixels.dtype.itemsize > 2:
            # Plain Python integers become int64, whose full scale would turn every radiograph black.
            raise InvalidImageError(
                f"Image {i} holds {pixels.dtype}, which does not tell how many bits its values have. "
                "Give bits_stored, or convert it with image.astype('uint16')."
            )
        bits_stored = bits_stored or 8 * pixels.dtype.itemsize - 1
        pixels = pixels.astype(pixels.dtype.str.replace("i", "u"))
    try:
        full_scale(pixels.dtype, bits_stored)
    except InvalidImageError as error:
        raise InvalidImageError(f"Image {i}: {error}") from None
    if mask is not None and mask.shape != pixels.shape:
        raise InvalidImageError(f"Image {i} has shape {pixels.shape} but its mask {mask.shape}; expected the same.")
    return Radiograph(pixels, bits_stored, mask, name=f"Image {i}")


def _as_mask(mask: ArrayLike | None) -> np.ndarray | None:
    # A view, which a cache may protect from writing without touching the caller's array.
    return None if mask is None else np.asarray(mask, dtype=bool).view()


def _bits(bits_stored: ArrayLike | None, n: int) -> list[int]:
    if bits_stored is None:
        return [0] * n
    bits = np.asarray(bits_stored)
    if bits.dtype.kind not in "iu" or bits.shape not in ((), (n,)):
        raise InvalidParameterError(
            f"bits_stored must be one integer or {n}, one an image (0 where unknown); got {bits_stored!r}."
        )
    return np.broadcast_to(bits, (n,)).tolist()


def _labels(what: str, labels: ArrayLike | None, n: int) -> np.ndarray | None:
    if labels is None:
        return None
    values = np.full(n, labels, dtype=object) if isinstance(labels, str) else np.asarray(labels, dtype=object)
    if values.shape != (n,):
        raise InvalidParameterError(f"There are {n} images but {what} has shape {values.shape}; expected ({n},).")
    missing = np.array([_is_missing(value) or value == "" for value in values], dtype=bool)
    if what == "patient":
        # A patient that nobody named is somebody all the same: splits take such an image for a patient of its own.
        return np.array([None if gap else str(value) for value, gap in zip(values, missing, strict=True)], dtype=object)
    if missing.any():
        first = np.flatnonzero(missing)[0]
        raise InvalidParameterError(f"The {what} of image {first} is missing; every image needs one.")
    return np.array([str(value) for value in values], dtype=object)


def _is_missing(value: Any) -> bool:
    return value is None or bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _table(meta: pd.DataFrame | None, n: int) -> pd.DataFrame:
    if meta is None:
        return pd.DataFrame(index=range(n))
    if len(meta) != n:
        raise InvalidParameterError(f"There are {n} images but meta has {len(meta)} rows; expected one an image.")
    return meta.reset_index(drop=True)


def _positions(key: Any) -> np.ndarray:
    positions = np.asarray(key)
    if positions.size == 0:
        return positions.astype(np.intp)
    if positions.ndim != 1 or positions.dtype.kind not in "iub":
        raise InvalidParameterError(
            f"An ImageSet is indexed by integers, slices, positions or a boolean mask; got {type(key).__name__}."
        )
    return positions
