"""What all connections to one server share: when to wait, and when to stop."""

from __future__ import annotations

import random
import threading
import time


class Brake:
    """Lets every connection wait when the server asks one of them to, and stops all of them.

    Examples
    --------
    >>> brake = Brake()
    >>> brake.wait(0)
    True
    >>> brake.stop()
    >>> brake.wait(60)
    False
    """

    def __init__(self) -> None:
        self.disk_is_full = False
        """Whether that was the reason to stop: then no unfinished file is kept."""
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._not_before = 0.0
        # Connections and runs must not come back all at once, so this is the one place where chance has no seed.
        self._random = random.Random()

    @property
    def is_stopped(self) -> bool:
        """Whether the connections are to end."""
        return self._stopped.is_set()

    def stop(self, *, disk_is_full: bool = False) -> None:
        """End all connections as soon as they look."""
        self.disk_is_full |= disk_is_full
        self._stopped.set()

    def hold(self, seconds: float) -> None:
        """Let no connection ask for anything within so many seconds."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)

    def jittered(self, seconds: float) -> float:
        """Give a time that is up to half longer or shorter."""
        return seconds * self._random.uniform(0.5, 1.5)

    def wait(self, seconds: float) -> bool:
        """Wait so long, and until nothing is held; tell whether to go on."""
        until = time.monotonic() + seconds
        while not self.is_stopped:
            left = max(until, self._not_before) - time.monotonic()
            if left <= 0:
                return True
            self._stopped.wait(left)
        return False
