"""What is usual among the images of one scanner."""

from __future__ import annotations

import numpy as np

from xray_harmonize.harmonizers.typicality import FEWEST, Typicality


def drawn(n: int, seed: int) -> np.ndarray:
    """Three numbers an image, of which two vary together."""
    common, own = np.random.default_rng(seed).normal(size=(2, n))
    return np.stack([common, common + 0.1 * own, 5 + 3 * own], axis=1)


def test_new_images_of_the_scanner_are_as_usual_as_the_share_says() -> None:
    usual = Typicality.of(drawn(400, seed=0))
    new = usual.distance(drawn(4000, seed=1))
    for share in (0.5, 0.9):
        assert abs((new <= usual.limit(share)).mean() - share) < 0.05


def test_numbers_that_vary_together_are_judged_together() -> None:
    usual = Typicality.of(drawn(400, seed=0))
    together, apart = usual.distance(np.array([[1.5, 1.5, 5.0], [1.5, -1.5, 5.0]]))
    assert together < usual.limit(0.9) < apart


def test_images_of_one_patient_are_held_out_together() -> None:
    copies = np.repeat(drawn(20, seed=0), 10, axis=0)
    alone = Typicality.of(copies).limit(0.9)
    assert Typicality.of(copies, np.repeat(np.arange(20), 10)).limit(0.9) > alone


def test_with_few_patients_nothing_is_usual() -> None:
    few = Typicality.of(np.repeat(drawn(FEWEST - 1, seed=0), 5, axis=0), np.repeat(np.arange(FEWEST - 1), 5))
    assert few.limit(0.99) == 0.0
    assert (few.distance(drawn(3, seed=1)) > 0).all()


def test_no_share_is_no_image() -> None:
    assert Typicality.of(drawn(40, seed=0)).limit(0.0) == 0.0


def test_what_never_varies_counts_as_it_is() -> None:
    numbers = np.c_[drawn(40, seed=0), np.full(40, 2.0)]
    usual = Typicality.of(numbers)
    same, other = usual.distance(np.array([[0, 0, 5, 2.0], [0, 0, 5, 9.0]]))
    assert np.isfinite([same, other]).all()
    assert same < other


def test_one_image_has_a_distance_too() -> None:
    one = Typicality.of(np.array([[1.0, 2.0]]))
    assert one.distance(np.array([[1.0, 2.0]])).tolist() == [0.0]


def test_an_image_of_nobody_known_is_of_a_patient_of_its_own() -> None:
    numbers = np.random.default_rng(0).normal(size=(24, 3))
    named = np.array([f"P{i // 2}" for i in range(24)], dtype=object)
    some = np.where(np.arange(24) < 6, None, named)
    apart = np.where(np.arange(24) < 6, np.array([f"Q{i:02d}" for i in range(24)], dtype=object), named)
    np.testing.assert_array_equal(Typicality.of(numbers, some).held_out, Typicality.of(numbers, apart).held_out)
