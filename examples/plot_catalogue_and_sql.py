"""
A catalogue, and questions in SQL
=================================

An archive of DICOM files becomes one SQLite file: what every header tells of the acquisition, labels from tables, and
where each came from. The images for a study are then a ``WHERE``. Here with a made-up archive laid out as MIMIC-CXR
is, where manufacturers were removed and the way of acquisition has to stand in for the scanner.
"""

# %%
# An archive like MIMIC-CXR
# -------------------------
# DICOM in ``files/p10/p10000032/s50414267/``, a table of metadata and one of labels. Two kinds of unit: fixed ones
# store 12 bits of a fine matrix, portable ones 10 bits of a coarse one. What is imaged is simulated.
import csv
import gzip
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from xray_harmonize import Catalog, CDFMatching, make_cohort
from xray_harmonize.catalog.index import build_index
from xray_harmonize.catalog.mimic_cxr import FINDINGS, import_mimic_cxr

# Less shows nothing, but runs in seconds.
n_patients = int(os.environ.get("XRAY_HARMONIZE_EXAMPLE_PATIENTS", "60"))
folder = tempfile.TemporaryDirectory()
root = Path(folder.name)
units = {
    "chest-reference": {"view": "PA", "procedure": "CHEST (PA AND LAT)", "spacing": 0.139, "kvp": 120},
    "chest-b-like": {"view": "AP", "procedure": "CHEST (PORTABLE AP)", "spacing": 0.16, "kvp": 90},
}


def write(path, pixels, bits_stored, subject, unit):
    """Write stored values as a small radiograph without a manufacturer."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality = ComputedRadiographyImageStorage, "CR"
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = (generate_uid() for _ in range(3))
    dataset.PatientID, dataset.PatientName = str(subject), ""
    dataset.ViewPosition, dataset.KVP = unit["view"], unit["kvp"]
    dataset.ImagerPixelSpacing = [unit["spacing"]] * 2
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits_stored, bits_stored - 1
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def write_table(name, rows):
    """Write rows as the collection has them."""
    with gzip.open(root / name, "wt", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


cohort = make_cohort("pneumonia", n_patients=n_patients // 2, size=96, random_state=0)
metadata, labels = [], []
for i, scanner in enumerate(cohort.images.scanner):
    subject, study, dicom_id = 10000032 + i, 50414267 + i, f"{i:08x}-{7919 * i:08x}"
    size = 96 if scanner == "chest-reference" else 80
    bits = cohort.presets[scanner].tone.bits_stored
    place = root / "files" / "p10" / f"p{subject}" / f"s{study}" / f"{dicom_id}.dcm"
    write(place, cohort.images[i][:size, :size], bits, subject, units[scanner])
    ids = {"subject_id": subject, "study_id": study}
    metadata.append(
        {
            "dicom_id": dicom_id,
            **ids,
            "PerformedProcedureStepDescription": units[scanner]["procedure"],
            "ViewPosition": units[scanner]["view"],
            "Rows": size,
            "Columns": size,
            "StudyDate": 21800506,
            "StudyTime": 213014.5,
            "ProcedureCodeSequence_CodeMeaning": "",
            "ViewCodeSequence_CodeMeaning": "",
            "PatientOrientationCodeSequence_CodeMeaning": "Erect",
        }
    )
    labels.append({**ids, **dict.fromkeys(FINDINGS, ""), "Pneumonia": float(cohort.labels[i])})
write_table("mimic-cxr-2.0.0-metadata.csv.gz", metadata)
write_table("mimic-cxr-2.0.0-chexpert.csv.gz", labels)

# %%
# Index and import
# ----------------
# Headers are read once; a second run opens only what changed. Tables are joined by patient, study and image. On the
# command line: ``xray-harmonize index DIR --db archive.sqlite`` and ``xray-harmonize import mimic-cxr DIR --db
# archive.sqlite``.
db = root / "archive.sqlite"
first = build_index(root / "files", db, n_jobs=1)
imported = import_mimic_cxr(root, db)
again = build_index(root / "files", db, n_jobs=1)
print(f"first: {first.n_new} new; again: {again.n_new} new, {again.n_unchanged} unchanged")
print(f"{imported.images.n_linked} images joined, labels: {imported.n_labels}")

# %%
# Questions
# ---------
# ``image_full`` has a row an image, ``mimic_image`` joins metadata and split, ``label_full`` says who said what.
with Catalog(db) as catalog:
    print(
        catalog.query(
            "SELECT acquisition_group, procedure, count(*) AS n, avg(kvp) AS kvp, avg(value) AS pneumonia "
            "FROM mimic_image JOIN label_full USING (image_id) WHERE name = 'Pneumonia' GROUP BY 1, 2"
        ).to_string(index=False)
    )

# %%
# From SQL to a harmonizer
# ------------------------
# Frontal images with a label, the acquisition group standing in for the scanner. The set is lazy: a file is decoded
# when its image is asked for.
with Catalog(db) as catalog:
    X = catalog.images("view IN ('PA', 'AP')", scanner="acquisition_group", label="Pneumonia")
print(X)
reference = next(name for name in sorted(set(X.scanner)) if "12bit" in name)
harmonizer = CDFMatching(reference=reference, scope="scanner", foreground=0.02).fit(X)
harmonized = harmonizer.transform(X)

figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
for colour, group in zip(("tab:blue", "tab:orange"), sorted(set(X.scanner)), strict=True):
    own = np.flatnonzero(X.scanner == group)[:10]
    for line, images in (("--", [X.unit(i) for i in own]), ("-", [harmonized[int(i)] for i in own])):
        values = np.concatenate([image.ravel() for image in images])
        density, edges = np.histogram(values[values > 0.02], bins=60, range=(0, 1), density=True)
        label = f"{group}, {'recorded' if line == '--' else 'harmonized'}"
        axes.plot((edges[1:] + edges[:-1]) / 2, density, line, color=colour, label=label)
axes.set(xlabel="fraction of full scale", ylabel="density")
axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
folder.cleanup()

# %%
# The second run read nothing again. The acquisition group tells the two units apart without any manufacturer, as
# matrix, spacing and bits differ; both have half of their images with pneumonia, so label and unit are not
# confounded, which is the first thing to ask. Behind one curve a group the two distributions lie on one another.
