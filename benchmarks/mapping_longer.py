"""The mapping study's main comparison with longer trainings, and that again on bodies that nobody had looked at.

That trainings are three times as long was decided after first scores on the test bodies. What they show there is
therefore asked again of others, of the same networks: nothing was chosen, and nothing trained, after these were seen.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mapping_bodies import Presentations
from mapping_methods import CLOSED_FORMS, ByBodyPart, Trainer, Training, held_out_error
from mapping_parts import bodies_to_test, learn, scores_of, show, training_bodies, verdicts
from mapping_scores import score_table
from mapping_setting import MAPPING, METHODS, Setting

TIMES = 3


def longer_part(setting: Setting) -> None:
    """Compare methods that were trained three times as long."""
    _compare(setting, bodies_to_test(setting), "longer")


def confirm_part(setting: Setting) -> None:
    """Compare the same networks on other bodies."""
    _compare(setting, bodies_to_test(setting, "confirmation"), "confirm")


def _compare(setting: Setting, test: Presentations, part: str) -> None:
    learned = learn_longer(setting)
    taken = {name: run.max_steps for name, run in learned.items()}
    learned |= {name: ByBodyPart.fit(name, training_bodies(setting)) for name in CLOSED_FORMS}
    scores = scores_of(setting, learned, test, part)
    table = score_table(scores, MAPPING, setting.n_bootstrap)
    setting.write(part, table.assign(steps=table["method"].map(taken)))
    setting.write(f"{part}_verdicts", pd.DataFrame(verdicts(setting, scores)).assign(steps=TIMES * setting.max_steps))
    show(table)


def learn_longer(setting: Setting) -> dict[str, Any]:
    """Train three times as long, at the rates that the main part chose; what ends up worse than before is not taken."""
    before, _ = learn(setting)
    trainer = Trainer(setting, Training.of(training_bodies(setting)), setting.cache / "networks", {})
    learned = {}
    for method in METHODS:
        runs = [before[method.name], trainer.trained(method, before[method.name].lr, TIMES * setting.max_steps)]
        learned[method.name] = min(runs, key=held_out_error)
    return learned
