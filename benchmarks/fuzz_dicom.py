"""Damaged DICOM files by the ten thousand: each must be read or refused, in time and in bounded memory.

Small files of every encoding that can be written here are damaged at random places (a byte or a bit changed, an end or
a piece missing, extreme lengths and counts); with ``--data`` every real file is cut at each hundredth of its length and
has single bytes changed. Workers read them one by one (pixels as they are, pixels behind their VOI, the header alone,
in turn) under a bound of address space and an alarm that no native decoder can hold off; what happened to a worker that
did not come back is charged to the input it was at.

Run as ``python benchmarks/fuzz_dicom.py --data FOLDER``, where ``FOLDER/dicom`` holds real files; writes
``benchmarks/results/fuzz_dicom.csv``, one row for each encoding and outcome:

``read``, ``refused``
    Pixels, or an error of the package.
``other error``
    Anything else that was raised.
``beyond memory``, ``hang``, ``crash``
    More memory than the bound was asked for; the alarm went off; the process died.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from result_files import write_result

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from damaged_dicom import damaged, whole_files

RESULT = Path(__file__).parent / "results" / "fuzz_dicom.csv"
SECONDS = 5.0
SMALL_PIXELS, REAL_PIXELS = 2**16, 2**24
# What the libraries map when they are loaded, and what may be asked for beside
ADDRESS_SPACE = 3 * 2**30
FLIPS_OF_A_REAL_FILE = 100


def plan(files: dict[str, int], n_inputs: int) -> list[tuple[str, int]]:
    """Name every input: a file and the number of its damage; real files take as many as they have."""
    small = [name for name, size in files.items() if not size]
    real = [(name, number) for name, size in files.items() if size for number in range(100 + FLIPS_OF_A_REAL_FILE)]
    rest = max(n_inputs - len(real), 0)
    return [(small[i % len(small)], i // len(small)) for i in range(rest)] + real


def damage(content: bytes, name: str, number: int, *, real: bool, seed: int) -> bytes:
    """Make one input; the same numbers make the same bytes."""
    rng = np.random.default_rng([seed, number, *name.encode()])
    if not real:
        return damaged(content, rng)
    if number < 100:
        return content[: len(content) * number // 100]
    out = bytearray(content)
    # Headers are short: half of the bytes changed are theirs
    place = int(rng.integers(len(out) if number % 2 else min(len(out), 8192)))
    out[place] ^= 1 << int(rng.integers(8))
    return bytes(out)


def work(folder: Path, seed: int) -> None:
    """Read inputs as their names come in, and tell of each before and after."""
    from xray_harmonize.dicom.read import read_dicom, read_header
    from xray_harmonize.exceptions import XRayHarmonizeError

    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, in the midst of a decoder too
    contents = {path.name: path.read_bytes() for path in (folder / "whole").iterdir()}
    ways = (read_dicom, partial(read_dicom, voi="auto"), read_header)
    baseline = 0
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        path = Path(file.name)
        for line in sys.stdin:
            index, name, number, real = json.loads(line)
            path.write_bytes(damage(contents[name], name, number, real=real, seed=seed))
            print(json.dumps({"start": index}), flush=True)
            baseline = baseline or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            start = time.perf_counter()
            try:
                ways[number % len(ways)](path, max_pixels=REAL_PIXELS if real else SMALL_PIXELS)
                outcome = "read"
            except XRayHarmonizeError as error:
                outcome = "beyond memory" if isinstance(error.__cause__, MemoryError) else "refused"
            except Exception as error:
                outcome = "other error"
                print(f"{name} {number}: {type(error).__name__}: {error}", file=sys.stderr)
            seconds = time.perf_counter() - start
            signal.setitimer(signal.ITIMER_REAL, 0)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - baseline
            print(json.dumps({"done": index, "outcome": outcome, "seconds": seconds, "kibibytes": peak}), flush=True)


def outcomes(jobs: list[tuple[int, str, int, bool]], folder: Path, seed: int) -> Iterator[dict]:
    """Have one worker after another read the inputs, and give what became of each."""
    waiting = list(jobs)
    while waiting:
        command = [sys.executable, __file__, "--worker", str(folder), "--seed", str(seed)]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert worker.stdin is not None
        assert worker.stdout is not None
        # Few enough lines for the pipe, so that a worker that dies leaves nobody waiting
        batch = waiting[:500]
        try:
            worker.stdin.write("".join(json.dumps(job) + "\n" for job in batch))
            worker.stdin.close()
        except BrokenPipeError:
            pass
        n_done, started = 0, False
        for line in worker.stdout:
            told = json.loads(line)
            started = "start" in told
            if "done" in told:
                n_done += 1
                yield told
        status = worker.wait()
        if status and not started:
            raise RuntimeError(f"A worker ended with status {status} between two inputs.")
        if status:
            outcome = "hang" if status == -signal.SIGALRM else "crash"
            seconds = SECONDS if outcome == "hang" else float("nan")
            index, name, number, _ = batch[n_done]
            print(f"{name} {number}: {outcome}, status {status}", file=sys.stderr)
            yield {"done": index, "outcome": outcome, "seconds": seconds, "kibibytes": float("nan")}
            n_done += 1
        waiting = waiting[n_done:]


def main() -> None:
    """Damage, read, count and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=22_000, help="how many damaged files, real ones included")
    parser.add_argument("--data", type=Path, help="folder of real data; its dicom/ is damaged too")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.seed)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "small").mkdir()
        (folder / "whole").mkdir()
        files = dict.fromkeys(contents := whole_files(folder / "small"), 0)
        for path in sorted((options.data / "dicom").glob("*.dcm")) if options.data else []:
            contents[path.stem] = path.read_bytes()
            files[path.stem] = len(contents[path.stem])
        for name, content in contents.items():
            (folder / "whole" / name).write_bytes(content)
        inputs = plan(files, options.inputs)
        jobs = [(i, name, number, files[name] > 0) for i, (name, number) in enumerate(inputs)]
        parts = [jobs[i :: options.workers] for i in range(options.workers)]
        with ThreadPoolExecutor(options.workers) as pool:
            done = list(pool.map(lambda part: list(outcomes(part, folder, options.seed)), parts))
    told = pd.DataFrame([one for part in done for one in part]).set_index("done").sort_index()
    told["encoding"] = [inputs[i][0] for i in told.index]
    told["real"] = [files[name] > 0 for name in told["encoding"]]
    groups = told.groupby(["real", "encoding", "outcome"])
    table = groups.agg(
        inputs=("seconds", "size"), longest_seconds=("seconds", "max"), peak_mebibytes=("kibibytes", "max")
    ).reset_index()
    table["peak_mebibytes"] /= 1024
    with pd.option_context("display.width", 200):
        print(table.to_string(index=False, float_format="{:.3g}".format))
        print(told.groupby("outcome").size().to_string())
    write_result(options.out, table, shlex.join(["python", *sys.argv]))


if __name__ == "__main__":
    main()
