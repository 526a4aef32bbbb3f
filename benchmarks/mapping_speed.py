"""Seconds an image: how long the network takes on the small view, and how long its answer takes to apply."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from xray_harmonize import ImageSet
from xray_harmonize.networks.rendering import RenderingNetwork


def speed_table(methods: Mapping[str, Any], image: ImageSet, n_rounds: int) -> pd.DataFrame:
    """Time methods by turns, in one process and on one thread.

    Parameters
    ----------
    methods : mapping of str to fitted harmonizer
    image : ImageSet of one image
        Read from its file once, before.
    n_rounds : int
        After one that warms up.

    Returns
    -------
    DataFrame
        A row a method: medians over the rounds in seconds, ``total`` of ``transform``; of networks ``view``, until the
        network starts (it is built, and the small view is made), ``network``, and ``application``, all after it, and
        ``application_to_network``, the median of that ratio.
    """
    parts: dict[str, list[tuple[float, ...]]] = {name: [] for name in methods}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(n_rounds + 1):
            for name, method in methods.items():
                parts[name].append(_timed(method, image))
    finally:
        torch.set_num_threads(threads)
    rows = []
    side = image[0].shape[0]
    for name, times in parts.items():
        view, network, application = np.array(times[1:]).T
        row: dict[str, Any] = {"method": name, "pixels": f"{side} x {side}"}
        row["total"] = float(np.median(view + network + application))
        if hasattr(methods[name], "state_"):
            row |= {"view": np.median(view), "network": np.median(network), "application": np.median(application)}
            row["application_to_network"] = float(np.median(application / network))
            row["all_but_network_to_network"] = float(np.median((view + application) / network))
        rows.append({**row, "rounds": n_rounds})
    return pd.DataFrame(rows)


def _timed(method: Any, image: ImageSet) -> tuple[float, float, float]:
    """Seconds before, in and after the network; without one, all are after."""
    started = time.perf_counter()
    if not hasattr(method, "state_"):
        method.transform(image)
        return 0.0, 0.0, time.perf_counter() - started
    passed: list[float] = []

    def note(module: Any, *_: Any) -> None:
        if isinstance(module, RenderingNetwork):
            passed.append(time.perf_counter())

    # transform works on a copy of the method, whose network is not made yet: hooks of all modules find it.
    hooks = [register_module_forward_pre_hook(note), register_module_forward_hook(note)]
    try:
        started = time.perf_counter()
        method.transform(image)
        ended = time.perf_counter()
    finally:
        for hook in hooks:
            hook.remove()
    begun, done = passed
    return begun - started, done - begun, ended - done
