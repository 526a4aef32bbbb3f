"""The simulated scanners that come with the package, and how to describe another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from xray_harmonize.datasets.physics import Acquisition
from xray_harmonize.datasets.responses import ToneResponse, expect_one_of
from xray_harmonize.exceptions import InvalidParameterError, UnknownScannerError

__all__ = ["PRESETS", "TASKS", "Task", "VendorPreset", "find_presets"]

Task = Literal["density", "pneumonia"]
TASKS = ("density", "pneumonia")


@dataclass(frozen=True)
class VendorPreset:
    """A simulated scanner: what it images, how it exposes, what it stores.

    Parameters
    ----------
    name : str
        The scanner's label.
    task : {"density", "pneumonia"}
        Mammography or chest radiography.
    acquisition : Acquisition
    tone : ToneResponse

    Examples
    --------
    >>> from dataclasses import replace
    >>> dim = replace(PRESETS["reference"], name="dim")
    >>> dim = replace(dim, tone=replace(dim.tone, output_range=(0.0, 0.5)))
    >>> dim.tone.output_range
    (0.0, 0.5)
    """

    name: str
    task: Task
    acquisition: Acquisition
    tone: ToneResponse

    def __post_init__(self) -> None:
        expect_one_of("task", self.task, TASKS)
        if not self.name:
            raise InvalidParameterError("name must not be empty: it labels the scanner's images.")


def find_presets(task: Task, scanners: Iterable[str | VendorPreset] | None) -> list[VendorPreset]:
    """Resolve names among :data:`PRESETS` and check that all scanners image the task.

    Parameters
    ----------
    task : {"density", "pneumonia"}
    scanners : iterable of str or VendorPreset, optional
        All presets of the task where None.

    Returns
    -------
    list of VendorPreset

    Raises
    ------
    UnknownScannerError
        A name is no preset.
    InvalidParameterError
        No scanners, a scanner of the other task, or two of the same name.
    """
    known = [preset for preset in PRESETS.values() if preset.task == task]
    if scanners is None:
        return known
    found = []
    for scanner in [scanners] if isinstance(scanners, str | VendorPreset) else scanners:
        preset = PRESETS.get(scanner) if isinstance(scanner, str) else scanner
        if preset is None:
            names = ", ".join(preset.name for preset in known)
            raise UnknownScannerError(
                f"There is no simulated scanner {scanner!r}; for task {task!r} there are {names}. "
                "Take one of these or pass a VendorPreset."
            )
        if preset.task != task:
            raise InvalidParameterError(
                f"Scanner {preset.name!r} is made for task {preset.task!r} and cannot image {task!r}."
            )
        found.append(preset)
    names_found = [preset.name for preset in found]
    if not found or len(set(names_found)) < len(found):
        raise InvalidParameterError(f"scanners must name at least one scanner, each once; got {names_found}.")
    return found


PRESETS: dict[str, VendorPreset] = {
    preset.name: preset
    for preset in (
        VendorPreset(
            "reference",
            "density",
            Acquisition(29.0, 90.0, "W", (("Rh", 0.05),), "a-Se", scatter=0.04, blur_mm=0.4),
            ToneResponse("sigmoid", (0.2, 4.8), strength=4.5),
        ),
        VendorPreset(
            # A linear detector's values kept on 14 bits with room above them; the window says what to look at.
            "senograph-like",
            "density",
            Acquisition(28.0, 80.0, "Mo", (("Rh", 0.025),), "CsI", scatter=0.05, blur_mm=0.6),
            ToneResponse("log", (0.0, 6.5), gamma=1.5, output_range=(0.01, 0.30), bits_stored=14, window="body"),
        ),
        VendorPreset(
            # Full range, but low-density tissue is bright: the signal itself, not its logarithm.
            "clearview-like",
            "density",
            Acquisition(32.0, 70.0, "W", (("Al", 0.7),), "BaFBr", scatter=0.07, blur_mm=0.8),
            ToneResponse("power", (0.0, 4.6), strength=2.0, polarity="MONOCHROME1"),
        ),
        VendorPreset(
            "chest-reference",
            "pneumonia",
            Acquisition(120.0, 1.6, "W", (("Al", 3.0), ("Cu", 0.1)), "CsI-thick", 180.0, 0.08, 6.0, 0.8, 0.2),
            ToneResponse("sigmoid", (0.3, 5.2), strength=4.0),
        ),
        VendorPreset(
            "chest-b-like",
            "pneumonia",
            Acquisition(100.0, 2.5, "W", (("Al", 2.5),), "BaFBr", 150.0, 0.10, 6.0, 1.4, 0.2),
            ToneResponse("power", (0.2, 6.2), strength=0.7, bits_stored=10, polarity="MONOCHROME1"),
        ),
    )
}
"""The simulated scanners by name; the first of each task is its reference."""
