"""What a command says when it is stopped by Ctrl-C: what is kept, and what the same command does next."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from rich.console import Console

GOES_ON = "Interrupted. What is finished is kept: run the same command again to go on."
STARTS_OVER = "Interrupted. What was done so far is not kept: run the same command again to start over."

# Status of a command that Ctrl-C ended, as shells have it.
INTERRUPTED = 130

P = ParamSpec("P")
R = TypeVar("R")


class _Told(KeyboardInterrupt):
    """An interruption of which the user has been told."""


def goes_on(command: Callable[P, R]) -> Callable[P, R]:
    """Make a command say, when it is interrupted, that the same command goes on with what it keeps."""
    return _telling(GOES_ON, command)


def starts_over(command: Callable[P, R]) -> Callable[P, R]:
    """Make a command say, when it is interrupted, that it keeps nothing; within one that goes on this counts."""
    return _telling(STARTS_OVER, command)


def _telling(word: str, command: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(command)  # which also gives it the signature that options are made of
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except _Told:
            raise
        except KeyboardInterrupt as interruption:
            Console(stderr=True, highlight=False, soft_wrap=True).print(word, style="yellow")
            raise _Told from interruption

    return told
