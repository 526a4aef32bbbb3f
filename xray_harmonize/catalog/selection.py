"""Images chosen from a collection, and how many each step of the choice left."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import islice
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from xray_harmonize.atomic import replacing
from xray_harmonize.exceptions import InvalidParameterError, NotEnoughImagesError
from xray_harmonize.labels import SkippedRow

_SHOWN_VALUES = 5


@dataclass(frozen=True)
class Selection:
    """Images chosen from a collection.

    Parameters
    ----------
    images : DataFrame
        One row an image: ``path``, ``label``, ``scanner``, ``patient``, and what else is known.
    flow : DataFrame
        The flow chart of the choice, one row a step: ``step``, ``images`` and ``patients`` that it left.
    skipped : list of SkippedRow
        Files that could not be read, and why.
    """

    images: pd.DataFrame
    flow: pd.DataFrame
    skipped: list[SkippedRow] = field(default_factory=list)


class Flow:
    """Count the images and patients that the steps of a choice leave.

    Parameters
    ----------
    source : str
        What errors call the collection.

    Examples
    --------
    >>> flow = Flow("Ward 3")
    >>> images = flow.start(pd.DataFrame({"patient": ["a", "a", "b"], "view": ["CC", "MLO", "CC"]}), "all images")
    >>> images = flow.keep(images, images["view"] == "CC", "view CC", column="view", expected="'CC'")
    >>> flow.table().values.tolist()
    [['all images', 3, 2], ['view CC', 2, 2]]
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._steps: list[tuple[str, int, int]] = []

    def start(self, images: pd.DataFrame, step: str) -> pd.DataFrame:
        """Record what there is, a table with the column ``patient``."""
        self._steps.append((step, len(images), images["patient"].nunique()))
        return images

    def keep(
        self,
        images: pd.DataFrame,
        passes: pd.Series | np.ndarray,
        step: str,
        *,
        column: str,
        expected: str,
        advice: str = "Check that the tables are those of the collection.",
    ) -> pd.DataFrame:
        """Keep the images that pass and record how many.

        Raises
        ------
        NotEnoughImagesError
            If none passes: the message names the step, what ``column`` should hold and what it holds.
        """
        kept = images[passes]
        if kept.empty:
            held = images[column].value_counts(dropna=False)
            shown = (("nothing" if pd.isna(value) else repr(value), count) for value, count in held.items())
            values = [f"{value} ({count})" for value, count in islice(shown, _SHOWN_VALUES)]
            if len(held) > _SHOWN_VALUES:
                values.append(f"and {len(held) - _SHOWN_VALUES} more")
            raise NotEnoughImagesError(
                f"{self._source}: no image is left after the step '{step}'; expected some with {column} {expected}, "
                f"the {len(images)} image(s) before it have {', '.join(values) or 'none'}. {advice}"
            )
        return self.start(kept, step)

    def table(self) -> pd.DataFrame:
        """Give the steps with the images and patients that each left."""
        return pd.DataFrame(self._steps, columns=["step", "images", "patients"])


def draw(
    images: pd.DataFrame,
    n: int | None,
    random_state: int | np.random.RandomState | None,
    *,
    one_a_patient: bool,
) -> pd.DataFrame:
    """Draw up to ``n`` images of every scanner and label.

    Parameters
    ----------
    images : DataFrame
        With the columns ``path``, ``label``, ``scanner`` and ``patient``.
    n : int or None
        Most images of a scanner and label; None for all.
    random_state : int, RandomState or None
        Which are drawn. The draw depends on the images and not on the order of the rows.
    one_a_patient : bool
        Draw one image of every patient in a scanner and label, all of the patient's being as likely.

    Returns
    -------
    DataFrame
        Ordered by scanner, label and path.

    Examples
    --------
    >>> images = pd.DataFrame({"path": list("abc"), "label": 0, "scanner": "GE", "patient": ["p", "p", "q"]})
    >>> draw(images, 2, 0, one_a_patient=True)["patient"].tolist()
    ['p', 'q']
    """
    rng = check_random_state(random_state)
    drawn = images.sort_values(["scanner", "label", "path"], ignore_index=True)
    drawn = drawn.iloc[rng.permutation(len(drawn))]
    if one_a_patient:
        # Shuffled anew: whose images are many came early, and patients are to be equally likely.
        drawn = drawn.drop_duplicates(["scanner", "label", "patient"])
        drawn = drawn.iloc[rng.permutation(len(drawn))]
    if n is not None:
        drawn = drawn.groupby(["scanner", "label"], observed=True, sort=False).head(n)
    return drawn.sort_values(["scanner", "label", "path"], ignore_index=True)


def check_count(name: str, value: object, *, none_means: str | None = None) -> None:
    """Raise InvalidParameterError unless a count is a positive integer, or None where that means something."""
    if none_means and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        otherwise = f", or None for {none_means}" if none_means else ""
        raise InvalidParameterError(f"{name} must be an integer of at least 1{otherwise}; got {value!r}.")


def write_table(images: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write images as the CSV that :func:`~xray_harmonize.labels.read_labels` reads, whole or not at all.

    Parameters
    ----------
    images : DataFrame
        As :class:`Selection` holds them.
    path : path-like
        File to write; its folder must exist.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> target = pathlib.Path(folder.name, "labels.csv")
    >>> write_table(pd.DataFrame({"path": ["a.dcm"], "label": [1], "scanner": ["GE"], "patient": ["p"]}), target)
    >>> target.read_text().splitlines()
    ['path,label,scanner,patient', 'a.dcm,1,GE,p']
    >>> folder.cleanup()
    """
    with replacing(os.fspath(path)) as stream:
        images.to_csv(stream, index=False, lineterminator="\n")
