"""What an audit found, as tables that can be looked at, saved and made into a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xray_harmonize.atomic import replacing
from xray_harmonize.evaluation.cautions import Caution
from xray_harmonize.tone import ToneCurve

CONTROL_COLUMNS = ["control", "harmonizer", "measure", "value", "low", "high", "expected", "passed"]


@dataclass(frozen=True)
class Sample:
    """One image before and after each harmonizer.

    Parameters
    ----------
    scanner, name : str
    images : mapping of str to ndarray of float of shape (height, width)
        By harmonizer, in [0, 1]; ``"none"`` is the image as it came.
    """

    scanner: str
    name: str
    images: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class AuditResult:
    """Everything that :func:`~xray_harmonize.auditing.audit.audit` measured.

    Parameters
    ----------
    reference : str
        Scanner that images were brought to.
    overview : DataFrame
        One row a scanner: ``scanner``, ``n_images``, ``n_patients``, and a column of counts for each class.
    harmonizers : dict of str to str
        Name to what it is, parameters included; ``"none"`` first.
    domain : DataFrame
        Distances between scanners: columns of :func:`~xray_harmonize.evaluation.domain.domain_measures` behind
        ``harmonizer``. No Wasserstein distances of images that leave [0, 1].
    content : DataFrame
        What happened to the images: columns of :func:`~xray_harmonize.evaluation.content.content_measures` behind
        ``harmonizer``, of 100 images of each scanner at most. Methods that change geometry have no rows, and those
        that leave [0, 1] none of PSNR and SSIM.
    curves : DataFrame
        :func:`~xray_harmonize.evaluation.content.curve_checks` of the curves shown, behind ``harmonizer`` and
        ``scanner``.
    task : DataFrame or None
        One row a harmonizer and scanner: ``auc`` with 95 % interval, ``difference`` to doing nothing with an interval
        corrected for the number of differences looked at, and an uncorrected ``p``. Intervals count both whose images
        are tested and whose the classifier is trained on. None without labels, or where the reference holds one class.
    controls : DataFrame
        What should come out as nothing: ``control``, ``harmonizer``, ``measure``, ``value``, ``low``, ``high``,
        ``expected`` (in words) and ``passed``.
    cautions : list of Caution
        The gravest first.
    conclusions : list of str
        The verdict in sentences, the most important one first.
    embeddings : DataFrame
        One row a harmonizer and image: ``harmonizer``, ``x``, ``y``, ``scanner``, ``label``.
    histograms : dict of dict of ndarray of float of shape (n_bins,)
        By harmonizer, then scanner: density of grey values over equal bins from black to white. Of images that leave
        [0, 1], ``harmonizers`` says what is drawn as black and as white.
    tone_curves : dict of dict of list of ToneCurve
        By harmonizer, then scanner: curves of a few images.
    samples : list of Sample
        Images that the caller named.
    settings : dict
        How it was done: sizes, seeds, numbers of resamples.
    versions : dict of str to str
        Package to version.
    """

    reference: str
    overview: pd.DataFrame
    harmonizers: dict[str, str]
    domain: pd.DataFrame
    content: pd.DataFrame
    curves: pd.DataFrame
    task: pd.DataFrame | None
    controls: pd.DataFrame
    cautions: list[Caution]
    conclusions: list[str]
    embeddings: pd.DataFrame
    histograms: dict[str, dict[str, np.ndarray]] = field(repr=False)
    tone_curves: dict[str, dict[str, list[ToneCurve]]] = field(repr=False)
    samples: list[Sample] = field(repr=False)
    settings: dict[str, Any]
    versions: dict[str, str]

    @property
    def scanners(self) -> list[str]:
        """All scanners, the reference first."""
        names = self.overview["scanner"].tolist()
        return [self.reference, *sorted(set(names) - {self.reference})]

    def verdict(self) -> str:
        """Say in words what holds, one sentence a line."""
        return "\n".join(self.conclusions)

    def to_html(self, path: str | Path) -> Path:
        """Write the audit as one page that needs nothing else.

        Parameters
        ----------
        path : path
            File to write; it appears whole or not at all.

        Returns
        -------
        Path
        """
        # Here, as it draws in matplotlib, which tables need not.
        from xray_harmonize.report.audit_page import write_audit_page

        target = Path(path)
        write_audit_page(self, target)
        return target

    def save_tables(self, folder: str | Path) -> list[Path]:
        """Write every table as CSV into a folder.

        Parameters
        ----------
        folder : path
            Made if it is not there.

        Returns
        -------
        list of Path
            ``overview.csv``, ``domain.csv``, ``content.csv``, ``curves.csv``, ``task.csv``, ``controls.csv``,
            ``cautions.csv``, ``embeddings.csv``, without those that hold nothing.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        tables = {
            "overview": self.overview,
            "domain": self.domain,
            "content": self.content,
            "curves": self.curves,
            "task": self.task,
            "controls": self.controls,
            "cautions": _as_table(self.cautions),
            "embeddings": self.embeddings,
        }
        written = []
        for name, table in tables.items():
            if table is None or table.empty:
                continue
            with replacing(place / f"{name}.csv") as stream:
                table.to_csv(stream, index=False, lineterminator="\n")
            written.append(place / f"{name}.csv")
        return written

    def _repr_html_(self) -> str:
        """Show the verdict and the table of the task in a notebook."""
        from html import escape

        words = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.conclusions)
        shown = self.domain if self.task is None else self.task
        return f"<ul>{words}</ul>{shown.round(3).to_html(index=False, border=0)}"


def _as_table(found: Sequence[Caution]) -> pd.DataFrame:
    columns = ["severity", "name", "what", "means", "do"]
    return pd.DataFrame([{name: getattr(one, name) for name in columns} for one in found], columns=columns)
