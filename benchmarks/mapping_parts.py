"""The parts of the mapping study: Table 1 of the paper, what its maps are worth, its cost, and simulated scanners."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mapping_bodies import BITS, Presentation, Presentations, presentations, through_maps
from mapping_methods import CLOSED_FORMS, ByBodyPart, Trainer, Training
from mapping_scores import METRICS, ahead, difference, score_table, similarity, verdict
from mapping_setting import BASELINES, MAPPING, METHODS, NOTHING, PROPOSED, TRUE_MAPS, Setting, file_name
from mapping_speed import speed_table

from xray_harmonize import ImageSet
from xray_harmonize.atomic import replacing

# What the part "clipped" compares.
FEW = ("ResUNet x8", "DLBC", "LUT3D", "SupDCE x8", MAPPING)


def main_part(setting: Setting) -> None:
    """Table 1 of the paper."""
    learned, rates = learn(setting)
    test = bodies_to_test(setting)
    scores = scores_of(setting, learned, test, "main")
    table = score_table(scores, MAPPING, setting.n_bootstrap)
    setting.write("study", with_rates(table, rates))
    setting.write("rates", rates)
    setting.write("verdicts", pd.DataFrame(verdicts(setting, scores)))
    show(table)
    # What ceilings and outliers there are can be seen body by body.
    setting.write("bodies", scores)


def speed_part(setting: Setting) -> None:
    """Time one image by every method; what was learned does not matter."""
    learned, _ = learn(setting)
    rng = np.random.default_rng(0)
    side = setting.speed_size
    ramp = np.linspace(0, 0.9, side)
    pixels = np.rint((ramp * ramp[:, None] + 0.1 * rng.random((side, side))) * (2**BITS - 1)).astype(np.uint16)
    image = ImageSet([pixels], bits_stored=BITS)
    # Rows that differ in what they learned alone cost the same.
    distinct = {one.name: learned[one.name] for one in METHODS if "," not in one.name}
    closed = {name: make().fit(image) for name, make in CLOSED_FORMS.items()}
    table = speed_table({**closed, **distinct}, image, setting.speed_rounds)
    setting.write("speed", table)
    print(table.to_string(index=False, float_format="{:.3g}".format))
    ratio = table.set_index("method").loc[MAPPING, "application_to_network"]
    print(f"application of {MAPPING}: {ratio:.2f} times the network's pass (goal: at most 3)")


def clipped_part(setting: Setting) -> None:
    """Compare where presentations have lost grey values for good."""
    few = tuple(method for method in METHODS if method.name in FEW)
    _, rates = learn(setting)
    chosen = rates[rates["chosen"]].groupby("method")["lr"].first()
    shown = training_bodies(setting, clipped=True)
    trainer = Trainer(setting, Training.of(shown), setting.cache / "clipped", {})
    learned = {method.name: trainer.trained(method, chosen[method.name]) for method in few}
    learned |= {name: ByBodyPart.fit(name, shown) for name in CLOSED_FORMS}
    scores = scores_of(setting, learned, bodies_to_test(setting, clipped=True), "clipped")
    table = score_table(scores, MAPPING, setting.n_bootstrap)
    setting.write("clipped", table)
    show(table)


def learn(setting: Setting) -> tuple[dict[str, Any], pd.DataFrame]:
    """Give all methods fitted, and the table of learning rates; what is trained already is found."""
    shown = training_bodies(setting)
    trainer = Trainer(setting, Training.of(shown), setting.cache / "networks", {})
    learned, rates = trainer.chosen(METHODS)
    closed = {name: ByBodyPart.fit(name, shown) for name in CLOSED_FORMS}
    return {**closed, **learned}, rates


def training_bodies(setting: Setting, clipped: bool = False) -> Presentations:
    """Give the training bodies, each shown in several ways."""
    folder = setting.cache / "bodies"
    return presentations("training", setting.training_sizes, setting.n_presentations, folder, clipped=clipped)


def bodies_to_test(setting: Setting, split: str = "test", clipped: bool = False) -> Presentations:
    """Give the test bodies, or those of the confirmation, each shown in one way."""
    sizes = setting.test_sizes if split == "test" else setting.confirmation_sizes
    return presentations(split, sizes, 1, setting.cache / "bodies", clipped=clipped)


def scores_of(setting: Setting, learned: Mapping[str, Any], test: Presentations, part: str) -> pd.DataFrame:
    """Score every method on every test body, in full resolution."""
    folder = setting.cache / f"scores_{part}-{setting.max_steps}"
    tables = []
    for name in (NOTHING, *learned, TRUE_MAPS):
        path = folder / f"{file_name(name)}.csv"
        tables.append(kept(path, lambda name=name: _scored(name, learned.get(name), test)))
    return pd.concat(tables, ignore_index=True)


def _scored(name: str, method: Any, test: Presentations) -> pd.DataFrame:
    rows = []
    for row in test.rows:
        image = ImageSet([np.load(row.source)], bits_stored=BITS)
        target = np.load(row.target).astype(np.float32) / np.float32(2**BITS - 1)
        rendered = rendering(name, method, image, row)
        about = {"method": name, "image": row.patient, "patient": row.patient}
        about |= {"body_part": row.body_part, "size": row.size}
        rows.append({**about, **similarity(rendered, target, np.load(row.body))})
    table = pd.DataFrame(rows)
    print(f"{name}: {table['psnr'].mean():.2f} dB, {table['ssim'].mean():.4f}", flush=True)
    return table


def rendering(name: str, method: Any, image: ImageSet, row: Presentation) -> np.ndarray:
    """Give what becomes of one image."""
    if name == NOTHING:
        return image.unit(0)
    if name == TRUE_MAPS:
        return through_maps(image.unit(0), row.true_maps())
    fitted = method.fitted[row.body_part] if isinstance(method, ByBodyPart) else method
    result: np.ndarray = fitted.transform(image)[0]
    return result


def verdicts(setting: Setting, scores: pd.DataFrame) -> list[dict[str, object]]:
    """Hold the scores against what the paper found."""
    rows = []
    for name, metric in product(PROPOSED, METRICS):
        # In the paper ResUNet has the higher PSNR, and the lower SSIM.
        others = BASELINES if metric.startswith("ssim") else BASELINES[:3]
        rows += ahead(scores, name, others, metric, setting.n_bootstrap)
    compared = {"mapping x4", "mapping x16"} <= set(scores["method"])
    for metric in ("psnr", "psnr_body") if compared else ():
        value, low, high = difference(scores, "mapping x4", "mapping x16", metric, setting.n_bootstrap)
        clear = high < 1 if value < 1 else low > 1
        rows.append(verdict(f"{metric} of mapping x4 less x16", value, low, high, "below 1 dB", value < 1, clear))
    for row in rows:
        print("{goal}: {found:.4g} ({low:.4g} to {high:.4g}), wanted {wanted}: {reached}".format(**row))
    return rows


def with_rates(table: pd.DataFrame, rates: pd.DataFrame) -> pd.DataFrame:
    """Add the learning rate, how many were tried, whose search it came from, and the steps of the training taken."""
    taken = rates[rates["chosen"]].groupby("method")[["lr", "steps", "rate_of"]].first()
    tried = rates.groupby("method")["lr"].nunique().rename("rates_tried")
    return table.join(taken, on="method").join(tried, on="method")


def show(table: pd.DataFrame) -> None:
    """Print the rows of all bodies."""
    rows = table[table["bodies"] == "all"].set_index("method")
    print(rows[[*METRICS, *(f"{metric}_less" for metric in METRICS)]].to_string(float_format="{:.4f}".format))


def kept(path: Path, make: Any) -> pd.DataFrame:
    """Give a table that is kept, made first where it is not."""
    if not path.is_file():
        table = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as stream:
            table.to_csv(stream, index=False)
    return pd.read_csv(path)
