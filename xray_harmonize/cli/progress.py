"""How a running comparison looks in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from xray_harmonize.evaluation.study import StudyProgress


@contextmanager
def shown(console: Console) -> Iterator[Callable[[StudyProgress], None]]:
    """Show a bar with what is being done and the time left, as measured in this run.

    Yields
    ------
    callable
        To be called with every StudyProgress.
    """
    columns = [
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.description}", markup=False),
    ]
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0, left="")

        def show(progress: StudyProgress) -> None:
            epoch = f", epoch {progress.epoch} of {progress.max_epochs}" if progress.epoch else ""
            bar.update(
                task,
                completed=progress.fraction,
                description=progress.doing + epoch,
                left=time_left(progress.remaining_seconds),
            )

        yield show


def time_left(seconds: float | None) -> str:
    """Say how long something will still take, no finer than it is known.

    Examples
    --------
    >>> time_left(None), time_left(8), time_left(95), time_left(4000)
    ('measuring', '8 s left', '2 min left', '1.1 h left')
    """
    if seconds is None:
        return "measuring"
    if seconds < 60:
        return f"{seconds:.0f} s left"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min left"
    return f"{seconds / 3600:.1f} h left"
