"""The command ``xray-harmonize``."""

from __future__ import annotations

import os
import sys
import warnings

# Libraries read these when they are imported, so they stand before anything else is: without a word from the user,
# neither matplotlib nor MONAI should talk to a terminal that shows a progress bar.
os.environ.setdefault("MPLBACKEND", "Agg")

import typer
from rich.console import Console

from xray_harmonize.cli import adapt, apply, audit, compare, download, fit, importing, index, query
from xray_harmonize.cli.interruption import goes_on, starts_over
from xray_harmonize.exceptions import XRayHarmonizeError

app = typer.Typer(
    name="xray-harmonize",
    help="Harmonize X-ray images that come from different scanners. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("compare")(goes_on(compare.compare))
app.command("audit")(starts_over(audit.audit))
app.command("adapt")(starts_over(adapt.adapt))
app.command("index")(goes_on(index.index))
app.add_typer(importing.app)
app.command("query")(starts_over(query.query))
app.command("fit")(starts_over(fit.fit))
app.command("apply")(goes_on(apply.apply))
app.command("download")(goes_on(download.download))

FAILED = 2


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print the version and end.")) -> None:
    """Harmonize X-ray images that come from different scanners. Not a medical device."""
    if show:
        from xray_harmonize import __version__

        typer.echo(f"xray-harmonize {__version__}")
        raise typer.Exit


def run(arguments: list[str] | None = None) -> None:
    """Run the command; errors of the package and the system end as one message and status 2, Ctrl-C as status 130.

    Typer makes that status of it; what is said is each command's own (:mod:`xray_harmonize.cli.interruption`).
    """
    errors = Console(stderr=True, highlight=False, soft_wrap=True)

    def show_warning(message: Warning | str, *_: object, **__: object) -> None:
        errors.print(f"warning: {message}", markup=False, style="yellow")

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            app(arguments, prog_name="xray-harmonize")
    except (XRayHarmonizeError, OSError) as error:
        errors.print(f"error: {error}", markup=False, style="red")
        sys.exit(FAILED)


if __name__ == "__main__":
    run()
