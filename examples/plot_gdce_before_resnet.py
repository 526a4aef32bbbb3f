"""
GDCE before a classifier
========================

A classifier of breast density is trained on one scanner. Two others render the same kind of body differently: one uses
a third of the grey values, the other bends them. ``GDCE`` stands before the classifier in one pipeline: it trains a
classifier of the reference's images for itself, freezes it, and learns one tone curve a scanner behind which that
classifier finds the right classes.

Everything here is simulated, so the true curves are known.
"""

# %%
# A small cohort
# --------------
# The patients of every scanner are different ones. ``CropForeground`` cuts off the air around the body, so that what
# is left between scanners is tone. One half of the patients is learned from, the other tests.
import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import Pipeline

from xray_harmonize import GDCE, CropForeground, ResNetClassifier, make_cohort
from xray_harmonize.evaluation.metrics import auc
from xray_harmonize.evaluation.splitters import cross_fit_halves

# Less shows nothing, but runs in seconds.
n_patients = int(os.environ.get("XRAY_HARMONIZE_EXAMPLE_PATIENTS", "120"))

cohort = make_cohort("density", n_patients=n_patients, size=64, physics="same", random_state=0)
X = CropForeground().fit_transform(cohort.images)
y = cohort.labels
train, test = cross_fit_halves(X.patient, random_state=0)

# %%
# The pipeline
# ------------
# It fits and predicts like any other of scikit-learn; which scanner made an image travels inside ``X``. VGG-16 gets
# random weights here, on purpose; give ``vgg_weights`` a file to compare images by trained features.
classifier = ResNetClassifier(width=16, image_size=48, max_epochs=16, validation_fraction=0, random_state=0)
gdce = GDCE("reference", classifier, scope="scanner", vgg_weights="random", view_size=48, max_steps=60, random_state=0)
model = Pipeline([("harm", gdce), ("clf", classifier)])
model.fit(X[train], y[train])

# %%
# Does it help?
# -------------
# The same classifier is asked about the images as they are and behind their curves. It is the one that GDCE trained on
# the reference alone, which has seen no image of the other scanners. The pipeline's own classifier was trained on the
# harmonized images of all three.
frozen = model["harm"].discriminator_
figures = {}
for scanner in ("reference", "senograph-like", "clearview-like"):
    own = test[X.scanner[test] == scanner]
    answers = {
        "as recorded": frozen.predict_proba(X[own]),
        "behind GDCE": frozen.predict_proba(model["harm"].transform(X[own])),
        "pipeline": model.predict_proba(X[own]),
    }
    figures[scanner] = {name: auc(y[own], proba, frozen.classes_) for name, proba in answers.items()}
    print(f"{scanner:15}", "  ".join(f"{name} {figure:.2f}" for name, figure in figures[scanner].items()))

# %%
# The curves
# ----------
# A scanner's curve is the same for all its images. Beside it stands the true one, which this cohort knows as its
# scanners expose alike.
grid = np.linspace(0, 1, 256)
figure, panels = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True, layout="constrained")
for panel, scanner in zip(panels, ("senograph-like", "clearview-like"), strict=True):
    first = np.flatnonzero(X.scanner == scanner)[:1]
    (curve,) = model["harm"].tone_curves(X[first])
    panel.plot(grid, curve(grid), label="learned")
    panel.plot(grid, cohort.true_curve(scanner)(grid), "--", label="true")
    panel.plot(grid, grid, ":", color="grey", linewidth=0.8)
    panel.set(title=scanner, xlabel="recorded", xlim=(0, 1), ylim=(0, 1))
panels[0].set_ylabel("harmonized")
panels[0].legend(frameon=False)

# %%
# The same body before and after, and on the reference
# ----------------------------------------------------
figure, panels = plt.subplots(2, 3, figsize=(7.5, 5), layout="constrained")
for row, scanner in zip(panels, ("senograph-like", "clearview-like"), strict=True):
    chosen = np.flatnonzero(cohort.images.scanner == scanner)[2:3]
    shown = {
        "as recorded": cohort.images.unit(chosen[0]),
        "behind GDCE": model["harm"].transform(cohort.images[chosen])[0],
        "on the reference": cohort.truth.unit(chosen[0]),
    }
    for panel, (title, image) in zip(row, shown.items(), strict=True):
        panel.imshow(image, cmap="gray", vmin=0, vmax=1)
        panel.set(title=title, xticks=[], yticks=[])
    row[0].set_ylabel(scanner)

# %%
# Both curves lie on the true ones as far as bodies reach. Behind them the classifier of the reference does as well on
# the scanner that uses a part of the range as at home (AUC .65 before, .80 behind, .82 at home), and no worse on the
# bent one (.78 before, .89 behind; its test patients are others). The pipeline's own classifier is better on all three,
# as it saw three times as many images: behind their curves, scanners can be learned from together.
