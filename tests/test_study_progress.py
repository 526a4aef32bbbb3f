"""How far a comparison says that it is, and how long the rest will take."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.evaluation.study_progress import LEARNING, PREDICTION, TRAINING, StudyProgress

steps = st.lists(
    st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.integers(1, 9)),
    min_size=1,
    max_size=5,
)


@given(steps=steps, n_found=st.integers(0, 2))
def test_whatever_things_take_the_share_never_falls_and_the_time_left_is_finite(steps, n_found):
    """Trainings of two predictions and a method that learns each, the first trainings having been found finished."""
    n_found = min(n_found, len(steps))
    progress = StudyProgress(len(steps) - n_found, 2 * len(steps), len(steps))
    shares, left = [progress.fraction], [progress.remaining_seconds]

    def tell():
        shares.append(progress.fraction)
        left.append(progress.remaining_seconds)

    def do(kind, seconds, n_epochs=0):
        progress.begin(kind, "")
        for epoch in range(1, n_epochs + 1):
            progress.epoch, progress.max_epochs = epoch, n_epochs
            if left[-1] is not None or kind == TRAINING:
                tell()
        progress.end(seconds)
        tell()

    for number, (training, prediction, learning, n_epochs) in enumerate(steps):
        if number >= n_found:
            do(TRAINING, training, n_epochs)
        do(PREDICTION, prediction)
        do(LEARNING, learning, n_epochs)
        do(PREDICTION, prediction)
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert all(share < 1 for share in shares[:-1])
    assert left[0] is None
    assert all(seconds is not None and np.isfinite(seconds) and seconds >= 0 for seconds in left[1:])
    assert left[-1] == 0


def test_nothing_to_do_is_all_done():
    progress = StudyProgress(0, 0)
    assert (progress.fraction, progress.remaining_seconds) == (1.0, 0.0)


def test_each_kind_of_work_is_expected_to_take_what_it_took():
    progress = StudyProgress(n_trainings=2, n_predictions=2, n_learnings=2)
    for kind, seconds in ((TRAINING, 10.0), (PREDICTION, 1.0), (LEARNING, 100.0)):
        progress.begin(kind, "")
        progress.end(seconds)
    assert progress.remaining_seconds == pytest.approx(111)
    assert progress.fraction == pytest.approx(0.5)


def test_what_was_not_measured_is_expected_by_what_was():
    progress = StudyProgress(n_trainings=1, n_predictions=1, n_learnings=1)
    progress.begin(TRAINING, "")
    progress.end(20.0)
    assert progress.remaining_seconds == pytest.approx(1 + 60)


def test_epochs_of_a_training_count_and_those_of_a_method_that_learns_do_not():
    progress = StudyProgress(n_trainings=1, n_predictions=0, n_learnings=1)
    progress.begin(LEARNING, "learning")
    progress.epoch, progress.max_epochs = 5, 10
    assert (progress.fraction, progress.remaining_seconds) == (0.0, None)
    progress.end(60.0)
    progress.begin(TRAINING, "training")
    progress.epoch, progress.max_epochs = 5, 10
    assert progress.fraction > 60 / 80
