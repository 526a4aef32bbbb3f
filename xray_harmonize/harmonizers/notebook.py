"""How a fitted harmonizer shows itself in a notebook: its reference, what it has learned from, its curve by scanner."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from xray_harmonize.images import ImageSet
from xray_harmonize.tone import ToneCurve

_SIDE, _LEFT, _TOP, _LINE = 240, 44, 10, 16
_MOST_SHOWN, _LONGEST_NAME = 12, 64
# Apart in lightness too, so that they differ on grey paper; on dark and on white ground alike.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9")
_DASHES = ("", "6 3", "2 3")


class ShownInNotebook:
    """For estimators: what scikit-learn shows, and below it what was learned.

    Names of scanners come from files, so they are escaped and cut.
    """

    def _repr_html_inner(self) -> str:
        return str(super()._repr_html_inner()) + harmonizer_html(self)  # type: ignore[misc]

    def _repr_mimebundle_(self, **options: Any) -> dict[str, str]:
        shown: dict[str, str] = super()._repr_mimebundle_(**options)  # type: ignore[misc]
        if "text/html" in shown:
            shown["text/html"] += harmonizer_html(self)
        return shown


def harmonizer_html(harmonizer: Any) -> str:
    """Say what a harmonizer has learned, and draw its curves by scanner where it has some.

    Parameters
    ----------
    harmonizer : Harmonizer

    Returns
    -------
    str
        HTML that needs nothing else; empty for a harmonizer that is not fitted or learns no reference.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize import CDFMatching, ImageSet
    >>> images = np.random.default_rng(0).random((4, 8, 8))
    >>> fitted = CDFMatching(scope="scanner").fit(ImageSet(images, scanner=["A", "A", "B", "B"]))
    >>> "<svg" in harmonizer_html(fitted), harmonizer_html(CDFMatching())
    (True, '')
    """
    if not (harmonizer.__sklearn_is_fitted__() and hasattr(harmonizer, "reference_")):
        return ""
    said = [f"Brings images to <b>{_shown(harmonizer.reference_)}</b>."]
    known = _known_scanners(harmonizer)
    if known:
        listed = [_shown(name) + _counted(n) for name, n in list(known.items())[:_MOST_SHOWN]]
        more = f" and {len(known) - _MOST_SHOWN} more" if len(known) > _MOST_SHOWN else ""
        said.append(f"Has learned from {', '.join(listed)}{more}.")
    curves = scanner_curves(harmonizer)
    if not curves and hasattr(harmonizer, "tone_curves"):
        said.append("Each image has a curve of its own: <code>tone_curves(X)</code> gives them.")
    return f"<div><p>{' '.join(said)}</p>{curves_svg(curves) if curves else ''}</div>"


def _counted(n_images: int) -> str:
    return f" ({n_images} image{'' if n_images == 1 else 's'})" if n_images else ""


def scanner_curves(harmonizer: Any) -> dict[str, ToneCurve]:
    """Give the curve of every scanner that a fitted harmonizer knows; of "mixed" methods, the scanner's part of it.

    Parameters
    ----------
    harmonizer : Harmonizer

    Returns
    -------
    dict of str to ToneCurve
        Empty for methods that are no curves, or that have one for each image and none for a scanner.
    """
    if not hasattr(harmonizer, "tone_curves") or getattr(harmonizer, "scope", "image") == "image":
        return {}
    names = list(_known_scanners(harmonizer))
    by_scanner = copy.copy(harmonizer)
    by_scanner.scope = "scanner"
    # A curve of a scanner is that of any image of it.
    ramps = ImageSet([np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)] * len(names), scanner=names)
    return dict(zip(names, by_scanner.tone_curves(ramps), strict=True)) if names else {}


def _known_scanners(harmonizer: Any) -> dict[str, int]:
    """Scanners with their numbers of images, 0 where the method does not keep them."""
    statistics = getattr(harmonizer, "statistics_", None)
    if statistics:
        return {str(name): int(total["n_images"]) for name, total in sorted(statistics.items())}
    return {str(name): 0 for name in getattr(harmonizer, "scanners_", [])}


def curves_svg(curves: Mapping[str, ToneCurve]) -> str:
    """Draw curves over the diagonal, with a legend, as inline SVG in the colours of the page around it.

    Parameters
    ----------
    curves : mapping of str to ToneCurve
        By scanner; the first 12 are drawn.

    Returns
    -------
    str

    Examples
    --------
    >>> curves_svg({"<b>": ToneCurve.identity()}).count("&lt;b&gt;")
    2
    """
    drawn = dict(list(curves.items())[:_MOST_SHOWN])
    height = max(_SIDE + 46, _TOP + _LINE * len(drawn) + 20)
    names = ", ".join(_shown(name) for name in drawn)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{_SIDE + 320}" height="{height}" '
        f'viewBox="0 0 {_SIDE + 320} {height}" style="max-width:100%" fill="none" stroke="currentColor" '
        'font-family="sans-serif" font-size="12">',
        f"<title>Tone curves of {names}</title>",
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" stroke-opacity=".4"/>',
        f'<path d="M{_LEFT} {_TOP + _SIDE}L{_LEFT + _SIDE} {_TOP}" stroke-opacity=".3"/>',
    ]
    for place, (name, curve) in enumerate(drawn.items()):
        line = f'stroke="{_COLOURS[place % len(_COLOURS)]}" stroke-width="1.8"'
        dash = _DASHES[place // len(_COLOURS) % len(_DASHES)]
        line += f' stroke-dasharray="{dash}"' if dash else ""
        down = _TOP + 8 + _LINE * place
        right = _LEFT + _SIDE + 16
        parts.append(f'<path d="{_path(curve)}" {line}/>')
        parts.append(f'<path d="M{right} {down}h22" {line}/>')
        parts.append(_text(right + 28, down + 4, _shown(name)))
    bottom = _TOP + _SIDE
    parts += [
        _text(_LEFT, bottom + 16, "0", "middle"),
        _text(_LEFT + _SIDE, bottom + 16, "1", "middle"),
        _text(_LEFT - 6, bottom, "0", "end"),
        _text(_LEFT - 6, _TOP + 10, "1", "end"),
        _text(_LEFT + _SIDE / 2, bottom + 32, "input, fraction of full scale", "middle"),
        f'<g transform="rotate(-90 14 {_TOP + _SIDE / 2:g})">{_text(14, _TOP + _SIDE / 2, "output", "middle")}</g>',
        "</svg>",
    ]
    return "".join(parts)


def _path(curve: ToneCurve) -> str:
    x = np.linspace(0, 1, 121)
    points = zip(_LEFT + _SIDE * x, _TOP + _SIDE * (1 - curve(x)), strict=True)
    return "M" + "L".join(f"{across:.1f} {down:.1f}" for across, down in points)


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="currentColor" stroke="none">{text}</text>'


def _shown(name: Any) -> str:
    """Escape a name, without signs that are not printed, and cut it."""
    text = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in str(name))
    return escape(text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…")
