"""The mapping study's main comparison with longer trainings: what of its order comes from stopping early."""

from __future__ import annotations

from typing import Any

import pandas as pd
from mapping_methods import CLOSED_FORMS, ByBodyPart, Trainer, Training, held_out_error
from mapping_parts import bodies_to_test, learn, scores_of, show, training_bodies, verdicts
from mapping_scores import score_table
from mapping_setting import MAPPING, METHODS, Setting

# At downscale 4 a step costs four times as much as at 8.
LEFT_OUT = ("mapping x4", "mapping x8, no statistics")
TIMES = 3


def longer_part(setting: Setting) -> None:
    """Compare methods that were trained three times as long."""
    learned = learn_longer(setting)
    taken = {name: run.max_steps for name, run in learned.items()}
    learned |= {name: ByBodyPart.fit(name, training_bodies(setting)) for name in CLOSED_FORMS}
    scores = scores_of(setting, learned, bodies_to_test(setting), "longer")
    table = score_table(scores, MAPPING, setting.n_bootstrap)
    setting.write("longer", table.assign(steps=table["method"].map(taken)))
    setting.write("longer_verdicts", pd.DataFrame(verdicts(setting, scores)).assign(steps=TIMES * setting.max_steps))
    show(table)


def learn_longer(setting: Setting) -> dict[str, Any]:
    """Train three times as long, at the rates that the main part chose; what ends up worse than before is not taken."""
    before, _ = learn(setting)
    trainer = Trainer(setting, Training.of(training_bodies(setting)), setting.cache / "networks", {})
    learned = {}
    for method in METHODS:
        if method.name not in LEFT_OUT:
            runs = [before[method.name], trainer.trained(method, before[method.name].lr, TIMES * setting.max_steps)]
            learned[method.name] = min(runs, key=held_out_error)
    return learned
