"""The files below a folder with their sizes and times, in the order of their paths, folder by folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR, S_ISREG

FoundFile = tuple[str, int, int]
"""Path below the root with slashes, size in bytes, time of the last change in ns."""

_FOLDER = -1  # in place of a size, inside a listing
_PIECE = 10_000


@contextmanager
def _entries(folder: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """List a folder; where it can be opened, the system need not find it again for each of its files."""
    if os.scandir not in os.supports_fd:
        with os.scandir(folder) as entries:
            yield entries
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with os.scandir(descriptor) as entries:
            yield entries
    finally:
        os.close(descriptor)


@dataclass
class Walk:
    """Walk through a folder, one listing in memory at a time.

    Paths come in the order in which SQLite sorts them (bytes of UTF-8), so that a stretch of them can be compared with
    a stretch of a table.

    Parameters
    ----------
    root : str
        What paths are relative to.
    below : str
        Where to start: "" for the root itself, else a path below it that ends in a slash.
    follow_links : bool
        Enter folders that are symbolic links. A link that leads back to a folder above it is not entered.

    Attributes
    ----------
    unusable : dict of str to str
        Reasons for paths whose entry cannot be used: names that are no UTF-8, broken links, folders that cannot be
        listed (their paths end in a slash; "/" is the root). Filled while walking.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> for name in ("b.dcm", "a.dcm"):
    ...     _ = Path(folder.name, name).write_bytes(b"four")
    >>> [(path, size) for piece in Walk(folder.name) for path, size, _ in piece]
    [('a.dcm', 4), ('b.dcm', 4)]
    >>> folder.cleanup()
    """

    root: str
    below: str = ""
    follow_links: bool = False
    unusable: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[list[FoundFile]]:
        """Give files in sorted pieces, each of paths behind those of the piece before."""
        piece: list[FoundFile] = []
        for files in self._sorted_files():
            piece += files
            if len(piece) >= _PIECE:
                for start in range(0, len(piece), _PIECE):
                    yield piece[start : start + _PIECE]
                piece = []
        if piece:
            yield piece

    def _sorted_files(self) -> Iterator[list[FoundFile]]:
        listings = [iter(self._listing(self.below))]
        # Who is inside whom, for links that lead back; known only where links are followed.
        inside = [self._identity(self.below)]
        while listings:
            files: list[FoundFile] = []
            for found in listings[-1]:
                if found[1] != _FOLDER:
                    files.append(found)
                    continue
                identity = self._identity(found[0])
                if identity is not None and identity in inside:
                    continue
                listing = self._listing(found[0])
                if any(size == _FOLDER for _, size, _ in listing):
                    listings.append(iter(listing))
                    inside.append(identity)
                    break
                files += listing  # most folders of an archive hold files alone
            else:
                listings.pop()
                inside.pop()
            yield files

    def _identity(self, below: str) -> tuple[int, int] | None:
        if not self.follow_links:
            return None
        try:
            status = Path(self.root, below).stat()
        except OSError:  # listing it will say why
            return None
        return status.st_dev, status.st_ino

    def _listing(self, below: str) -> list[FoundFile]:
        """List files and folders in one folder, sorted; folders with a slash at their end, as paths in them have."""
        found: list[FoundFile] = []
        append = found.append
        try:
            with _entries(f"{self.root}/{below}") as entries:
                for entry in entries:
                    name = entry.name
                    if not name.isascii() and not self._is_writable(below, name):
                        continue
                    try:
                        status = entry.stat()
                    except OSError as error:
                        self.unusable[below + name] = f"cannot be looked at ({error.strerror or error})"
                        continue
                    mode = status.st_mode
                    if S_ISREG(mode):  # a pipe or a device would be waited for
                        append((below + name, status.st_size, status.st_mtime_ns))
                    elif S_ISDIR(mode) and (self.follow_links or not entry.is_symlink()):
                        append((f"{below}{name}/", _FOLDER, 0))
        except OSError as error:
            self.unusable[below or "/"] = f"the folder cannot be listed ({error.strerror or error})"
        found.sort()
        return found

    def _is_writable(self, below: str, name: str) -> bool:
        """Tell whether a name can be written down as text, else note it."""
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = below + name.encode("utf-8", "backslashreplace").decode()
            self.unusable[shown] = "the name is no UTF-8, expected one that can be written down; rename it"
            return False
        return True
