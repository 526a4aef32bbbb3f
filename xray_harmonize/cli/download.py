"""``xray-harmonize download``: a verified copy of a collection that needs credentials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from xray_harmonize.cli.interruption import starts_over
from xray_harmonize.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from xray_harmonize.download.credentials import Ask
    from xray_harmonize.download.mirror import MirrorProgress

_SOME_FAILED = 1


def download(
    collection: Annotated[
        str, typer.Argument(help="mimic-cxr, mimic-cxr-jpg, mimic-iv, or the https address of a folder.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the copy; by default named as the collection.", show_default=False)
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(help="User name; by default that of ~/.netrc, else it is asked for.", show_default=False),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Only files whose path matches, such as 'files/p10/*' or '*.csv.gz' (repeat for several).",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=16, help="Connections at a time.")] = 4,
    attempts: Annotated[int, typer.Option(min=1, max=100, help="Attempts in vain until a file has failed.")] = 5,
    verify: Annotated[bool, typer.Option("--verify", help="Hash files again that were verified before.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell how many files and bytes would come, and write nothing.")
    ] = False,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Send no user name and password: for collections open to all.")
    ] = False,
    allow_http: Annotated[
        bool,
        typer.Option("--allow-http", help="Accept an http address, over which a password is readable on the way."),
    ] = False,
) -> None:
    """Copy a collection from a server and verify every file by its SHA-256.

    Access to the MIMIC collections needs credentials of PhysioNet and the data use agreement of the collection, signed
    there. Who holds a copy is bound by that agreement.

    The password is taken from the environment variable XRAY_HARMONIZE_PASSWORD, from ~/.netrc (or the file that NETRC
    names), or asked for without being shown. No option takes it.

    Run it again to go on after an interruption: what is there is kept, and unfinished files are resumed. The exit
    status is 0 if every file is there and verified, 1 if some are not, 2 if nothing could be begun.
    """
    from xray_harmonize.download.address import base_address, folder_name
    from xray_harmonize.download.credentials import find_credentials

    base = base_address(collection, allow_http=allow_http)
    name = folder_name(collection)
    if out is None and name is None:
        raise InvalidParameterError("An address has no name to call a folder by. Give one with --out.")
    folder = out if out is not None else Path(str(name))
    if anonymous and user is not None:
        raise InvalidParameterError("--anonymous sends no user name, and --user gives one. Leave one of them out.")
    credentials = None if anonymous else find_credentials(base, user, ask=_asker())
    settings: dict[str, Any] = {
        "credentials": credentials,
        "only": only or (),
        "n_jobs": jobs,
        "attempts": attempts,
        "allow_http": allow_http,
    }
    if dry_run:
        _tell(base, folder, settings)
    else:
        _mirror(base, folder, settings, verify)


def _asker() -> Ask | None:
    """Ask in the terminal, if there is one; nobody types a password into a pipe unseen."""
    import sys
    from getpass import getpass

    if not sys.stdin.isatty():
        return None

    def ask(question: str, is_hidden: bool) -> str:
        if is_hidden:
            return getpass(f"{question}: ")
        return str(typer.prompt(question, err=True))

    return ask


@starts_over
def _tell(base: str, folder: Path, settings: dict[str, Any]) -> None:
    from xray_harmonize.download.survey import survey

    found = survey(base, folder, **settings)
    for refused in found.refused:
        typer.echo(f"refused {refused.path}: {refused.reason}", err=True)
    typer.echo(f"{base}: {found.n_files} files, {found.n_there} of them in {folder}, {found.n_missing} to fetch.")
    expected = found.expected_bytes
    if expected is None:
        typer.echo("The server does not say how many bytes they have.")
    elif found.n_sized < found.n_missing:
        typer.echo(f"They have about {_bytes(expected)}, by the size of {found.n_sized} of them.")
    else:
        typer.echo(f"They have {_bytes(expected)}.")


def _mirror(base: str, folder: Path, settings: dict[str, Any], verify: bool) -> None:
    from xray_harmonize.download.mirror import mirror

    console = Console(stderr=True, highlight=False)
    with _shown(console) as listener:
        summary = mirror(base, folder, verify=verify, on_progress=listener, **settings)
    for failure in summary.failures:
        console.print(f"failed {failure.path}: {failure.reason}", markup=False, style="yellow", soft_wrap=True)
    if summary.stopped:
        console.print(f"error: {summary.stopped}.", markup=False, style="red", soft_wrap=True)
    n_there = summary.n_kept + summary.n_fetched
    typer.echo(
        f"{folder}: {n_there} of {summary.n_files} files verified, {summary.n_fetched} of them fetched now "
        f"({_bytes(summary.n_bytes)})."
    )
    if not summary.is_complete:
        n_open = summary.n_files - n_there
        typer.echo(f"{n_open} {'file is' if n_open == 1 else 'files are'} not there. Run it again to go on.", err=True)
        raise typer.Exit(_SOME_FAILED)


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[MirrorProgress], None]]:
    """Show a bar with files, bytes, and the time left by the pace of this run."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [
        BarColumn(bar_width=24),
        TextColumn("{task.completed} of {task.total} files, left"),
        TimeRemainingColumn(),
        TextColumn("after"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    ]
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading the list", total=None)

        def show(progress: MirrorProgress) -> None:
            bar.update(
                task,
                total=progress.n_files,
                completed=progress.n_kept + progress.n_fetched + progress.n_failed,
                description=_described(progress),
            )

        yield show


def _described(progress: MirrorProgress) -> str:
    seconds = max(progress.seconds, 1e-3)
    words = [f"{_bytes(progress.n_bytes)}, {_bytes(round(progress.n_bytes / seconds))}/s"]
    if progress.n_failed:
        words.append(f"{progress.n_failed} failed")
    return ", ".join(words)


def _bytes(number: int) -> str:
    """Say a number of bytes in three digits.

    Examples
    --------
    >>> _bytes(0), _bytes(999), _bytes(1_234_000), _bytes(4_600_000_000_000)
    ('0 B', '999 B', '1.23 MB', '4.6 TB')
    """
    if number < 1000:
        return f"{number} B"
    size = float(number)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.5 or unit == "TB":
            break
    return f"{size:.3g} {unit}" if size < 1000 else f"{size:.0f} {unit}"
