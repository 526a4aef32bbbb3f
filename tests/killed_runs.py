"""Run an archive again and again in processes that are killed at random moments; run by tests as a script."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import cv2
from archive_factory import Halving

from xray_harmonize.archive import apply


def main(scans: str, out: str, kills: int, seed: int) -> None:
    """Kill so many runs, each in a child of this process, which has imported everything already."""
    cv2.setNumThreads(1)
    rng = random.Random(seed)
    for kill in range(kills):
        child = os.fork()
        if child == 0:
            apply(Halving(0.005), scans, out, format="png")
            os._exit(0)
        # The first ones while the run is being planned, the others each a few files further on.
        while kill > 2 and os.waitpid(child, os.WNOHANG) == (0, 0) and n_outputs(out) < 2 * kill:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        try:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        except (ProcessLookupError, ChildProcessError):  # it has come to its end
            break
    sys.stdout.write(f"{n_outputs(out)}\n")


def n_outputs(out: str) -> int:
    """Count the files that are there."""
    return sum(1 for _ in Path(out).rglob("*.png"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
