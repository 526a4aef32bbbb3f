"""Peak memory of harmonizing a lazy set, against the number of images in it.

Each number of images runs in a process of its own, which fits and transforms CDFMatching over files of 3000 x 3000
pixels and looks at every result once. Run as ``python benchmarks/lazy_memory.py``; writes
``benchmarks/results/lazy_memory.csv``.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from result_files import write_result

N_IMAGES = (4, 16, 64)

RUN = """
import resource, sys
from pathlib import Path
from xray_harmonize import CDFMatching, ImageSet, set_cache_size
set_cache_size(64)
X = ImageSet(sorted(Path(sys.argv[1]).glob("*.npy"))[: int(sys.argv[2])], bits_stored=12)
total = 0.0
for image in CDFMatching().fit(X[:4]).transform(X):
    total += float(image[0, 0])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        image = rng.integers(0, 4096, (3000, 3000)).astype(np.uint16)
        for i in range(max(N_IMAGES)):
            np.save(Path(folder) / f"{i:03d}.npy", image)
        for n in N_IMAGES:
            done = subprocess.run(
                [sys.executable, "-c", RUN, folder, str(n)], capture_output=True, text=True, check=True
            )
            rows.append(
                {"n_images": n, "pixels_mebibytes": n * image.nbytes / 2**20, "peak_mebibytes": float(done.stdout)}
            )
    table = pd.DataFrame(rows)
    write_result(Path(__file__).parent / "results" / "lazy_memory.csv", table, shlex.join(["python", *sys.argv]))
    print(table.round(1).to_string(index=False))


if __name__ == "__main__":
    main()
