"""
Structure that was never there
==============================

A method that makes every pixel anew can learn more from the reference than how it renders: what its *patients* have. A
network that is rewarded for images which pass for the reference's will paint a finding into healthy lungs if everybody
there has one. A tone curve cannot. Here is a case made for that, and how the audit tells it without knowing the truth.
"""

# %%
# The trap
# --------
# Two simulated chest scanners, healthy lungs on both. Then everybody on the reference is given an opacity in the right
# lung, as if it were the scanner of the ward where such patients lie. The other scanner's lungs stay clear.
import os
import textwrap

import matplotlib.pyplot as plt
import numpy as np

from xray_harmonize import CDFMatching, CycleGAN, ImageSet, audit, make_cohort
from xray_harmonize.evaluation.structure import structure_agreement

# Less shows nothing, but runs in seconds.
n_patients = int(os.environ.get("XRAY_HARMONIZE_EXAMPLE_PATIENTS", "40"))
n_steps = 240 if n_patients >= 40 else 20

scanners = ["chest-reference", "chest-b-like"]
healthy = {name: {0: 1} for name in scanners}
cohort = make_cohort("pneumonia", scanners, n_patients=n_patients, size=32, random_state=0, prevalence=healthy)
rng = np.random.default_rng(0)
y, x = np.mgrid[:32, :32] / 32
images = []
for i, scanner in enumerate(cohort.images.scanner):
    image = cohort.images.unit(i)
    if scanner == cohort.reference:
        down, right = rng.uniform(-0.04, 0.04, 2)
        image = image + 0.35 * np.exp(-((y - 0.52 - down) ** 2 + (x - 0.28 - right) ** 2) / 0.012)
    images.append(np.clip(image, 0, 1).astype(np.float32))
X = ImageSet(images, scanner=cohort.images.scanner, patient=cohort.images.patient)

# %%
# One call, without labels and without truth
# ------------------------------------------
# One curve a scanner, and a small CycleGAN that is not asked to leave the reference's own images alone.
shown = [n_patients, n_patients + 1, n_patients + 2]
found = audit(
    X,
    harmonizers={
        "CDF, scanner": CDFMatching(scope="scanner"),
        "CycleGAN": CycleGAN(
            n_features=8, n_blocks=2, identity_weight=0, lr=1e-3, max_steps=n_steps, augment=False, device="cpu"
        ),
    },
    reference=cohort.reference,
    controls=False,
    show=shown,
    n_permutations=50,
    n_bootstrap=100,
    n_refits=20,
)
for sentence in found.conclusions:
    print(textwrap.fill(sentence, 110))

# %%
# The figures behind the sentence: how much of an image's contrast was there before, by scanner.
content = found.content[found.content["measure"].str.endswith("agreement")]
print(content.pivot_table(index=["harmonizer", "scanner"], columns="measure", values="value").round(3).to_string())

# %%
# Look at the images
# ------------------
# Three healthy patients of the other scanner, measured behind methods that have not seen them. Beside them one of the
# reference's patients.
figure, panels = plt.subplots(3, 4, figsize=(8, 6.2), layout="constrained")
for row, sample in zip(panels, found.samples, strict=True):
    for panel, name in zip(row, ["none", "CDF, scanner", "CycleGAN"], strict=False):
        kept = structure_agreement(sample.images["none"], sample.images[name])
        panel.imshow(sample.images[name], cmap="gray", vmin=0, vmax=1)
        panel.set_xlabel("" if name == "none" else f"structure {kept:.2f}")
for row, i in zip(panels, range(3), strict=True):
    row[-1].imshow(X.unit(i), cmap="gray", vmin=0, vmax=1)
for panel, name in zip(panels[0], ["as it came", "CDF, scanner", "CycleGAN", "the reference's patients"], strict=True):
    panel.set_title(name)
for panel in panels.ravel():
    panel.set(xticks=[], yticks=[])

# %%
# How much brighter the place of the opacity is than the same place of the other lung:
here, there = (slice(15, 19), slice(7, 11)), (slice(15, 19), slice(21, 25))
for name in ("none", "CDF, scanner", "CycleGAN"):
    brighter = [sample.images[name][here].mean() - sample.images[name][there].mean() for sample in found.samples]
    print(f"{name:14}", " ".join(f"{one:+.2f}" for one in brighter))
print(f"{'the reference':14}", " ".join(f"{X.unit(i)[here].mean() - X.unit(i)[there].mean():+.2f}" for i in range(3)))

# %%
# The CycleGAN gives every healthy patient an opacity as bright as the reference's patients have it, in the lung where
# they have it. By distances alone it would pass: the probe tells scanners less well behind it, and the distance of
# features falls. Structure agreement tells: 12 % of the contrast in its images is between pixels that the images order
# otherwise, and the verdict names it. One curve a scanner comes closer to the reference, has 1.000, and cannot draw:
# a rising curve never changes which of two pixels is the brighter one. What no measure can tell is whether a drawn
# thing is a finding; for that there are eyes. Methods that are fitted to pairs of one and the same body have no such
# reason to draw, but the same freedom.
