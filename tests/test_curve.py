"""The curve of GDCE, and the networks that give its coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.networks.curve import CurveEstimator, ScannerCurves, apply_curve, check_curve, invert_curve

GREY = torch.linspace(0, 1, 101, dtype=torch.float64)[None]

coefficients = st.lists(st.floats(-1, 1), min_size=1, max_size=8)


def curve(alpha: list[float], x: torch.Tensor = GREY) -> torch.Tensor:
    return apply_curve(x, torch.tensor([alpha], dtype=torch.float64))


# -- the curve --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_all_coefficients_1_give_the_closed_form(n: int) -> None:
    torch.testing.assert_close(curve([1.0] * n), 1 - (1 - GREY) ** (2**n), rtol=0, atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_all_coefficients_minus_1_give_a_power(n: int) -> None:
    torch.testing.assert_close(curve([-1.0] * n), GREY ** (2**n), rtol=0, atol=1e-14)


def test_coefficients_0_change_nothing() -> None:
    assert torch.equal(curve([0.0] * 8), GREY)


@given(coefficients)
def test_black_stays_black_and_white_stays_white(alpha: list[float]) -> None:
    ends = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    assert torch.equal(curve(alpha, ends), ends)


@given(coefficients)
def test_curves_rise_and_stay_in_the_unit_interval(alpha: list[float]) -> None:
    y = curve(alpha)[0]
    assert float(y.diff().min()) >= -1e-15
    assert 0 <= float(y.min()) <= float(y.max()) <= 1 + 1e-15


@given(st.lists(st.floats(-0.9, 0.9), min_size=1, max_size=8))
def test_curves_rise_strictly_for_coefficients_inside(alpha: list[float]) -> None:
    # Below the smallest slope, .1^8 a step of .01.
    assert float(curve(alpha)[0].diff().min()) > 1e-11


@given(coefficients)
def test_slopes_at_the_ends_are_products_of_one_step_each(alpha: list[float]) -> None:
    ends = torch.tensor([[0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(curve(alpha, ends).sum(), ends)
    np.testing.assert_allclose(slope[0], [np.prod(1 + np.array(alpha)), np.prod(1 - np.array(alpha))], atol=1e-12)


def test_a_positive_coefficient_brightens_where_zero_dces_code_has_a_negative_one() -> None:
    r = -0.7
    assert bool((curve([0.7])[0, 1:-1] > GREY[0, 1:-1]).all())
    torch.testing.assert_close(curve([0.7]), GREY + r * (GREY**2 - GREY))


def test_the_first_coefficient_is_applied_first() -> None:
    assert torch.equal(curve([0.9, -0.5]), curve([-0.5], curve([0.9])))
    assert not torch.allclose(curve([0.9, -0.5]), curve([-0.5, 0.9]), atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 5), (3, 1, 4, 6), (3, 2, 2, 2, 2)])
def test_every_image_of_a_batch_has_a_curve_of_its_own(shape: tuple[int, ...]) -> None:
    images, alpha = torch.rand(shape), torch.tensor([[0.5, -0.2], [0.0, 0.0], [-0.9, 0.3]])
    for i, image in enumerate(apply_curve(images, alpha)):
        torch.testing.assert_close(image, apply_curve(images[i : i + 1], alpha[i : i + 1])[0])


def test_eight_full_steps_leave_single_precision_no_gradient_inside() -> None:
    x = torch.tensor([[0.5]], requires_grad=True)
    apply_curve(x, torch.ones(1, 8)).backward()
    assert x.grad is not None
    assert x.grad.item() == 0


# -- its inverse ------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-0.9, 0.9), min_size=1, max_size=8))
def test_the_inverse_gives_the_image_back(alpha: list[float]) -> None:
    tensor = torch.tensor([alpha], dtype=torch.float64)
    # Where a curve is flattest, with a slope of .1^8, its inverse makes 1e-16 to 1e-8.
    torch.testing.assert_close(invert_curve(apply_curve(GREY, tensor), tensor), GREY, rtol=0, atol=1e-6)


@given(coefficients)
def test_what_the_inverse_gives_has_the_image_as_its_curve(alpha: list[float]) -> None:
    tensor = torch.tensor([alpha], dtype=torch.float64)
    found = invert_curve(GREY, tensor)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1 + 1e-12
    torch.testing.assert_close(apply_curve(found, tensor), GREY, rtol=0, atol=1e-7)


@pytest.mark.parametrize("alpha", [0.0, 1e-300, -1e-17, 1e-9, -1e-6])
def test_the_inverse_is_exact_for_the_smallest_coefficients(alpha: float) -> None:
    tensor = torch.tensor([[alpha]], dtype=torch.float64)
    torch.testing.assert_close(invert_curve(apply_curve(GREY, tensor), tensor), GREY, rtol=1e-15, atol=0)


def test_the_inverse_of_a_power_is_its_root_black_included() -> None:
    tensor = torch.full((1, 3), -1.0, dtype=torch.float64)
    torch.testing.assert_close(invert_curve(GREY, tensor), GREY ** (1 / 8), rtol=1e-14, atol=0)


def test_the_inverse_of_a_full_step_is_finite_in_single_precision() -> None:
    x = torch.linspace(0, 1, 11)[None]
    torch.testing.assert_close(invert_curve(x, torch.ones(1, 1)), 1 - (1 - x).sqrt(), rtol=0, atol=1e-6)


# -- the network ------------------------------------------------------------------------------------------------------


def n_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("n_layers", "n_iterations", "n"), [(3, 4, 29_812), (5, 8, 411_256), (7, 5, 6_360_085)])
def test_networks_have_as_many_weights_as_the_released_ones(n_layers: int, n_iterations: int, n: int) -> None:
    assert n_weights(CurveEstimator(n_layers, n_iterations)) == n


def written_out(network: CurveEstimator, images: torch.Tensor) -> torch.Tensor:
    """Coefficients by the layers of the released network, one after the other."""
    size = (network.view_size, network.view_size)
    both = [
        functional.interpolate(x, size, mode="bilinear", align_corners=False, antialias=False)
        for x in (images, 1 - images)
    ]
    x = torch.cat(both, dim=1)
    weights = list(network.parameters())
    for i in range(network.n_layers):
        x = functional.relu(functional.conv2d(x, weights[2 * i], weights[2 * i + 1], stride=1, padding=1))
        if i < network.n_layers - 1:
            x = functional.avg_pool2d(x, 2, stride=2)
    x = functional.adaptive_avg_pool2d(x, 1).flatten(1)
    for i in range(network.n_layers, network.n_layers + 3):
        x = functional.linear(x, weights[2 * i], weights[2 * i + 1])
        x = functional.relu(x) if i < network.n_layers + 2 else torch.tanh(x)
    return x


@pytest.mark.parametrize("size", [(40, 50), (16, 16), (9, 3), (100, 1)])
@pytest.mark.parametrize("n_layers", [1, 3, 5])
def test_the_network_is_the_released_one_layer_by_layer(size: tuple[int, int], n_layers: int) -> None:
    torch.manual_seed(0)
    network, images = CurveEstimator(n_layers, 4, view_size=16), torch.rand(3, 1, *size)
    torch.testing.assert_close(network(images), written_out(network, images), rtol=1e-5, atol=1e-6)


def test_the_input_is_the_image_and_its_negative_without_antialiasing() -> None:
    network, images, seen = CurveEstimator(1, 1, view_size=8), torch.rand(2, 1, 40, 33), {}
    network.convolutions[0].register_forward_hook(lambda module, inputs, output: seen.update(input=inputs[0]))
    network(images)
    plain, smooth = (
        functional.interpolate(images, (8, 8), mode="bilinear", align_corners=False, antialias=antialias)
        for antialias in (False, True)
    )
    torch.testing.assert_close(seen["input"], torch.cat([plain, 1 - plain], dim=1))
    assert not torch.allclose(seen["input"][:, :1], smooth, atol=0.05)


def test_averages_are_pooled_after_every_convolution_but_the_last() -> None:
    kinds = [type(module).__name__ for module in CurveEstimator(3, 4).convolutions]
    assert kinds == ["Conv2d", "ReLU", "AvgPool2d"] * 2 + ["Conv2d", "ReLU"]


def test_images_of_the_views_size_are_not_resized() -> None:
    network, views = CurveEstimator(2, 3, view_size=12), torch.rand(2, 1, 12, 12)
    assert torch.equal(network(views), network.coefficients(views))


def test_coefficients_lie_between_minus_1_and_1_whatever_the_weights() -> None:
    network = CurveEstimator(2, 6, view_size=8)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(100)
        alpha = network(torch.rand(4, 1, 8, 8))
    assert alpha.shape == (4, 6)
    assert float(alpha.abs().max()) <= 1


def test_coefficients_of_an_image_do_not_depend_on_its_batch() -> None:
    network, images = CurveEstimator(3, 4, view_size=16).train(), torch.rand(4, 1, 20, 20)
    with torch.no_grad():
        torch.testing.assert_close(network(images)[2:3], network(images[2:3]), rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_weight() -> None:
    network = CurveEstimator(3, 4, view_size=8)
    apply_curve(torch.rand(2, 1, 8, 8), network(torch.rand(2, 1, 8, 8))).mean().backward()
    assert all(bool(parameter.grad.any()) for parameter in network.parameters() if parameter.grad is not None)
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("n_layers", [1, 4, 5])
def test_the_smallest_view_leaves_one_pixel_after_all_halvings(n_layers: int) -> None:
    smallest = 2 ** (n_layers - 1)
    assert CurveEstimator(n_layers, 2, view_size=smallest)(torch.rand(1, 1, 30, 30)).shape == (1, 2)
    with pytest.raises(
        InvalidParameterError, match=f"view_size must be .* at least {smallest} for n_layers={n_layers}"
    ):
        CurveEstimator(n_layers, 2, view_size=smallest - 1)


# -- one curve a scanner ----------------------------------------------------------------------------------------------


def test_a_scanners_curve_is_the_same_for_all_its_images() -> None:
    curves = ScannerCurves(3, 4)
    alpha = curves(torch.tensor([2, 0, 2, 1]))
    assert alpha.shape == (4, 4)
    assert torch.equal(alpha[0], alpha[2])
    assert not torch.equal(alpha[0], alpha[1])


def test_scanners_start_at_the_identity_with_coefficients_that_can_part() -> None:
    alpha = ScannerCurves(2, 8)(torch.arange(2)).detach()
    x = torch.linspace(0, 1, 101).expand(2, -1)
    assert float((apply_curve(x, alpha) - x).abs().max()) < 0.1
    assert len(alpha[0].unique()) == 8


def test_a_scanner_that_is_not_in_a_batch_is_not_moved() -> None:
    curves = ScannerCurves(2, 3)
    curves(torch.tensor([1, 1])).sum().backward()
    assert curves.raw.grad is not None
    assert not curves.raw.grad[0].any()
    assert bool(curves.raw.grad[1].all())


# -- numbers out of range ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [0, 10, -1, 2.0, True, "5", None])
def test_a_number_of_layers_out_of_range_is_refused(n_layers: Any) -> None:
    with pytest.raises(InvalidParameterError, match=f"n_layers must be a whole number from 1 to 9; got {n_layers!r}"):
        check_curve(n_layers, 8, 256)


@pytest.mark.parametrize("n_iterations", [0, 33, 8.5, False])
def test_a_number_of_iterations_out_of_range_is_refused(n_iterations: Any) -> None:
    message = f"n_iterations must be a whole number from 1 to 32; got {n_iterations!r}"
    with pytest.raises(InvalidParameterError, match=message):
        CurveEstimator(5, n_iterations)


@pytest.mark.parametrize("view_size", [15, 0, 64.0, True, None])
def test_a_view_too_small_for_the_layers_is_refused(view_size: Any) -> None:
    with pytest.raises(InvalidParameterError, match="at least 16 for n_layers=5, which halves it 4 times; got"):
        check_curve(5, 8, view_size)


def test_numbers_of_a_grid_by_numpy_are_whole_ones_too() -> None:
    assert n_weights(CurveEstimator(np.int64(3), np.int32(4), np.int64(32))) == 29_812
