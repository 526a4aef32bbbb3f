"""Learned tables: reading without seams, and what holds them smooth and rising."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.networks.lut3d import TableNetwork, falling, read_tables, total_variation
from xray_harmonize.networks.rendering import RenderingLoss


def tables(n: int = 2, n_points: int = 33) -> torch.Tensor:
    return torch.rand(n, n_points, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_reading_is_linear_interpolation_on_a_uniform_grid(greys: list[float]) -> None:
    x, table = np.array(greys), tables(1)
    read = read_tables(torch.from_numpy(x).view(1, 1, 1, -1), table).flatten().numpy()
    np.testing.assert_allclose(read, np.interp(x, np.linspace(0, 1, 33), table[0].numpy()), atol=1e-12)


def test_a_table_on_a_line_gives_what_one_over_three_equal_channels_gives() -> None:
    grey, table = torch.rand(1, 1, 6, 7, dtype=torch.float64), tables(1)
    # Each channel has its own table, here the same for all; red runs along the last axis.
    over_red = table.view(1, 1, 1, 1, 33).expand(1, 1, 33, 33, 33)
    places = (2 * grey - 1).view(1, 1, 6, 7, 1).expand(1, 1, 6, 7, 3)
    trilinear = torch.nn.functional.grid_sample(over_red, places, mode="bilinear", align_corners=True)
    torch.testing.assert_close(read_tables(grey, table), trilinear[:, :, 0])


def test_there_is_no_seam_at_any_point_of_a_table() -> None:
    points = torch.arange(33, dtype=torch.float32) / 32
    table = tables(1).float()
    for step in (-1e-6, 0.0, 1e-6):
        read = read_tables((points + step).clamp(0, 1).view(1, 1, 1, -1), table).flatten()
        torch.testing.assert_close(read, table[0], atol=1e-4, rtol=0)


def test_every_image_of_a_batch_gets_its_own_table() -> None:
    images = torch.rand(2, 1, 5, 5, dtype=torch.float64)
    together = read_tables(images, tables())
    for i in range(2):
        torch.testing.assert_close(together[[i]], read_tables(images[[i]], tables()[[i]]))
    assert not torch.equal(together[0], read_tables(images[[0]], tables()[[1]])[0])


def test_the_identity_table_changes_nothing() -> None:
    images = torch.rand(2, 1, 5, 5)
    torch.testing.assert_close(read_tables(images, torch.linspace(0, 1, 33).expand(2, -1)), images)


def test_a_network_starts_near_the_identity() -> None:
    torch.manual_seed(0)
    network = TableNetwork(32).eval()
    images = torch.rand(2, 1, 32, 32)
    rendered = network.render(images, network(images, torch.ones_like(images)))
    assert float((rendered - images).detach().abs().mean()) < 0.1


def test_there_are_eight_tables_of_33_points_and_the_first_is_the_identity() -> None:
    found = TableNetwork(32).tables.detach()
    assert found.shape == (8, 33)
    torch.testing.assert_close(found[0], torch.linspace(0, 1, 33))
    assert not found[1:].any()


def test_steps_at_the_ends_count_twice_in_the_variation() -> None:
    step = torch.zeros(3, 5)
    step[0, 1:], step[1, 2:], step[2, 4:] = 1, 1, 1
    assert total_variation(step).tolist() == [0.5, 0.25, 0.5]


def test_only_what_falls_is_held_against_a_table() -> None:
    assert falling(torch.tensor([[0.0, 0.5, 0.4], [0.0, 0.1, 0.9]])).tolist() == pytest.approx([0.05, 0.0], abs=3e-4)


def test_rounding_errors_of_a_flat_table_do_not_steer_the_training() -> None:
    flat = (
        0.3 + 1e-8 * torch.randn(1, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ).requires_grad_()
    falling(flat).sum().backward()
    assert flat.grad is not None
    assert float(flat.grad.abs().max()) < 1e-4 / 32


def test_falls_are_counted_without_a_jump_or_a_bend_at_either_end_of_slight_ones() -> None:
    falls = torch.tensor([[0.999e-3], [1.001e-3]], dtype=torch.float64)
    tables = torch.cat([torch.zeros_like(falls), -falls], dim=1).requires_grad_()
    counted = falling(tables)
    (slopes,) = torch.autograd.grad(counted.sum(), tables)
    assert counted.tolist() == pytest.approx([0.5e-3, 0.5e-3], rel=5e-3)
    assert slopes[:, 0].tolist() == pytest.approx([1.0, 1.0], abs=2e-3)


def test_the_loss_adds_the_published_weights_of_both() -> None:
    network = TableNetwork(32)
    shares = torch.ones(1, 8)
    image = torch.full((1, 1, 2, 2), 0.5)
    batch = {"source": image, "target": image, "weight": torch.ones_like(image)}
    expected = 1e-4 * (1 + float(total_variation(network.tables)[0].detach()))
    assert float(RenderingLoss(network)(shares, batch).detach()) == pytest.approx(expected, rel=1e-3)
    nothing = {**batch, "weight": torch.zeros_like(batch["weight"])}
    assert torch.isfinite(RenderingLoss(network)(shares, nothing))
    with torch.no_grad():
        network.points[1, 1] = 0.01
    penalty = float(network.penalty(shares, batch).detach())
    assert penalty == pytest.approx(10 * 0.1 / 32, rel=1e-2)
