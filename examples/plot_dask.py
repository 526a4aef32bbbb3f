"""
A whole archive, on many machines
=================================

``apply`` harmonizes every file of an archive. It may be killed at any moment and run again; nothing is done twice and
nothing is lost. The same call works in one process, on all cores, or on the workers of a Dask cluster: files stay
where they are, and only paths travel.
"""

# %%
# An archive and a fitted harmonizer
# ----------------------------------
# Arrays in folders named by the scanner; DICOM works alike. The harmonizer is learned from a part of the archive.
import os
import sqlite3
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from xray_harmonize import CDFMatching, ImageSet, make_cohort
from xray_harmonize.archive import apply

# Less shows nothing, but runs in seconds.
n_patients = int(os.environ.get("XRAY_HARMONIZE_EXAMPLE_PATIENTS", "60"))
folder = tempfile.TemporaryDirectory()
root = Path(folder.name)

cohort = make_cohort("density", ["reference", "clearview-like"], n_patients=n_patients, size=128, random_state=0)
for i, scanner in enumerate(cohort.images.scanner):
    place = root / "archive" / scanner / f"{i:04}.npy"
    place.parent.mkdir(parents=True, exist_ok=True)
    np.save(place, cohort.images.unit(i))

archive = ImageSet.from_folder(root / "archive")
print(archive)
harmonizer = CDFMatching(reference="reference", scope="scanner", foreground=0.02).fit(archive[::4])

# %%
# Start a cluster
# ---------------
# This one lives in this process. A real one is started with ``dask scheduler`` and, on every machine, ``dask worker
# tcp://SCHEDULER:8786``; the machines must see the archive and the output under the same paths. Without Dask the same
# work is done here.
try:
    from distributed import LocalCluster
except ImportError:
    LocalCluster = None
    print("Dask is not installed: pip install 'xray_harmonize[dask]'. One process does the work.")

if LocalCluster is None:
    summary = apply(harmonizer, root / "archive", root / "harmonized", format="png")
else:
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        summary = apply(
            harmonizer, root / "archive", root / "harmonized", format="png", scheduler=cluster.scheduler_address
        )
print(f"{summary.written} of {summary.total} written, {summary.failed} failed")

# %%
# Run it again
# ------------
# After a crash, or because files came in. One source is changed and one is damaged: two files are looked at, the
# damaged one is reported with its reason, and the others stay.
np.save(root / "archive" / "reference" / "0000.npy", cohort.images.unit(1))
(root / "archive" / "reference" / "0002.npy").write_bytes(b"no array")
summary = apply(harmonizer, root / "archive", root / "harmonized", format="png")
print(f"{summary.written} written, {summary.unchanged} unchanged, {summary.failed} failed")
for source, reason in summary.failures:
    print(Path(source).name, "->", reason.replace(str(root), "..."))

# %%
# The manifest
# ------------
# One row a source, with hashes of source, model and output: what became of every file, and by which model.
with sqlite3.connect(summary.manifest) as manifest:
    print(manifest.execute("SELECT state, count(*) FROM image GROUP BY state").fetchall())
manifest.close()
print("model", summary.model_sha256[:16])

# %%
figure, panels = plt.subplots(1, 3, figsize=(7, 2.7), layout="constrained")
number = n_patients + 2  # the first patients are the reference's
shown = {
    "in the archive": np.load(root / "archive" / "clearview-like" / f"{number:04}.npy"),
    "harmonized": plt.imread(root / "harmonized" / "clearview-like" / f"{number:04}.png"),
    "on the reference": cohort.truth.unit(number),
}
for panel, (title, image) in zip(panels, shown.items(), strict=True):
    panel.imshow(image, cmap="gray", vmin=0, vmax=1)
    panel.set(title=title, xticks=[], yticks=[])
folder.cleanup()

# %%
# All 120 files were written by two workers. The second run wrote the one that had changed, reported the damaged one
# with its path and reason, and left 118 as they were. The harmonized picture is close to what the reference makes of
# the same body, which this archive knows as it is simulated.
