"""Waiting and stopping, for all connections at once."""

from __future__ import annotations

import threading
import time

from xray_harmonize.download.brake import Brake


def test_what_one_is_told_holds_all():
    brake = Brake()
    brake.hold(0.05)
    brake.hold(0.01)  # a shorter time does not undo a longer one
    begun = time.monotonic()
    assert brake.wait(0)
    assert time.monotonic() - begun >= 0.05


def test_a_stop_ends_a_wait():
    brake = Brake()
    ended = []
    thread = threading.Thread(target=lambda: ended.append(brake.wait(60)))
    thread.start()
    brake.stop(disk_is_full=True)
    thread.join(10)
    assert ended == [False]
    assert brake.is_stopped
    assert brake.disk_is_full
    brake.stop()
    assert brake.disk_is_full


def test_jitter_stays_within_half_and_differs():
    brake = Brake()
    times = [brake.jittered(10) for _ in range(100)]
    assert 5 <= min(times) < max(times) <= 15
