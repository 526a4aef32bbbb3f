"""Where the pixels of an ImageSet come from: memory, files, or another set through a function.

A source answers two questions, ``radiograph(i)`` and ``take(positions)``; what it holds is what gets pickled, so that a
set over files travels to a worker as paths, not as pixels.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np

from xray_harmonize.exceptions import InvalidImageError
from xray_harmonize.radiograph import Radiograph

DEFAULT_CACHE_MEBIBYTES = 256

RadiographFunction = Callable[[Radiograph], "np.ndarray | Radiograph"]


class ImageCache:
    """Least recently used images, never more bytes than the bound."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, Radiograph] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Radiograph]) -> Radiograph:
        """Give the image under ``key``, made now if it is not held."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        radiograph = make()
        # Whoever gets a cached image shares it, so nobody may write into it.
        radiograph.pixels.setflags(write=False)
        if radiograph.mask is not None:
            radiograph.mask.setflags(write=False)
        with self._lock:
            if key not in self._entries and self._size(radiograph) <= self.max_bytes:
                self._entries[key] = radiograph
                self._n_bytes += self._size(radiograph)
            self._shrink()
        return radiograph

    def resize(self, max_bytes: int) -> None:
        """Change the bound, dropping what no longer fits."""
        with self._lock:
            self.max_bytes = max_bytes
            self._shrink()

    @property
    def n_bytes(self) -> int:
        """Bytes held now."""
        return self._n_bytes

    def _shrink(self) -> None:
        while self._n_bytes > self.max_bytes:
            self._n_bytes -= self._size(self._entries.popitem(last=False)[1])

    @staticmethod
    def _size(radiograph: Radiograph) -> int:
        return radiograph.pixels.nbytes + (0 if radiograph.mask is None else radiograph.mask.nbytes)


def _compact(radiograph: Radiograph) -> Radiograph:
    """Let go of the memory behind a cut-out, which would otherwise live, uncounted, as long as the cut-out."""

    def own(array: np.ndarray) -> np.ndarray:
        return array.copy() if isinstance(array.base, np.ndarray) and array.base.nbytes > array.nbytes else array

    mask = radiograph.mask
    return replace(radiograph, pixels=own(radiograph.pixels), mask=None if mask is None else own(mask))


@lru_cache(maxsize=1)
def image_cache() -> ImageCache:
    """Give the one cache of this process, made on first use; all lazy sets share its bound."""
    return ImageCache(DEFAULT_CACHE_MEBIBYTES * 2**20)


class RadiographSet(Protocol):
    """What a mapped source asks of the set it maps: an ImageSet, seen from below."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any) -> Any: ...

    def radiograph(self, i: int) -> Radiograph:
        """Give image ``i`` with all its facts."""
        ...

    def source_key(self, i: int) -> Any:
        """Name what image ``i`` is made of."""
        ...


class Source(Protocol):
    """What an ImageSet asks of the place its pixels come from."""

    @property
    def is_lazy(self) -> bool:
        """Whether images are read or computed when they are asked for."""
        ...

    def __len__(self) -> int: ...

    def radiograph(self, i: int) -> Radiograph:
        """Give image ``i``."""
        ...

    def take(self, positions: Iterable[int]) -> Source:
        """Give a source of some of the images."""
        ...

    def key(self, i: int) -> Hashable:
        """Name image ``i`` for a cache: the same key, the same pixels."""
        ...


@dataclass(frozen=True)
class MemorySource:
    """Images held in memory."""

    radiographs: Sequence[Radiograph]
    is_lazy: bool = field(default=False, init=False)

    def __len__(self) -> int:
        return len(self.radiographs)

    def radiograph(self, i: int) -> Radiograph:
        """Give image ``i``."""
        return self.radiographs[i]

    def take(self, positions: Iterable[int]) -> MemorySource:
        """Give some of the images, without copying pixels."""
        return MemorySource([self.radiographs[i] for i in positions])

    def key(self, i: int) -> Hashable:
        """Name image ``i`` for a cache."""
        return id(self.radiographs[i].pixels)


@dataclass(frozen=True)
class FileSource:
    """Images in files, decoded when they are asked for."""

    paths: Sequence[Path]
    bits_stored: Sequence[int]
    masks: Sequence[np.ndarray | None]
    is_lazy: bool = field(default=True, init=False)

    def __len__(self) -> int:
        return len(self.paths)

    def radiograph(self, i: int) -> Radiograph:
        """Give image ``i``, decoded now or found in the cache."""
        return image_cache().get(self.key(i), lambda: self._read(i))

    def _read(self, i: int) -> Radiograph:
        from xray_harmonize.reading import read_image

        radiograph = read_image(self.paths[i])
        mask = radiograph.mask if self.masks[i] is None else self.masks[i]
        if mask is not None and mask.shape != radiograph.pixels.shape:
            raise InvalidImageError(
                f"{radiograph.name} has shape {radiograph.pixels.shape} but its mask {mask.shape}; expected the same."
            )
        return replace(radiograph, mask=mask, bits_stored=self.bits_stored[i] or radiograph.bits_stored)

    def take(self, positions: Iterable[int]) -> FileSource:
        """Give some of the files."""
        chosen = list(positions)
        return FileSource(
            [self.paths[i] for i in chosen], [self.bits_stored[i] for i in chosen], [self.masks[i] for i in chosen]
        )

    def key(self, i: int) -> Hashable:
        """Name file ``i`` as it is now: a file written anew is another image."""
        path = self.paths[i]
        try:
            status = path.stat()
        except OSError:
            # The reader says better than a cache what is wrong with the file.
            return (str(path),)
        # The change time tells a copy that keeps the modification time of its original.
        version = (status.st_mtime_ns, status.st_ctime_ns, status.st_size)
        return (str(path), version, self.bits_stored[i], id(self.masks[i]))


@dataclass(frozen=True)
class MappedSource:
    """Images of another set through a function, computed when they are asked for."""

    base: RadiographSet
    function: RadiographFunction
    token: str = field(default_factory=lambda: uuid4().hex)
    is_lazy: bool = field(default=True, init=False)

    def __len__(self) -> int:
        return len(self.base)

    def radiograph(self, i: int) -> Radiograph:
        """Give image ``i``, computed now or found in the cache."""
        return image_cache().get(self.key(i), lambda: _compact(apply_to(self.function, self.base.radiograph(i))))

    def take(self, positions: Iterable[int]) -> MappedSource:
        """Give some of the images."""
        return MappedSource(self.base[list(positions)], self.function, self.token)

    def key(self, i: int) -> Hashable:
        """Name image ``i`` by the function and by the image it comes from."""
        return (self.token, self.base.source_key(i))


def apply_to(function: RadiographFunction, radiograph: Radiograph) -> Radiograph:
    """Apply a function that gives pixels or a whole radiograph.

    New pixels alone are floats in [0, 1]: mask and name stay, display windows do not, since they were in other units.
    """
    result = function(radiograph)
    if isinstance(result, Radiograph):
        return result
    meta = {key: value for key, value in radiograph.meta.items() if key not in WINDOW_COLUMNS}
    return replace(radiograph, pixels=result, bits_stored=0, meta=meta)


WINDOW_COLUMNS = ("window_center", "window_width", "voi_lut_function")
