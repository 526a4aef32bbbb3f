"""
A tone curve as DICOM, without touching a pixel
===============================================

Every global method is a tone curve, and DICOM has a place for tone curves: the VOI LUT. So an image can be harmonized
for whoever views it while its pixels stay byte for byte what the scanner stored: in a copy with a LUT, or in a
presentation state that refers to the original. Derived images with new pixels are the third way.
"""

# %%
# Files of two scanners
# ---------------------
# Simulated images, written as plain DICOM the way vendors code them: ``clearview-like`` as MONOCHROME1, where white
# is zero.
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from xray_harmonize import CDFMatching, ImageSet, make_cohort
from xray_harmonize.dicom.presentation import presentation_state, voi_lut_copy
from xray_harmonize.dicom.read import read_dicom
from xray_harmonize.dicom.write import derived_dicom, write_dicom_file
from xray_harmonize.persistence import fingerprint

# Less shows nothing, but runs in seconds.
n_patients = int(os.environ.get("XRAY_HARMONIZE_EXAMPLE_PATIENTS", "40"))
folder = tempfile.TemporaryDirectory()
root = Path(folder.name)


def write(path, pixels, bits_stored, scanner, patient, inverted):
    """Write stored values as a small mammogram of a made-up device."""
    dataset = Dataset()
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = (generate_uid() for _ in range(3))
    dataset.PatientID, dataset.PatientName, dataset.Modality = patient, "", "MG"
    dataset.Manufacturer, dataset.ManufacturerModelName = "Simulated", scanner
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits_stored, bits_stored - 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.PixelData = (2**bits_stored - 1 - pixels if inverted else pixels).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


cohort = make_cohort("density", ["reference", "clearview-like"], n_patients=n_patients, size=128, random_state=0)
paths = []
for i, (scanner, patient) in enumerate(zip(cohort.images.scanner, cohort.images.patient, strict=True)):
    paths.append(root / f"{i:03}.dcm")
    bits = cohort.presets[scanner].tone.bits_stored
    write(paths[-1], cohort.images[i], bits, scanner, str(patient), inverted=scanner == "clearview-like")

# %%
# A harmonizer that knows nothing of DICOM
# ----------------------------------------
# ``from_dicom`` reads scanner and patient from the headers; polarity is undone on the way. A curve that people will
# look through is smoothed, and its slope bounded, so that noise does not become structure.
X = ImageSet.from_dicom(paths)
harmonizer = CDFMatching(
    reference="Simulated reference", scope="scanner", foreground=0.02, smoothness=0.01, max_slope=8
).fit(X)
source = int(np.flatnonzero(X.scanner == "Simulated clearview-like")[2])
(curve,) = harmonizer.tone_curves(X[[source]])
wanted = harmonizer.transform(X[[source]])[0]
print(curve)
print(read_dicom(paths[source]).meta["provenance"])

# %%
# Three files
# -----------
# Their identifiers follow from source and model, so writing again gives the same files.
said = {"method": "CDFMatching", "model_hash": fingerprint(harmonizer)}
write_dicom_file(voi_lut_copy(paths[source], curve, **said), root / "copy.dcm")
write_dicom_file(presentation_state(paths[source], curve, **said), root / "state.dcm")
write_dicom_file(derived_dicom(paths[source], wanted, **said), root / "derived.dcm")
for name in (paths[source].name, "copy.dcm", "state.dcm", "derived.dcm"):
    print(f"{name:12} {(root / name).stat().st_size:7} bytes")

# %%
# Do they say what the harmonizer says?
# -------------------------------------
# The copy holds the same stored values, and read through its LUT it is the harmonized image.
copied, original = read_dicom(root / "copy.dcm"), read_dicom(paths[source])
through_lut = read_dicom(root / "copy.dcm", voi="lut").pixels / 65535
derived = read_dicom(root / "derived.dcm").pixels / 65535
print("pixels of the copy are those of the source:", np.array_equal(copied.pixels, original.pixels))
print(f"copy through its LUT, largest difference: {np.abs(through_lut - wanted).max():.6f}")
print(f"derived image, largest difference:        {np.abs(derived - wanted).max():.6f}")

# %%
figure, panels = plt.subplots(1, 4, figsize=(9, 2.9), layout="constrained")
shown = {"stored": original.pixels / 4095, "copy through its LUT": through_lut, "derived": derived}
for panel, (title, image) in zip(panels, shown.items(), strict=False):
    panel.imshow(image, cmap="gray", vmin=0, vmax=1)
    panel.set(title=title, xticks=[], yticks=[])
curve.plot(panels[3])
panels[3].set(title="the curve")
folder.cleanup()

# %%
# The copy has the same stored values as the source, and its LUT shows the harmonized image within half a level of 16
# bits; so does the derived image, at the price of new pixels. The presentation state is a third of the size, holds no
# pixel, and refers to the original. Polarity is no trap: the source is MONOCHROME1, and the LUT was turned round for
# it.
