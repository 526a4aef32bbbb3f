"""Files a second that ``build_index`` brings into a catalogue, against a plain loop over pydicom and a DataFrame.

Run it as ``python benchmarks/index_speed.py`` on a machine with two cores that does nothing else. Headers are those of
``header_speed.py``, a hundred in a folder, in files that the system holds in memory. All ways take turns, each over all
files from an empty start: the plain loop finds the files, reads each by ``pydicom.dcmread(stop_before_pixels=True)``
and makes a DataFrame of the attributes; ``build_index`` does all that ``xray-harmonize index`` does, to the catalogue
on disk. The last way is a second run over unchanged files. Medians over the rounds; a ratio is the median of the ratios
within the rounds. Writes ``benchmarks/results/index_speed.csv``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
from fourier_speed import take_turns
from header_speed import plain, write_headers
from result_files import write_result

from xray_harmonize import Catalog
from xray_harmonize.catalog.index import build_index

RESULT = Path(__file__).parent / "results" / "index_speed.csv"
LOOP, ONE, TWO, AGAIN = "pydicom loop and DataFrame", "index, 1 job", "index, 2 jobs", "index of unchanged files"
GOALS = ((ONE, LOOP, 1.5), (TWO, ONE, 1.8), (AGAIN, ONE, 50.0))


def write_archive(folder: Path, n_files: int, files_per_folder: int) -> None:
    """Write headers, so many in a folder."""
    for number, path in enumerate(write_headers(folder, n_files)):
        below = folder / f"p{number // files_per_folder:05d}"
        below.mkdir(exist_ok=True)
        path.rename(below / path.name)


def plain_table(folder: Path) -> pd.DataFrame:
    """Do what one would write without this package."""
    return pd.DataFrame([{"path": str(path), **plain(path)} for path in sorted(folder.rglob("*.dcm"))])


def measure(archive: Path, databases: Path, rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of every way in every round."""
    numbers = count()

    def index(n_jobs: int) -> None:
        build_index(archive, databases / f"{next(numbers)}.sqlite", n_jobs=n_jobs)

    known = databases / "known.sqlite"
    summary = build_index(archive, known)
    with Catalog(known) as catalog:
        assert len(catalog.paths()) == summary.n_new == len(plain_table(archive))
    return take_turns(
        {
            LOOP: lambda: plain_table(archive),
            ONE: lambda: index(1),
            TWO: lambda: index(2),
            AGAIN: lambda: build_index(archive, known, n_jobs=1),
        },
        rounds,
    )


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000, help="number of headers")
    parser.add_argument("--files-per-folder", type=int, default=100, help="how many of them lie in a folder")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that medians are taken over")
    parser.add_argument("--out", type=Path, default=RESULT, help="the table to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        archive, databases = Path(temporary, "archive"), Path(temporary, "databases")
        archive.mkdir()
        databases.mkdir()
        write_archive(archive, options.files, options.files_per_folder)
        times = measure(archive, databases, options.rounds)
    ratios = {(way, than): float(np.median(times[than] / times[way])) for way, than, _ in GOALS}
    table = [
        {
            "way": name,
            "files_per_second": options.files / float(np.median(milliseconds)) * 1000,
            "microseconds_per_file": float(np.median(milliseconds)) * 1000 / options.files,
            "faster_than": next((than for way, than, _ in GOALS if way == name), ""),
            "times": next((ratios[way, than] for way, than, _ in GOALS if way == name), np.nan),
            "goal": next((goal for way, _, goal in GOALS if way == name), np.nan),
            "files": options.files,
            "files_per_folder": options.files_per_folder,
            "rounds": options.rounds,
        }
        for name, milliseconds in times.items()
    ]
    frame = pd.DataFrame(table)
    with pd.option_context("display.width", 200):
        print(frame.to_string(index=False, float_format="{:.3g}".format))
    write_result(options.out, frame, f"python {shlex.join(sys.argv)}")


if __name__ == "__main__":
    main()
