"""Pairs that are made of reference images by known distortions of their tone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from tiny_pairs import bodies

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.self_made_pairs import distort, random_maps, self_made_pairs
from xray_harmonize.networks.mapping import apply_maps


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def targets() -> torch.Tensor:
    return torch.from_numpy(np.stack(list(bodies())))[:, None]


@pytest.mark.parametrize("rescale", ["endpoint", "dicom"])
def test_true_maps_lead_back_to_the_target(rescale: str) -> None:
    wanted = 0.2 + 0.6 * targets()
    sources, maps, known = distort(wanted, generator(), "mapping", rescale)
    assert known.all()
    back = apply_maps(sources, maps, rescale)
    # What the distortion took beyond black or white is lost.
    regional = maps[:, :1] * sources + maps[:, 1:2]
    kept = (sources > 0) & (sources < 1) & (regional > 0) & (regional < 1)
    assert kept.double().mean() > 0.5
    torch.testing.assert_close(back[kept], wanted[kept], atol=1e-4, rtol=0)


def test_a_global_distortion_is_one_rising_curve_an_image() -> None:
    sources, maps, known = distort(targets(), generator(), "global")
    assert not known.any()
    assert not maps.any()
    for source, target in zip(sources.flatten(1), targets().flatten(1), strict=True):
        assert spearmanr(source, target).statistic > 0.999


def test_a_mapping_treats_places_differently() -> None:
    sources, _, _ = distort(torch.full((4, 1, 16, 16), 0.5), generator(), "mapping")
    assert (sources.flatten(1).std(dim=1) > 0.01).all()


def test_mixed_distortions_are_of_both_kinds_and_some_images_stay() -> None:
    wanted = targets().repeat(20, 1, 1, 1)
    sources, _, known = distort(wanted, generator(), "mixed")
    assert 0.3 < known.double().mean() < 0.7
    unchanged = (sources - wanted).abs().flatten(1).amax(dim=1) < 1e-5
    assert 0.02 < unchanged.double().mean() < 0.15


@pytest.mark.parametrize("distortion", ["mixed", "global", "mapping"])
def test_sources_are_images_and_one_seed_gives_one_set(distortion: str) -> None:
    first, second, other = (distort(targets(), generator(seed), distortion)[0] for seed in (0, 0, 1))
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_maps_are_smooth_and_their_window_is_the_whole_images() -> None:
    a, b, wc, ww = random_maps(50, (24, 30), generator()).unbind(1)
    assert 0.5 < a.median() < 2
    assert b.abs().max() <= 0.4
    assert a.diff(dim=1).abs().max() < 0.3
    assert wc.flatten(1).std(dim=1).max() < 1e-6
    assert 0.35 <= wc.min() <= wc.max() <= 0.65
    assert 0.5 <= ww.min() <= ww.max() <= 2.0001


def test_pairs_keep_scanners_patients_and_masks_of_any_sizes() -> None:
    X = bodies()[:3]
    mask = np.zeros((32, 32), dtype=bool)
    mask[4:] = True
    ragged = type(X)([X[0], X[1][:20], X[2]], "A", ["p", "q", "p"], mask=[mask, None, None])
    pairs = self_made_pairs(ragged, "mapping", random_state=0)
    for one in (pairs.source, pairs.target):
        assert one.scanner.tolist() == ["A"] * 3
        assert one.patient.tolist() == ["p", "q", "p"]
        assert one[1].shape == (20, 32)
        np.testing.assert_array_equal(one.mask(0), mask)
    assert [maps.shape for maps in pairs.maps if maps is not None] == [(4, 32, 32), (4, 20, 32), (4, 32, 32)]
    np.testing.assert_array_equal(pairs.target[0], X[0])
    assert self_made_pairs(X, "global", random_state=0).maps == [None] * 3


def test_other_distortions_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match="distortion must be 'mixed', 'global' or 'mapping'; got 'blur'"):
        self_made_pairs(bodies(), "blur")
    with pytest.raises(InvalidParameterError, match=r"distortion must be 'mixed', 'global' or 'mapping'; got array\("):
        self_made_pairs(bodies(), np.array(["global", "mixed"]))


@pytest.mark.parametrize("wrong", ["foo", None, np.array(["dicom", "dicom"])])
def test_another_way_to_stretch_the_sigmoid_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidParameterError, match="rescale must be 'endpoint' or 'dicom'; got "):
        self_made_pairs(bodies(), rescale=wrong)
