"""DICOM files: radiographs as stored values in one polarity, and what their headers tell."""
