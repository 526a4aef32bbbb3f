"""Simulated cohorts: patients on scanners, with the truth that real archives cannot give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from zlib import crc32

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from xray_harmonize.datasets.anatomy import Body
from xray_harmonize.datasets.breast import breast, glandular_region
from xray_harmonize.datasets.chest import chest, lung_region
from xray_harmonize.datasets.classes import class_plan
from xray_harmonize.datasets.physics import attenuation_image
from xray_harmonize.datasets.responses import curve_between
from xray_harmonize.datasets.vendors import TASKS, Task, VendorPreset, find_presets
from xray_harmonize.exceptions import InvalidParameterError, UnknownScannerError
from xray_harmonize.images import ImageSet
from xray_harmonize.tone import ToneCurve

__all__ = ["Cohort", "make_cohort"]

MIN_SIZE = 32

_ANATOMY: dict[str, Callable[[Any, int, np.random.Generator], Body]] = {"density": breast, "pneumonia": chest}
_TISSUE: dict[str, tuple[str, Callable[[Body], np.ndarray]]] = {
    "density": ("glandular", glandular_region),
    "pneumonia": ("lung", lung_region),
}


@dataclass(frozen=True)
class Cohort:
    """Radiographs of simulated patients.

    Parameters
    ----------
    images : ImageSet
        uint16 stored values with scanner, patient, bits_stored and meta: ``window_center`` and ``window_width`` in
        stored values (NaN where the vendor gives none), ``voi_lut_function``, ``photometric_interpretation`` (how the
        vendor codes its files; the pixels here have dark air in any case), ``kvp``, ``mas``, ``anode``,
        ``filtration``.
    labels : ndarray of shape (n,)
        Density "A" to "D", or 1 with and 0 without pneumonia.
    truth : ImageSet
        Image i is the body of ``images[i]`` exposed and stored by the reference, noise included, under the same labels.
        For images of the reference it is the image itself.
    reference : str
        Which scanner the truth is of.
    body : ndarray of bool of shape (n, size, size)
        Where the body is; differences to the truth should be counted there.
    facts : DataFrame of n rows
        What is true of the body and in no header (glandular fraction, compressed thickness; share of the lungs filled
        with fluid), and ``gamma``, the exponent of this image's tone response.
    presets : dict of {str: VendorPreset}
        The scanners as rendered, the reference among them.
    physics : {"own", "same"}
        Whether scanners expose each in its own way or all like the reference.
    tissue : dict of {str: ndarray of bool of shape (n, size, size)}
        What an expert might outline, known from the bodies: "glandular" in mammograms
        (:func:`~xray_harmonize.datasets.breast.glandular_region`; empty in some breasts of density "A"), "lung" in
        chest radiographs, filled parts included (:func:`~xray_harmonize.datasets.chest.lung_region`).
    """

    images: ImageSet
    labels: np.ndarray
    truth: ImageSet
    reference: str
    body: np.ndarray
    facts: pd.DataFrame
    presets: Mapping[str, VendorPreset] = field(repr=False)
    physics: Literal["own", "same"] = "own"
    tissue: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def true_curve(self, scanner: str) -> ToneCurve:
        """Give the curve that takes a scanner's images to the truth.

        Parameters
        ----------
        scanner : str

        Returns
        -------
        ToneCurve
            Acts on fractions of full scale.

        Raises
        ------
        InvalidParameterError
            If scanners also differ in how they expose: no curve relates them then.
        UnknownScannerError
            If the cohort has no such scanner.

        Examples
        --------
        >>> cohort = make_cohort(n_patients=4, size=32, physics="same", random_state=0)
        >>> cohort.true_curve("reference")(0.25).round(3)
        np.float64(0.25)
        """
        self._expect_same_physics()
        if scanner not in self.presets:
            raise UnknownScannerError(f"The cohort has no scanner {scanner!r}; it has {', '.join(self.presets)}.")
        return curve_between(self.presets[scanner].tone, self.presets[self.reference].tone)

    def true_curves(self) -> list[ToneCurve]:
        """Give the curve of every image, which differs within a scanner where its response has jitter.

        Raises
        ------
        InvalidParameterError
            As :meth:`true_curve`.
        """
        self._expect_same_physics()
        target = self.presets[self.reference].tone
        scanners, gammas = self.images.scanner, self.facts["gamma"]
        assert scanners is not None
        made: dict[tuple[str, float], ToneCurve] = {}
        for key in set(zip(scanners, gammas, strict=True)):
            made[key] = curve_between(self.presets[key[0]].tone, target, key[1])
        return [made[key] for key in zip(scanners, gammas, strict=True)]

    def _expect_same_physics(self) -> None:
        if self.physics != "same":
            raise InvalidParameterError(
                "The scanners of this cohort differ in kVp, filtration, scatter or noise, so no tone curve relates "
                "them exactly. Make the cohort with physics='same'."
            )


def make_cohort(
    task: Task = "density",
    scanners: Iterable[str | VendorPreset] | None = None,
    n_patients: int = 60,
    size: int = 128,
    random_state: int | np.random.RandomState | None = None,
    *,
    paired: bool = False,
    physics: Literal["own", "same"] = "own",
    reference: str | VendorPreset | None = None,
    prevalence: Mapping[str, Mapping[Any, float]] | None = None,
) -> Cohort:
    """Simulate radiographs of patients on several scanners.

    Each patient is a body of its own, drawn as material thickness maps, exposed with the scanner's spectrum, scatter,
    blur and quantum noise, and stored through the vendor's response. A patient depends on `random_state`, on its number
    and, unless `paired`, on the name of its scanner, but neither on the other scanners nor on `n_patients`: adding
    scanners or patients leaves the rest as it was.

    Parameters
    ----------
    task : {"density", "pneumonia"}, default="density"
        Breast density "A" to "D" in mammograms, or pneumonia 0 / 1 in chest radiographs.
    scanners : iterable of str or VendorPreset, optional
        Names of presets or scanners of one's own; all presets of the task where None.
    n_patients : int, default=60
        Patients for each scanner, the classes in turn.
    size : int, default=128
        Height and width of the images in pixels, at least 32.
    random_state : int, RandomState or None
        Seed of everything random.
    paired : bool, default=False
        Whether the same patients are seen on every scanner; otherwise every scanner has its own.
    physics : {"own", "same"}, default="own"
        "same": every scanner exposes exactly like the reference, down to the noise, so that scanners differ by a known
        tone curve alone (:meth:`Cohort.true_curve`).
    reference : str or VendorPreset, optional
        Scanner that the truth is rendered on, listed among `scanners` or not. Default: the task's reference preset
        where it is listed, otherwise the first scanner.
    prevalence : dict of {scanner: {label: weight}}, optional
        Class proportions of scanners that are not to be balanced; absent labels have weight 0.

    Returns
    -------
    Cohort
        Scanner by scanner, `n_patients` images each.

    Raises
    ------
    InvalidParameterError
        An unknown task or option, images too small, scanners of another task, weights that fit no class.
    UnknownScannerError
        A name that is no preset; the message lists those there are.
    NotEnoughImagesError
        Fewer patients than classes.

    Examples
    --------
    >>> cohort = make_cohort("density", n_patients=4, size=32, random_state=0)
    >>> cohort.images
    ImageSet(12 images, scanners clearview-like, reference, senograph-like)
    >>> cohort.labels[:4].tolist(), cohort.truth[0].shape, cohort.reference
    (['A', 'B', 'C', 'D'], (32, 32), 'reference')
    """
    if task not in TASKS:
        raise InvalidParameterError(f"task must be one of {', '.join(map(repr, TASKS))}; got {task!r}.")
    if physics not in ("own", "same"):
        raise InvalidParameterError(f"physics must be 'own' or 'same'; got {physics!r}.")
    if size < MIN_SIZE:
        raise InvalidParameterError(f"size must be at least {MIN_SIZE} pixels; got {size}.")
    presets = find_presets(task, scanners)
    target = _reference(task, presets, reference)
    if physics == "same":
        presets = [replace(preset, acquisition=target.acquisition) for preset in presets]
    plan = class_plan(task, [preset.name for preset in presets], n_patients, prevalence, paired)
    seed = int(check_random_state(random_state).randint(2**31 - 1))

    rows = []
    tissue, region = _TISSUE[task]
    for preset in presets:
        group = "patient" if paired else preset.name
        for k, label in enumerate(plan[preset.name]):
            stream = (seed, crc32(group.encode()), k)
            body = _ANATOMY[task](label, size, np.random.default_rng(stream))
            known = {"label": label, "patient": f"{group}-{k:04d}", "tissue": region(body)}
            rows.append({**known, **_expose(body, preset, target, stream)})
    rendered = {**{p.name: p for p in presets}, target.name: target}
    return _assemble(rows, rendered, target.name, physics, tissue)


def _reference(task: Task, presets: list[VendorPreset], reference: str | VendorPreset | None) -> VendorPreset:
    listed = {preset.name: preset for preset in presets}
    if reference is None:
        return listed.get(find_presets(task, None)[0].name, presets[0])
    if isinstance(reference, str):
        return listed[reference] if reference in listed else find_presets(task, [reference])[0]
    if listed.get(reference.name, reference) != reference:
        raise InvalidParameterError(
            f"reference and scanners hold two different scanners named {reference.name!r}; rename one."
        )
    return find_presets(task, [reference])[0]


def _expose(body: Body, preset: VendorPreset, target: VendorPreset, stream: tuple[int, ...]) -> dict[str, Any]:
    """Render one body on its scanner and on the reference."""

    def attenuation(scanner: VendorPreset) -> np.ndarray:
        # Scanners that expose alike share the noise too, so that nothing but the tone curve is left between them.
        shares_noise = scanner.acquisition == target.acquisition
        noise = crc32((target if shares_noise else scanner).name.encode())
        return attenuation_image(body, scanner.acquisition, np.random.default_rng((*stream, noise)))

    tone, mask = preset.tone, body.mask
    in_reference = attenuation(target)
    seen = in_reference if preset.acquisition == target.acquisition else attenuation(preset)
    z = np.random.default_rng((*stream, crc32(preset.name.encode()), 1)).standard_normal()
    gamma = float(tone.gamma * np.exp(tone.jitter * z))
    stored = tone.store(seen, gamma)
    center, width = tone.display_window(stored, mask)
    truth = target.tone.store(in_reference)
    truth_center, truth_width = target.tone.display_window(truth, mask)
    return {
        "pixels": stored,
        "truth": truth,
        "body": mask,
        "scanner": preset.name,
        "window": (center, width),
        "truth_window": (truth_center, truth_width),
        "facts": {**body.facts, "gamma": gamma},
    }


def _assemble(
    rows: list[dict[str, Any]],
    presets: dict[str, VendorPreset],
    reference: str,
    physics: Literal["own", "same"],
    tissue: str,
) -> Cohort:
    def image_set(pixels: str, window: str, rendered_on: list[str]) -> ImageSet:
        return ImageSet(
            np.stack([row[pixels] for row in rows]),
            scanner=np.array([row["scanner"] for row in rows], dtype=object),
            patient=np.array([row["patient"] for row in rows], dtype=object),
            bits_stored=np.array([presets[name].tone.bits_stored for name in rendered_on]),
            meta=pd.DataFrame(
                [_header(presets[name], *row[window]) for name, row in zip(rendered_on, rows, strict=True)]
            ),
        )

    scanners = [row["scanner"] for row in rows]
    return Cohort(
        images=image_set("pixels", "window", scanners),
        labels=np.array([row["label"] for row in rows]),
        truth=image_set("truth", "truth_window", [reference] * len(rows)),
        reference=reference,
        body=np.stack([row["body"] for row in rows]),
        facts=pd.DataFrame([row["facts"] for row in rows]),
        presets=presets,
        physics=physics,
        tissue={tissue: np.stack([row["tissue"] for row in rows])},
    )


def _header(preset: VendorPreset, center: float, width: float) -> dict[str, Any]:
    acquisition = preset.acquisition
    return {
        "window_center": center,
        "window_width": width,
        "voi_lut_function": "LINEAR",
        "photometric_interpretation": preset.tone.polarity,
        "kvp": acquisition.kvp,
        "mas": acquisition.mas,
        "anode": acquisition.anode,
        "filtration": " + ".join(f"{mm:g} mm {symbol}" for symbol, mm in acquisition.filtration),
    }
