"""The command line's output: live on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def staged(name: str, seconds: float) -> None:
    console.print(f"[green]✓[/] {name} ({seconds:.1f} s)" if console.is_terminal else f"{name}: up in {seconds:.1f} s")
    sys.stdout.flush()


@contextmanager
def working(what: str) -> Iterator[None]:
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        console.print(what)
        sys.stdout.flush()
        yield
