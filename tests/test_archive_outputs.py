"""The formats of an archive: what each holds, and what each refuses."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from archive_factory import fitted, make_dicom_images, make_images, rows, written
from pydicom import dcmread
from sklearn.pipeline import Pipeline

from xray_harmonize import CDFMatching, CropForeground, FourierSwap, FullRange, ImageSet, Resize, ZScore
from xray_harmonize.archive import FORMATS, apply
from xray_harmonize.archive.model import HarmonizingSteps
from xray_harmonize.dicom.read import read_dicom
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.persistence import fingerprint


@pytest.fixture
def paths(tmp_path):
    return make_dicom_images(tmp_path / "scans", WindowCenter="2000", WindowWidth="3000")


@pytest.fixture
def harmonizer(paths):
    return CDFMatching(smoothness=0.1).fit(ImageSet(paths[:1]))


def apply_all(model, paths, out, name):
    summary = apply(model, paths, out, format=name)
    assert summary.failures == []
    return [out / output for (output,) in rows(out, "output")]


@pytest.mark.parametrize("name", FORMATS)
def test_a_second_run_elsewhere_writes_the_same_bytes(paths, tmp_path, harmonizer, name):
    apply_all(harmonizer, paths, tmp_path / "a", name)
    apply_all(harmonizer, paths, tmp_path / "b", name)
    assert written(tmp_path / "a") == written(tmp_path / "b")
    assert set(written(tmp_path / "a")) == {f"1.2.840.{i}{FORMATS[name].extension}" for i in range(3)}


def test_png_holds_sixteen_bits_of_the_unit_range(paths, tmp_path, harmonizer):
    outputs = apply_all(harmonizer, paths, tmp_path / "out", "png")
    for output, image in zip(outputs, harmonizer.transform(ImageSet(paths)), strict=True):
        levels = cv2.imread(str(output), cv2.IMREAD_UNCHANGED)
        assert levels.dtype == np.uint16
        np.testing.assert_allclose(levels / 65535, image, atol=0.5001 / 65535)


def test_npy_holds_what_transform_gives(paths, tmp_path, harmonizer):
    outputs = apply_all(harmonizer, paths, tmp_path / "out", "npy")
    for output, image in zip(outputs, harmonizer.transform(ImageSet(paths)), strict=True):
        np.testing.assert_array_equal(np.load(output), image)
        assert np.load(output).dtype == np.float32


def test_dicom_holds_the_image_and_names_the_model(paths, tmp_path, harmonizer):
    outputs = apply_all(harmonizer, paths, tmp_path / "out", "dicom")
    for output, source, image in zip(outputs, paths, harmonizer.transform(ImageSet(paths)), strict=True):
        back = read_dicom(output)
        np.testing.assert_allclose(back.pixels / (2**back.bits_stored - 1), image, atol=0.5001 / 65535)
        dataset = dcmread(output)
        assert fingerprint(harmonizer) in dataset.DerivationDescription
        assert "CDFMatching(smoothness=0.1)" in dataset.DerivationDescription
        assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == dcmread(source).SOPInstanceUID


@pytest.mark.parametrize("name", ["presentation", "voi-lut"])
def test_a_curve_comes_in_place_of_pixels(paths, tmp_path, harmonizer, name):
    outputs = apply_all(harmonizer, paths, tmp_path / "out", name)
    for output, source in zip(outputs, paths, strict=True):
        state, original = dcmread(output), dcmread(source)
        if name == "voi-lut":
            assert state.PixelData == original.PixelData
            assert len(state.VOILUTSequence) == 1
        else:
            assert "PixelData" not in state
            reference = state.ReferencedSeriesSequence[0].ReferencedImageSequence[0]
            assert reference.ReferencedSOPInstanceUID == original.SOPInstanceUID
            assert "VOILUTSequence" in state.SoftcopyVOILUTSequence[0]


def test_the_curve_of_several_steps_is_that_of_all(paths):
    first, second = CDFMatching().fit(ImageSet(paths[1:])), CDFMatching().fit(ImageSet(paths[:1]))
    steps = HarmonizingSteps.of(Pipeline([("first", first), ("second", second)]))
    one = ImageSet(paths[2:])
    image = one.radiograph(0)
    # Between the steps an image is rounded to levels, which the second curve then stretches.
    (outer,) = second.tone_curves(first.transform(one))
    np.testing.assert_allclose(
        steps.curve(one)(image.pixels, image.bits_stored),
        steps.render(one).pixels,
        rtol=0,
        atol=(0.5 * outer.max_slope + 1) / 65535,
    )


def test_what_a_header_cannot_hold_is_said_shorter():
    assert HarmonizingSteps.of(FullRange()).header_method == "FullRange()"
    long = CDFMatching(scope="scanner", unseen="image", smoothness=0.123456789, reference="a scanner")
    assert HarmonizingSteps.of(long).header_method == "CDFMatching"
    assert HarmonizingSteps.of(CDFMatching(reference="Größe")).header_method == "CDFMatching"
    assert HarmonizingSteps.of(CDFMatching(reference="a\\b")).header_method == "CDFMatching"
    many = Pipeline([(str(i), CDFMatching()) for i in range(9)])
    assert HarmonizingSteps.of(many).header_method == "9 steps, the last CDFMatching"


# -- what is refused ----------------------------------------------------------------------------------------------


def test_an_unknown_format_is_refused(paths, tmp_path, harmonizer):
    message = r"format must be 'dicom', 'png', 'npy', 'presentation', 'voi-lut'; got 'jpeg'"
    with pytest.raises(InvalidParameterError, match=message):
        apply(harmonizer, paths, tmp_path / "out", format="jpeg")


@pytest.mark.parametrize("name", ["presentation", "voi-lut"])
@pytest.mark.parametrize("model", [FourierSwap(), ZScore()], ids=repr)
def test_methods_without_tone_curves_cannot_be_written_as_one(paths, tmp_path, model, name):
    message = f"format='{name}' holds one tone curve an image, and {type(model).__name__} has none"
    with pytest.raises(InvalidParameterError, match=message):
        apply(model, paths, tmp_path / "out", format=name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("step", [CropForeground(), Resize((8, 8))], ids=repr)
def test_steps_that_move_pixels_are_for_png_and_npy(paths, tmp_path, harmonizer, step):
    pipeline = Pipeline([("frame", step), ("tone", harmonizer)])
    for name in ("dicom", "presentation", "voi-lut"):
        message = f"{type(step).__name__} moves pixels, and format='{name}' keeps the matrix of its source"
        with pytest.raises(InvalidParameterError, match=message):
            apply(pipeline, paths, tmp_path / "out", format=name)
    assert apply(pipeline, paths, tmp_path / "png", format="png").written == 3


@pytest.mark.parametrize("name", ["dicom", "presentation", "voi-lut"])
def test_dicom_is_made_of_dicom(paths, tmp_path, harmonizer, name):
    mixed = [*paths, *make_images(tmp_path / "other", 1)]
    summary = apply(harmonizer, mixed, tmp_path / "out", format=name)
    assert (summary.written, summary.failed) == (3, 1)
    assert f"a NPY file, expected DICOM, of which format='{name}' is made" in summary.failures[0][1]


def test_a_result_outside_the_unit_range_goes_into_npy_alone(paths, tmp_path):
    summary = apply(ZScore(), paths, tmp_path / "png", format="png")
    assert summary.failed == 3
    assert "expected [0, 1]" in summary.failures[0][1]
    outputs = apply_all(ZScore(), paths, tmp_path / "npy", "npy")
    assert min(np.load(output).min() for output in outputs) < 0


def test_scanners_come_along_in_every_format(tmp_path):
    paths = [*make_dicom_images(tmp_path / "far"), *make_dicom_images(tmp_path / "home")]
    harmonizer = fitted(paths, scope="scanner", reference="home")
    for name in FORMATS:
        labels = ["far"] * 3 + ["never seen"] * 3
        summary = apply(harmonizer, ImageSet(paths, scanner=labels), tmp_path / f"out {name}", format=name)
        assert (summary.written, summary.failed) == (3, 3)
        assert "Scanner 'never seen' was not seen in fit; known are far, home" in summary.failures[0][1]
