"""The order of the gallery: the problem, the methods, choosing among them, and the way to archives."""

from __future__ import annotations

from pathlib import Path

READING_ORDER = (
    "plot_the_gap",
    "plot_linear_methods",
    "plot_image_or_scanner",
    "plot_frequency_methods",
    "plot_bands",
    "plot_crop_first",
    "plot_gdce_before_resnet",
    "plot_new_scanner",
    "plot_grid_search",
    "plot_audit",
    "plot_invented_structure",
    "plot_own_harmonizer",
    "plot_curves_as_dicom",
    "plot_catalogue_and_sql",
    "plot_dask",
)


class ReadingOrder:
    """Sort key of sphinx-gallery; a file that is not in the list comes last."""

    def __init__(self, src_dir: str) -> None:
        self.src_dir = src_dir

    def __call__(self, filename: str) -> tuple[int, str]:
        """Place of a file."""
        name = Path(filename).stem
        return (READING_ORDER.index(name) if name in READING_ORDER else len(READING_ORDER)), name

    def __repr__(self) -> str:
        """Say the same for every run, so that nothing is built again because of it."""
        return "<ReadingOrder>"
