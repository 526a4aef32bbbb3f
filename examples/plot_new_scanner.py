"""
A new scanner on a Monday
=========================

A pipeline is deployed. Then a scanner is installed that nobody had when it was trained. ``adapt`` learns its curve
from a few unlabelled images; reference, classifier and known scanners stay as they are. How many images does it take?
"""

# %%
# The pipeline that is deployed
# -----------------------------
import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import Pipeline

from xray_harmonize import CDFMatching, CropForeground, ResNetClassifier, make_cohort
from xray_harmonize.evaluation.metrics import auc
from xray_harmonize.exceptions import UnknownScannerError

# Less shows nothing, but runs in seconds.
n_patients = int(os.environ.get("XRAY_HARMONIZE_EXAMPLE_PATIENTS", "144"))

scanners = ["reference", "clearview-like"]
cohort = make_cohort("density", scanners, n_patients=n_patients, size=64, random_state=0)
X, y = CropForeground().fit_transform(cohort.images), cohort.labels
home = X.scanner == "reference"
known = home & (np.arange(len(X)) // 4 % 2 == 0)  # the classes come in turn

harmonizer = CDFMatching(reference="reference", scope="scanner", foreground=0.02)
network = ResNetClassifier(width=16, image_size=48, max_epochs=16, validation_fraction=0, random_state=0)
model = Pipeline([("harm", harmonizer), ("clf", network)]).fit(X[known], y[known])

# %%
# Monday
# ------
# It refuses a scanner that it does not know, rather than guess.
new = np.flatnonzero(X.scanner == "clearview-like")
try:
    model.predict(X[new[:1]])
except UnknownScannerError as error:
    print(error)

# %%
# Some images of it, no labels
# ----------------------------
# A quarter of its patients test. From the others images are drawn, six times for each number. ``adapt`` gives a new
# harmonizer, so nothing that is deployed changes under anybody's feet.
rng = np.random.default_rng(0)
tested = new[np.arange(len(new)) // 4 % 4 == 0]
offered = np.setdiff1d(new, tested)
at_home = np.flatnonzero(home & ~known)


def area(steps, positions):
    """AUC of the deployed classifier behind a harmonizer."""
    return auc(y[positions], model["clf"].predict_proba(steps.transform(X[positions])), model["clf"].classes_)


as_recorded = auc(y[tested], model["clf"].predict_proba(X[tested]), model["clf"].classes_)
print(f"at home {area(model['harm'], at_home):.2f}, new scanner as recorded {as_recorded:.2f}")
numbers = [2, 5, 10, 20, min(50, len(offered))]
areas = np.array(
    [[area(model["harm"].adapt(X[rng.choice(offered, n, replace=False)]), tested) for _ in range(6)] for n in numbers]
)
for n, drawn in zip(numbers, areas, strict=True):
    print(f"{n:3} images: {drawn.mean():.2f} (from {drawn.min():.2f} to {drawn.max():.2f})")

# %%
figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
axes.plot(numbers, areas, "o", color="tab:blue", alpha=0.4)
axes.plot(numbers, areas.mean(axis=1), color="tab:blue", label="adapted, mean of six draws")
axes.axhline(as_recorded, color="tab:red", linestyle="--", label="as recorded")
axes.axhline(area(model["harm"], at_home), color="grey", linestyle=":", label="at home")
axes.set(xlabel="unlabelled images of the new scanner", ylabel="AUC on other patients", xscale="log", xticks=numbers)
axes.set_xticklabels(numbers)
axes.minorticks_off()
axes.legend(frameon=False, ncols=3, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1))

# %%
# As recorded, the new scanner's AUC is .74. Two unlabelled images already leave it no worse on average, ten bring
# .80, fifty .83, where the classifier has .84 at home. With two images the draw decides (.70 to .82); from ten on it
# matters little.
