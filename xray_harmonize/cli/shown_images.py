"""Which images a report may show: those that the user names, and random ones where asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xray_harmonize.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from xray_harmonize.images import ImageSet


def positions_to_show(X: ImageSet, names: list[str], n_random: int, seed: int = 0) -> list[int]:
    """Find the images that the user names, then some random ones of each scanner where asked for.

    Parameters
    ----------
    X : ImageSet
        With the column ``path`` in its table.
    names : list of str
        Paths as the table has them, or their ends.
    n_random : int
        Of each scanner.
    seed : int, default=0

    Returns
    -------
    list of int
        None of them twice.

    Raises
    ------
    InvalidParameterError
        If a name is that of no image.
    """
    import numpy as np

    paths = [str(X.meta_value(i, "path")) for i in range(len(X))]
    positions = []
    for name in names:
        found = [i for i, path in enumerate(paths) if path == name or path.endswith(f"/{name}")]
        if not found:
            raise InvalidParameterError(f"--show {name}: the table has no such image. Give a path as the table has it.")
        positions += found
    rng = np.random.default_rng(seed)
    if n_random and X.scanner is not None:
        for scanner in sorted(set(X.scanner)):
            positions += sorted(rng.permutation(np.flatnonzero(X.scanner == scanner))[:n_random].tolist())
    return list(dict.fromkeys(positions))
