"""The benchmark of what learned methods cost runs, and writes a table that can be read back."""

from __future__ import annotations

import pandas as pd


def test_every_method_has_a_row_with_its_times(benchmark, monkeypatch, tmp_path):
    learned_cost = benchmark("learned_cost")
    monkeypatch.setattr(learned_cost, "N_PATIENTS", 4)
    monkeypatch.setattr(learned_cost, "LARGE", 128)
    methods = ["DLBC", "U-Net", "CycleGAN"]
    made = learned_cost.main(["--quick", "--methods", *methods, "--results", str(tmp_path / "cost.csv")])
    read = pd.read_csv(tmp_path / "cost.csv", comment="#")
    assert read["method"].tolist() == made["method"].tolist() == methods
    assert read["class"].tolist() == ["DLBC", "UNet", "CycleGAN"]
    assert (read.filter(like="_cpu_s") >= 0).all(axis=None)
    assert (tmp_path / "cost.csv").read_text().startswith("# python benchmarks/learned_cost.py --quick --methods DLBC")
