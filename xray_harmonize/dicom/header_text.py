"""Text of headers as tables, reports and logs may show it."""

from __future__ import annotations


def one_line(text: str) -> str:
    r"""Make one printable line: what cannot be printed becomes a space, and spaces become one.

    Examples
    --------
    >>> one_line("Dept.\x07 of\nRadiology ")
    'Dept. of Radiology'
    """
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(text.split())
