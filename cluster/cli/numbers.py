"""Numbers of options that are not bounded above: the parser takes every text that Python reads as a float."""

from __future__ import annotations

import math
from typing import Any

import typer


def finite(value: float | None) -> float | None:
    """The callback of every option that is a float. A lower bound alone lets ``nan`` and ``inf`` pass.

    Raises: `BadParameter` if the value is no finite number.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def amount(help_text: str) -> Any:
    """The declaration of an option that is a finite number from 0 on."""
    return typer.Option(callback=finite, min=0, help=help_text)
