"""Whether a result shows what its image lacks: exact for curves, and told where something was painted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from audit_images import made
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize import CDFMatching, MinMax, Nyul, ToneCurve, WindowClamp, ZScore
from xray_harmonize.evaluation.structure import MEASURE, STRUCTURE_KEPT, changes_structure, structure_agreement
from xray_harmonize.exceptions import InvalidImageError


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] / 64
    return np.clip(0.3 + 0.3 * np.sin(5 * x) * y + 0.02 * rng.standard_normal((64, 64)), 0, 1)


@given(
    steps=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12).filter(lambda steps: sum(steps) > 0.01),
    seed=st.integers(0, 5),
    greys=st.sampled_from([4, 256, 65536]),
)
def test_no_rising_curve_draws_anything_however_steep_or_flat(steps, seed, greys):
    image = np.round(np.random.default_rng(seed).random((24, 20)) * (greys - 1)) / (greys - 1)
    rises = np.concatenate([[0], np.cumsum(steps)]) / sum(steps)
    curve = ToneCurve(np.linspace(0, 1, len(rises)), rises)
    assert structure_agreement(image, curve(image.astype(np.float32))) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "harmonizer",
    [
        MinMax(),
        MinMax((1, 99), output_range="reference"),
        WindowClamp(),
        ZScore(),
        Nyul(reference="A"),
        *[CDFMatching("A", scope=scope) for scope in ("image", "scanner", "mixed", "shrunk")],
    ],
    ids=repr,
)
def test_no_method_that_is_a_curve_draws_anything(harmonizer):
    X = made((("A", 10), ("B", 10)), gap=0.5)[0]
    after = harmonizer.fit(X).transform(X)
    kept = [structure_agreement(X.unit(i), after[i]) for i in range(len(X))]
    assert min(kept) == pytest.approx(1, abs=1e-6)


def test_what_is_painted_into_a_flat_place_counts_by_how_much_contrast_it_has(image):
    y, x = np.mgrid[:64, :64]
    spot = np.exp(-((x - 40) ** 2 + (y - 12) ** 2) / 50)
    faint, plain = (structure_agreement(image, image + height * spot) for height in (0.02, 0.3))
    assert 1 > faint > plain
    assert plain < STRUCTURE_KEPT
    thin = image.copy()
    thin[:, 30] += 0.5
    assert structure_agreement(image, thin) < STRUCTURE_KEPT


def test_what_is_painted_over_is_left_to_other_measures(image):
    over = image.copy()
    over[20:40, 20:40] = image[20:40, 20:40].mean()
    assert structure_agreement(image, over) > STRUCTURE_KEPT


def test_the_opposite_is_new_altogether_and_unrelated_structure_half(image):
    assert structure_agreement(image, 1 - image) == 0
    rng = np.random.default_rng(1)
    assert structure_agreement(rng.random((64, 64)), rng.random((64, 64))) == pytest.approx(0.5, abs=0.03)


def test_flat_results_show_nothing_and_flat_images_have_nothing(image):
    flat = np.zeros(image.shape)
    assert structure_agreement(image, flat) == structure_agreement(flat, flat + 0.5) == 1
    assert structure_agreement(flat, image) == 0


def test_pixels_outside_the_mask_do_not_count(image):
    painted = image.copy()
    painted[:8] = 1 - painted[:8]
    mask = np.ones(image.shape, dtype=bool)
    mask[:8] = False
    assert structure_agreement(image, painted) < structure_agreement(image, painted, mask) == 1


def test_smallest_images_have_an_answer():
    assert structure_agreement([[0.5]], [[0.7]]) == 1
    assert structure_agreement([[0, 1]], [[1, 0]]) == 0


def test_other_shapes_and_empty_masks_are_refused(image):
    with pytest.raises(InvalidImageError, match=r"two images of the same shape .* got \(64, 64\) and \(3, 3\)"):
        structure_agreement(image, np.zeros((3, 3)))
    with pytest.raises(InvalidImageError, match="with at least one pixel that counts"):
        structure_agreement(image, image, np.zeros(image.shape, dtype=bool))


def test_who_draws_is_told_by_the_worst_scanner_the_worst_first():
    rows = [("a", "all", 0.97), ("a", "B", 0.9), ("b", "all", 0.5), ("c", "all", STRUCTURE_KEPT), ("d", "B", np.nan)]
    table = pd.DataFrame(rows, columns=["harmonizer", "scanner", "value"]).assign(measure=MEASURE)
    assert list(changes_structure(table).items()) == [("b", 0.5), ("a", 0.9)]
    assert changes_structure(table.assign(measure="edge agreement")) == changes_structure(pd.DataFrame()) == {}
