"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4


@contextmanager
def replacing(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that takes the place of ``path`` when the block ends well, and vanishes when it does not.

    Parameters
    ----------
    path : path
        File to write; its folder must exist.
    mode : {"w", "wb"}, default="w"
        Text in UTF-8, or bytes.

    Yields
    ------
    file object

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "table.csv"
    >>> with replacing(target) as stream:
    ...     _ = stream.write("whole")
    >>> target.read_text()
    'whole'
    """
    target = Path(path)
    beside = target.with_name(f".{uuid4().hex}.part")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    # Opened here and not by tempfile, whose files are private: this one gets the usual permissions.
    stream = beside.open(mode.replace("w", "x"), **text)  # type: ignore[call-overload]
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
