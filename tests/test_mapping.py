"""InterpretableMapping: what it learns, and how it tells what it does. The contracts of all: test_common.py."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pairs import MOMENT, SETTINGS, bodies, darker, off

from xray_harmonize import ImageSet, InterpretableMapping, Radiograph
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.harmonizers.self_made_pairs import self_made_pairs
from xray_harmonize.networks.mapping import apply_maps


def mapping(**parameters: Any) -> InterpretableMapping:
    return InterpretableMapping(**{**SETTINGS, "n_features": 4, "downscale": 1, "lr": 1e-2, **parameters})


def moment(**parameters: Any) -> InterpretableMapping:
    return mapping(**{**MOMENT, "lr": 0.05, **parameters})


@pytest.fixture(scope="module")
def taught() -> InterpretableMapping:
    return mapping().fit(darker(), target=bodies())


# -- learning -------------------------------------------------------------------------------------------------------


def test_given_pairs_are_learned(taught: InterpretableMapping) -> None:
    assert off(darker(), bodies()) > 0.1
    assert off(taught.transform(darker()), bodies()) < 0.05
    assert taught.reference_ == "reference"


def test_self_made_pairs_of_the_reference_teach_it_to_undo_distortions() -> None:
    pairs = self_made_pairs(bodies(), "global", random_state=1)
    X = ImageSet([*bodies(), *darker()], ["reference"] * 12 + ["other"] * 12)
    learned = mapping(distortion="global", max_steps=100, reference="reference").fit(X)
    assert learned.reference_ == "reference"
    assert off(learned.transform(pairs.source), bodies()) < 0.85 * off(pairs.source, bodies())


def test_only_the_references_images_are_read_for_self_made_pairs() -> None:
    torn = ImageSet([*bodies()[:3], np.full((8, 8), np.nan)], ["A", "A", "A", "B"])
    moment().fit(torn)
    with pytest.raises(InvalidImageError, match="Image 3 holds NaN"):
        moment(reference="B").fit(torn)


def test_true_maps_are_learned_where_they_are_given() -> None:
    maps = [np.stack([np.full((32, 32), value, "float32") for value in (1.5, -0.1, 0.45, 1.0)])] * 12
    targets = apply_maps(torch.from_numpy(np.stack(list(bodies())))[:, None], torch.from_numpy(np.stack(maps)))
    Y = ImageSet(list(targets[:, 0].numpy()), "expert")
    learned = mapping(map_weight=1.0, max_steps=60).fit(bodies(), target=Y, maps=maps)
    means = np.mean([one.mean(axis=(1, 2)) for one in learned.maps(bodies())], axis=0)
    np.testing.assert_allclose(means, [1.5, -0.1, 0.45, 1.0], atol=0.2)
    assert off(learned.transform(bodies()), Y) < 0.05


def test_self_made_pairs_can_be_given_with_the_maps_that_are_known() -> None:
    pairs = self_made_pairs(bodies(), random_state=0)
    assert 0 < sum(one is None for one in pairs.maps) < 12
    with_maps, without, none = (
        moment(batch_size=12).fit(pairs.source, target=pairs.target, maps=maps)
        for maps in (pairs.maps, None, [None] * 12)
    )
    assert with_maps.history_[-1]["train_loss"] > without.history_[-1]["train_loss"]
    assert none.history_[-1]["train_loss"] == without.history_[-1]["train_loss"]


def test_one_seed_gives_one_training_and_another_another() -> None:
    first, second, other = (moment(random_state=seed).fit(bodies()) for seed in (0, 0, 1))
    X = darker()[:1]
    np.testing.assert_array_equal(first.transform(X)[0], second.transform(X)[0])
    assert not np.array_equal(first.transform(X)[0], other.transform(X)[0])


def test_pytorchs_own_random_numbers_are_left_as_they_were() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    moment().fit(bodies()[:2]).transform(bodies()[:1])
    assert torch.equal(torch.rand(1), expected)


def test_as_published_counts_one_pair_a_step_until_held_out_pairs_get_no_better() -> None:
    published = InterpretableMapping.as_published(downscale=16)
    assert (published.lr, published.batch_size, published.schedule) == (1e-5, 1, "constant")
    assert (published.map_weight, published.global_statistics, published.downscale) == (1.0, False, 16)


# -- applying -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rescale", ["endpoint", "dicom"])
def test_transform_is_the_maps_applied_in_full_resolution(rescale: str) -> None:
    learned = moment(rescale=rescale, downscale=2).fit(bodies(4, 80))
    X = darker(4, 80)
    for maps, mapped, image in zip(learned.maps(X), learned.transform(X), X, strict=True):
        assert maps.shape == (4, 80, 80)
        assert maps.dtype == np.float32
        expected = apply_maps(torch.from_numpy(image)[None, None], torch.from_numpy(maps)[None], rescale)[0, 0]
        np.testing.assert_allclose(mapped, expected, atol=1e-6)


def test_the_network_sees_the_image_downscaled_and_at_least_32_pixels() -> None:
    learned = moment(downscale=8)
    assert learned._view_shape((3000, 2500)) == (375, 313)
    assert learned._view_shape((100, 600)) == (32, 75)


def test_detail_finer_than_the_view_stays(taught: InterpretableMapping) -> None:
    checkered = np.where(np.indices((256, 256)).sum(axis=0) % 2, 0.6, 0.4).astype("float32")
    mapped = moment(downscale=8).fit(bodies()).transform(checkered[None])[0]
    steps = np.abs(np.diff(mapped, axis=1))
    assert steps.min() > 0.05


def test_where_maps_are_smooth_the_order_of_greys_at_a_place_stays(taught: InterpretableMapping) -> None:
    image = darker()[0]
    curve = taught.pixel_lut(image, 10, 10)
    assert (np.diff(curve.table(4096)) >= 0).all()


# -- telling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rescale", ["endpoint", "dicom"])
def test_the_table_of_a_pixel_gives_what_transform_made_of_it(rescale: str) -> None:
    learned = moment(rescale=rescale).fit(bodies())
    image = darker()[2]
    mapped = learned.transform(image[None])[0]
    for row, column in ((0, 0), (16, 16), (31, 5)):
        curve = learned.pixel_lut(image, row, column)
        assert float(curve(np.float64(image[row, column]))) == pytest.approx(mapped[row, column], abs=1e-4)


def test_a_table_can_be_asked_for_in_any_form_of_one_image(taught: InterpretableMapping) -> None:
    stored = (darker()[0] * 4095).astype("uint16")
    of_set = taught.pixel_lut(ImageSet([stored], bits_stored=12), 3, 4)
    assert of_set == taught.pixel_lut(Radiograph(stored, 12), 3, 4)
    with pytest.raises(InvalidParameterError, match="Expected one image, got a set of 12"):
        taught.pixel_lut(darker(), 3, 4)


def test_a_pixel_that_is_not_there_is_refused(taught: InterpretableMapping) -> None:
    with pytest.raises(InvalidParameterError, match="There is no pixel at row 32, column 0 of an image of 32 x 32"):
        taught.pixel_lut(darker()[0], 32, 0)


@pytest.mark.parametrize("wrong", [1.0, "a", None, True, np.array([1, 2])])
def test_a_row_and_a_column_are_whole_numbers(taught: InterpretableMapping, wrong: Any) -> None:
    with pytest.raises(InvalidParameterError, match=re.escape(f"row must be a whole number; got {wrong!r}")):
        taught.pixel_lut(darker()[0], wrong, 2)
    with pytest.raises(InvalidParameterError, match=re.escape(f"column must be a whole number; got {wrong!r}")):
        taught.pixel_lut(darker()[0], 2, wrong)
    assert taught.pixel_lut(darker()[0], np.int64(1), np.uint8(2)) == taught.pixel_lut(darker()[0], 1, 2)


def test_maps_are_drawn_beside_the_image_and_what_became_of_it(taught: InterpretableMapping) -> None:
    figure = taught.plot_maps(darker()[0])
    titles = [ax.get_title() for ax in figure.axes[:6]]
    assert titles == ["as it came", "a, slope", "b, bias", "wc, window centre", "ww, window width", "mapped"]
    np.testing.assert_allclose(figure.axes[5].images[0].get_array(), taught.transform(darker()[[0]])[0], atol=1e-6)


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rescale": "minmax"}, "rescale must be 'endpoint' or 'dicom'; got 'minmax'"),
        ({"n_features": 0}, "n_features must be a whole number, at least 1; got 0"),
        ({"n_features": True}, "n_features must be a whole number, at least 1; got True"),
        ({"smoothness": -0.1}, "smoothness must be finite, 0 or more; got -0.1"),
        ({"smoothness": "x"}, "smoothness must be finite, 0 or more; got 'x'"),
        ({"smoothness": np.inf}, "smoothness must be finite, 0 or more; got inf"),
        ({"map_weight": -1}, "map_weight must be finite, 0 or more; got -1"),
        ({"map_weight": "x"}, "map_weight must be finite, 0 or more; got 'x'"),
        ({"map_weight": np.inf}, "map_weight must be finite, 0 or more; got inf"),
        ({"global_statistics": "no"}, "global_statistics must be True or False; got 'no'"),
        ({"downscale": 0}, "downscale must be a whole number, at least 1; got 0"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        moment(**parameters).fit(bodies())


def test_maps_need_a_target() -> None:
    with pytest.raises(InvalidParameterError, match="maps lead from X to target; give target too, or leave maps out"):
        moment().fit(bodies(), maps=[np.zeros((4, 8, 8))] * 12)
