"""What a harmonizer over an archive costs: time over decoding and encoding, a second worker, memory, and being killed.

Parts, each with its goal in the table:

- ``overhead``: wall time of ``apply`` in one process against a plain loop that decodes every file and encodes it with
  the same encoder, without harmonizing, hashing, manifest; rounds take turns.
- ``workers``: files a second of two processes against one, from the moment that all work (a process takes seconds to
  import the libraries, once a run); rounds take turns.
- ``memory``: highest resident memory of a worker on few and on many files.
- ``killed``: many small files in runs of which so many are killed; what is complete in the end.

Run as ``python benchmarks/apply_speed.py`` on a machine that does nothing else; writes
``benchmarks/results/apply_speed.csv``. Everything runs with one thread a process.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import psutil
from fourier_speed import radiograph
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from result_files import write_result

from xray_harmonize import CDFMatching, ImageSet
from xray_harmonize.archive import ArchiveProgress, apply
from xray_harmonize.archive.outputs import dicom_header
from xray_harmonize.atomic import replacing
from xray_harmonize.dicom.write import derived_dicom, write_dicom_file
from xray_harmonize.levels import as_unit, stored_levels
from xray_harmonize.reading import read_image

RESULT = Path(__file__).parent / "results" / "apply_speed.csv"
PARTS = ("overhead", "workers", "memory", "killed")


def write_dicom_images(folder: Path, n: int, size: int) -> list[Path]:
    """Write uncompressed DICOM files of 12 bits, smooth with some noise as radiographs are, each another."""
    folder.mkdir(parents=True)
    base = radiograph(size, 0, 0.2)
    paths = []
    for i in range(n):
        noise = np.random.default_rng(i).normal(0, 0.003, (size, size)).astype(np.float32)
        stored = np.clip((base + noise) * 4095, 0, 4095).astype(np.uint16)
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
        dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = f"1.2.{i + 1}", "1.3", "1.4"
        dataset.PatientID, dataset.Modality = f"p{i}", "DX"
        dataset.Rows = dataset.Columns = size
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.PixelData = stored.tobytes()
        paths.append(folder / f"{i:04d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_png_images(folder: Path, sources: list[Path]) -> list[Path]:
    """Write the same images as PNG of 16 bits."""
    folder.mkdir(parents=True)
    paths = [folder / f"{source.stem}.png" for source in sources]
    for path, source in zip(paths, sources, strict=True):
        cv2.imwrite(str(path), read_image(source).pixels << 4)
    return paths


def decode_and_encode(path: Path, target: Path, output_format: str) -> None:
    """Do what is left of ``apply`` when nothing is harmonized and nobody keeps account."""
    image = read_image(path)
    unit = as_unit(image.pixels, image.bits_stored)
    if output_format == "png":
        levels, _ = stored_levels(unit)
        _, data = cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        with replacing(target, "wb") as stream:
            stream.write(data)
    elif output_format == "npy":
        with replacing(target, "wb") as stream:
            np.lib.format.write_array(stream, unit, allow_pickle=False)
    else:
        write_dicom_file(derived_dicom(dicom_header(path), unit, method="nothing", model_hash="0" * 64), target)


def timed(work: Callable[[Path], object], folder: Path) -> float:
    """Time work that writes into a new folder."""
    out = folder / "out"
    out.mkdir()
    start = time.perf_counter()
    work(out)
    seconds = time.perf_counter() - start
    shutil.rmtree(out)
    return seconds


def overhead(folder: Path, size: int, n_files: int, rounds: int) -> list[dict[str, object]]:
    """Compare ``apply`` with decoding and encoding alone."""
    dicom = write_dicom_images(folder / "dicom", n_files, size)
    png = write_png_images(folder / "png", dicom)
    rows = []
    for kind, paths, output_format in [
        ("PNG to PNG", png, "png"),
        ("DICOM to PNG", dicom, "png"),
        ("DICOM to DICOM", dicom, "dicom"),
        ("DICOM to NPY", dicom, "npy"),
    ]:
        harmonizer = CDFMatching().fit(ImageSet(paths[:1]))

        def alone(out: Path, paths: list[Path] = paths, output_format: str = output_format) -> None:
            for path in paths:
                decode_and_encode(path, out / f"{path.stem}.{output_format}", output_format)

        def applied(
            out: Path, paths: list[Path] = paths, output_format: str = output_format, model: CDFMatching = harmonizer
        ) -> None:
            assert apply(model, paths, out, format=output_format).ok

        pairs = [(timed(alone, folder), timed(applied, folder)) for _ in range(rounds + 1)][1:]
        ratio = statistics.median(after / before for before, after in pairs)
        milliseconds = 1000 * statistics.median(after for _, after in pairs) / n_files
        rows.append(row("overhead", f"{kind}, ms a file", milliseconds))
        rows.append(row("overhead", f"{kind}, times decode + encode", ratio, "<= 1.25", ratio <= 1.25))
    return rows


def files_a_second(paths: list[Path], out: Path, n_jobs: int) -> float:
    """Measure the rate between the first file that is done, or a few more of several processes, and the last."""
    times: list[float] = []

    def listen(progress: ArchiveProgress) -> None:
        if progress.processed:
            times.append(time.perf_counter())

    assert apply(CDFMatching().fit(ImageSet(paths[:1])), paths, out, format="png", n_jobs=n_jobs, progress=listen).ok
    first = 2 * n_jobs - 1
    return (len(times) - 1 - first) / (times[-1] - times[first])


def workers(folder: Path, size: int, n_files: int, rounds: int) -> list[dict[str, object]]:
    """Compare two processes with one."""
    paths = write_dicom_images(folder / "dicom", n_files, size)
    pairs = []
    for _ in range(rounds):
        rates = []
        for n_jobs in (1, 2):
            rates.append(files_a_second(paths, folder / "out", n_jobs))
            shutil.rmtree(folder / "out")
        pairs.append(rates)
    ratio = statistics.median(two / one for one, two in pairs)
    one, two = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    return [
        row("workers", "one process, files a second", one),
        row("workers", "two processes, files a second", two),
        row("workers", "two processes, times one", ratio, ">= 1.8", ratio >= 1.8),
    ]


class Watch(threading.Thread):
    """Notes the highest resident memory that any worker of this process had."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks: dict[int, float] = {}
        self.done = threading.Event()

    def run(self) -> None:
        """Look at all of them, as the system keeps the peak of each."""
        while not self.done.wait(0.05):
            for child in psutil.Process().children(recursive=True):
                try:
                    if any("popen_loky" in word for word in child.cmdline()):
                        status = Path(f"/proc/{child.pid}/status").read_text()
                        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
                        self.peaks[child.pid] = int(peak.split()[1]) / 1024
                except (psutil.Error, OSError, StopIteration):
                    continue


