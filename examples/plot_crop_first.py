"""
Crop first
==========

Half of what differs between sites is not tone: borders, collimation, a field of view that somebody chose. It disturbs
every statistic that a harmonizer takes. So cut it off first. It costs nothing, and needs no image but the one in
hand.
"""

# %%
# A scanner with borders
# ----------------------
# The second scanner stores what ``clearview-like`` would, inside a white frame of its own, of a width that differs
# from image to image: a digitizer's plate, or collimation turned white by MONOCHROME1.
import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline

from xray_harmonize import CDFMatching, CropForeground, FullRange, ImageSet, ResNetClassifier, make_cohort
from xray_harmonize.evaluation.metrics import auc
from xray_harmonize.evaluation.splitters import cross_fit_halves

# Less shows nothing, but runs in seconds.
n_patients = int(os.environ.get("XRAY_HARMONIZE_EXAMPLE_PATIENTS", "160"))

cohort = make_cohort("density", ["reference", "clearview-like"], n_patients=n_patients, size=64, random_state=0)
rng = np.random.default_rng(0)
pixels = []
for i, scanner in enumerate(cohort.images.scanner):
    image = cohort.images.unit(i)
    if scanner == "clearview-like":
        image = np.pad(image, rng.integers(6, 22, size=(2, 2)), constant_values=1.0)
    pixels.append(image)
X = ImageSet(pixels, scanner=cohort.images.scanner, patient=cohort.images.patient)
y = cohort.labels

# %%
# What is cut off, and why
# ------------------------
# ``crops`` tells it for every image.
crop = CropForeground()
framed = np.flatnonzero(X.scanner == "clearview-like")
print(crop.crops(X[framed[:4]]).round(2).to_string())

figure, panels = plt.subplots(2, 4, figsize=(8, 4.2), layout="constrained")
cropped = crop.fit_transform(X)
for column, i in zip(panels.T, framed[:4], strict=True):
    for panel, image in zip(column, (X[int(i)], cropped[int(i)]), strict=True):
        panel.imshow(image, cmap="gray", vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[])
panels[0, 0].set_ylabel("as recorded")
panels[1, 0].set_ylabel("cropped")

# %%
# Crop, curve, both
# -----------------
# A frozen classifier of the reference, trained on what the same crop makes of the reference's images, is asked about
# the framed scanner. A step without parameters to learn belongs into the pipeline like any other.
train, test = cross_fit_halves(X.patient, random_state=0)
home = train[X.scanner[train] == "reference"]


def matching():
    """One curve a scanner, learned from what stands before it in a pipeline."""
    return CDFMatching(reference="reference", scope="scanner", foreground=0.02)


pipelines = {
    "nothing": make_pipeline(FullRange()),
    "CDF, scanner": make_pipeline(matching()),
    "crop": make_pipeline(CropForeground(), FullRange()),
    "crop + CDF, scanner": make_pipeline(CropForeground(), matching()),
}
curves = {}
for name, pipeline in pipelines.items():
    harmonized = pipeline.fit(X[train]).transform(X)
    network = ResNetClassifier(width=16, image_size=48, max_epochs=16, validation_fraction=0, random_state=0)
    network.fit(harmonized[home], y[home])
    told = []
    for scanner in ("reference", "clearview-like"):
        own = test[X.scanner[test] == scanner]
        told.append(f"{scanner} {auc(y[own], network.predict_proba(harmonized[own]), network.classes_):.2f}")
    print(f"{name:20}", "   ".join(told))
    if "CDF" in name:
        shown = X if len(pipeline) == 1 else cropped
        curves[name] = pipeline[-1].tone_curves(shown[framed[:1]])[0]

# %%
# The curves
# ----------
# Without the crop, the curve has to explain a white frame that the reference has not.
figure, axes = plt.subplots(figsize=(4.2, 3.6), layout="constrained")
for name, curve in curves.items():
    curve.plot(axes, label=name)
axes.legend(frameon=False)

# %%
# The white frame is found and cut off on every side, and with it most of the air. A curve alone makes nothing better
# here: it has to explain a frame that the reference has not, and runs far below the other one. The crop alone helps,
# at home too, where the body fills the network's view. Both together bring the framed scanner to within a few
# hundredths of the reference.
