"""Finished pieces of the BlindHarmony study in a folder, each under a key made of all that it depends on."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import joblib

import xray_harmonize
from xray_harmonize.evaluation.keys import digest

T = TypeVar("T")
PACKAGE = Path(xray_harmonize.__file__).parent


class Pieces:
    """Finished pieces.

    Parameters
    ----------
    folder : path
        Made if absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """Where a piece is kept."""
        return self.folder / f"{key}.joblib"

    def get(self, key: str, make: Callable[[], T], anew: bool = False) -> T:
        """Give a piece, made where it is not there, or where it shall be made anew."""
        path = self.path(key)
        if path.is_file() and not anew:
            return joblib.load(path)
        piece = make()
        # Whole or not at all: an interrupted run leaves no half of a file under the name.
        beside = path.with_suffix(".part")
        joblib.dump(piece, beside)
        beside.replace(path)
        return piece

    def found(self, key: str) -> Any:
        """Give a piece that is there, None otherwise."""
        return joblib.load(self.path(key)) if self.path(key).is_file() else None


def modules_behind(name: str) -> list[str]:
    """Give a module and all harmonizers and networks that it imports, and these in turn.

    Parameters
    ----------
    name : str
        Path in the package without ending, such as ``"harmonizers/cdf"``.

    Returns
    -------
    list of str
        Sorted; a change of any of them may change what the method gives.
    """
    found, left = set(), [name]
    while left:
        module = left.pop()
        path = PACKAGE / f"{module}.py"
        if module in found or not path.is_file():
            continue
        found.add(module)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported = node.module.split(".")
                if imported[0] == PACKAGE.name and imported[1:2] in (["harmonizers"], ["networks"]):
                    left.append("/".join(imported[1:]))
    return sorted(found)


def key_of(kind: str, modules: Iterable[str], *facts: Any) -> str:
    """Give the key of a piece.

    Parameters
    ----------
    kind : str
        What it is; the key begins with it.
    modules : iterable of str
        Modules of the package, by their path in it without ending, whose program decides what comes out.
    *facts
        All else that does, see :func:`xray_harmonize.evaluation.keys.described`.
    """
    programs = [_program((PACKAGE / f"{name}.py").read_text(encoding="utf-8")) for name in modules]
    return f"{kind}-{digest(*programs, *facts)[:24]}"


@functools.cache
def _program(text: str) -> str:
    """Give what a module does, whatever its comments and docstrings say."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(part: ast.stmt) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)