def memory(folder: Path, size: int, counts: tuple[int, int]) -> list[dict[str, object]]:
    """Measure the highest resident memory of a worker over few and over many files."""
    paths = write_dicom_images(folder / "dicom", max(counts), size)
    rows = []
    for output_format in ("png", "dicom"):
        for count in counts:
            watch = Watch()
            watch.start()
            harmonizer = CDFMatching().fit(ImageSet(paths[:1]))
            assert apply(harmonizer, paths[:count], folder / "out", format=output_format, n_jobs=2).ok
            watch.done.set()
            watch.join()
            shutil.rmtree(folder / "out")
            peak = max(watch.peaks.values())
            rows.append(row("memory", f"{output_format}, {count} files, MiB a worker", peak, "< 600", peak < 600))
    return rows


def killed(folder: Path, n_files: int, kills: int) -> list[dict[str, object]]:
    """Kill runs at random moments and look at what is there after the last one."""
    paths = [folder / "small" / f"{i % 10}" / f"{i:05d}.npy" for i in range(n_files)]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.random.default_rng(i).integers(0, 65536, (32, 32)).astype(np.uint16))
    harmonizer = CDFMatching().fit(ImageSet(paths[:20]))
    start = time.perf_counter()
    apply(harmonizer, folder / "small", folder / "undisturbed", format="png")
    seconds = time.perf_counter() - start
    rng = random.Random(0)
    n_killed = 0
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            apply(harmonizer, folder / "small", folder / "out", format="png")
            os._exit(0)
        # Every run needs a moment to see what is done; the work should last for all kills.
        time.sleep(rng.uniform(0, 0.5 * seconds / kills) + 0.02 * seconds)
        os.kill(child, signal.SIGKILL)
        n_killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    summary = apply(harmonizer, folder / "small", folder / "out", format="png")
    complete = summary.ok and contents(folder / "out") == contents(folder / "undisturbed")
    return [
        row("killed", f"{n_files} files, runs that were killed", n_killed),
        row("killed", f"{n_files} files, left for the last run", summary.written),
        row("killed", f"{n_files} files, all there with the bytes of an undisturbed run", complete, "1", complete),
    ]


def contents(out: Path) -> dict[str, bytes]:
    """Read every file but those of the manifest, unfinished ones included."""
    files = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith("manifest.")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def row(part: str, measured: str, value: float, goal: str = "", reached: bool | None = None) -> dict[str, object]:
    """Make a row of the table."""
    return {"part": part, "measured": measured, "value": float(value), "goal": goal, "reached": reached}


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--size", type=int, default=3000, help="side of the images in pixels")
    parser.add_argument("--files", type=int, default=6, help="files for overhead; four times as many for workers")
    parser.add_argument("--memory-files", type=int, nargs=2, default=(8, 32), help="few and many files for memory")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that medians are taken over")
    parser.add_argument("--small-files", type=int, default=1000, help="files of the runs that are killed")
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    table: list[dict[str, object]] = []
    for part in options.parts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if part == "overhead":
                table += overhead(folder, options.size, options.files, options.rounds)
            elif part == "workers":
                table += workers(folder, options.size, 4 * options.files, options.rounds)
            elif part == "memory":
                table += memory(folder, options.size, tuple(options.memory_files))
            else:
                table += killed(folder, options.small_files, options.kills)
    frame = pd.DataFrame(table)
    frame.insert(
        1, "pixels", [f"{options.size} x {options.size}" if one != "killed" else "32 x 32" for one in frame["part"]]
    )
    print(frame.to_string(index=False, float_format="{:.3g}".format))
    write_result(
        RESULT, frame, f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')} python {shlex.join(sys.argv)}"
    )


if __name__ == "__main__":
    main()
