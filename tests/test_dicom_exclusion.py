"""Shutter, padding and collimator: what counts and what is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_factory import (
    image_dataset,
    make_dicom,
    write_dicom,
)
from pydicom.uid import (
    ExplicitVRLittleEndian,
)

from xray_harmonize.dicom.read import read_dicom
from xray_harmonize.exceptions import XRayHarmonizeWarning


def test_rectangular_shutter_hides_what_lies_beyond_its_edges(tmp_path: Path) -> None:
    path = make_dicom(
        tmp_path / "a.dcm",
        np.zeros((6, 8), np.uint8),
        ShutterShape="RECTANGULAR",
        ShutterLeftVerticalEdge=3,
        ShutterRightVerticalEdge=6,
        ShutterUpperHorizontalEdge=2,
        ShutterLowerHorizontalEdge=4,
    )
    truth = np.zeros((6, 8), dtype=bool)
    truth[1:4, 2:6] = True
    np.testing.assert_array_equal(read_dicom(path).mask, truth)


def test_circular_and_polygonal_shutters_leave_their_intersection(tmp_path: Path) -> None:
    path = make_dicom(
        tmp_path / "a.dcm",
        np.zeros((21, 21), np.uint8),
        ShutterShape=["CIRCULAR", "POLYGONAL"],
        CenterOfCircularShutter=[11, 11],
        RadiusOfCircularShutter=6,
        VerticesOfThePolygonalShutter=[1, 1, 1, 11, 21, 11, 21, 1],  # row, column: the left half
    )
    rows, columns = np.mgrid[1:22, 1:22]
    truth = ((rows - 11) ** 2 + (columns - 11) ** 2 <= 36) & (columns <= 11)
    np.testing.assert_array_equal(read_dicom(path).mask, truth)


def test_shutter_and_padding_are_both_masked(tmp_path: Path) -> None:
    path = make_dicom(
        tmp_path / "a.dcm",
        np.array([[1, 0, 1, 1]], dtype=np.uint8),
        PixelPaddingValue=0,
        ShutterShape="RECTANGULAR",
        ShutterLeftVerticalEdge=1,
        ShutterRightVerticalEdge=3,
        ShutterUpperHorizontalEdge=1,
        ShutterLowerHorizontalEdge=1,
    )
    mask = read_dicom(path).mask
    assert mask is not None
    assert mask.tolist() == [[True, False, True, False]]


@pytest.mark.parametrize("edges", [{}, {"Left": 9, "Right": 12, "Upper": 1, "Lower": 4}])
def test_shutter_that_leaves_nothing_is_left_out_with_a_warning(tmp_path: Path, edges: dict[str, int]) -> None:
    axis = {"Left": "Vertical", "Right": "Vertical", "Upper": "Horizontal", "Lower": "Horizontal"}
    attributes = {f"Shutter{side}{axis[side]}Edge": value for side, value in edges.items()}
    path = make_dicom(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), ShutterShape="RECTANGULAR", **attributes)
    with pytest.warns(XRayHarmonizeWarning, match="a.dcm: the RECTANGULAR display shutter .* leaves nothing"):
        assert read_dicom(path).mask is None


@pytest.mark.parametrize(
    ("edges", "in_pixels"), [((0, 9, 0, 7), True), ((2, 5, 1, 3), True), ((-184, 184, 907, 1299), False)]
)
def test_collimator_edges_are_told_and_not_masked(
    tmp_path: Path, edges: tuple[int, int, int, int], in_pixels: bool
) -> None:
    path = make_dicom(
        tmp_path / "a.dcm",
        np.zeros((6, 8), np.uint8),
        CollimatorShape="RECTANGULAR",
        CollimatorLeftVerticalEdge=edges[0],
        CollimatorRightVerticalEdge=edges[1],
        CollimatorUpperHorizontalEdge=edges[2],
        CollimatorLowerHorizontalEdge=edges[3],
    )
    image = read_dicom(path)
    assert tuple(image.meta[f"collimator_{side}"] for side in ("left", "right", "upper", "lower")) == edges
    assert image.meta["collimator_in_pixels"] is in_pixels
    assert image.mask is None


@pytest.mark.parametrize("shape", ["CIRCULAR", "POLYGONAL"])
def test_shutter_without_position_is_left_out_with_a_warning(tmp_path: Path, shape: str) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), ShutterShape=shape)
    with pytest.warns(XRayHarmonizeWarning, match=rf"{shape} display shutter .* its position cannot be read"):
        assert read_dicom(path).mask is None


def test_padding_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    dataset = image_dataset(np.zeros((4, 4), np.uint8))
    dataset.add_new("PixelPaddingValue", "LO", "none")
    assert read_dicom(write_dicom(tmp_path / "a.dcm", dataset, syntax=ExplicitVRLittleEndian)).mask is None
