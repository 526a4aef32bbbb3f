"""Keep the table of a comparison beside the other results, with the command that made it and the versions.

Run as ``python benchmarks/keep_summary.py OUT NAME COMMAND...`` after ``xray-harmonize compare ... --out OUT``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from result_files import write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder that compare wrote to")
    parser.add_argument("name", help="what the result file is called")
    parser.add_argument("command", help="what was typed, in quotes")
    options = parser.parse_args()
    path = Path(__file__).parent / "results" / f"{options.name}.csv"
    write_result(path, pd.read_csv(options.out / "summary.csv", keep_default_na=False), options.command)
    print(path)


if __name__ == "__main__":
    main()
