"""What every page of the package is made with: escaping templates, pictures, and a file that appears whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from xray_harmonize.atomic import replacing


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture in a grid of pictures."""

    src: str
    width: int
    height: int
    alt: str


def templates() -> Environment:
    """Give the templates; whatever is put into one is escaped, and what is missing is an error."""
    return Environment(
        loader=PackageLoader("xray_harmonize.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def write_page(page: str, path: str | Path) -> None:
    """Write a page; the file appears whole or not at all, folders above it are made.

    Parameters
    ----------
    page : str
        HTML. Text of damaged files may hold lone surrogates, which UTF-8 cannot: each becomes a question mark.
    path : str or Path
    """
    content = page.encode("utf-8", "replace")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as stream:
        stream.write(content)


def in_order(names: Iterable[str], first: str) -> list[str]:
    """Names without repetition in the order they come, `first` before all others."""
    found = list(dict.fromkeys(names))
    return [first] * (first in found) + [name for name in found if name != first]
