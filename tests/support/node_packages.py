"""Packages of npm for tests. Where no npm registry answers, the tests that need them are skipped by name."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.node_packages import NODE, NotInstalled, install

__all__ = ["NODE", "installed"]


@functools.cache
def installed(what: str, source: Path, files: Sequence[str]) -> Path:
    """What `install` gives; skips the test if the packages cannot be had. ``what`` is what the test is told then."""
    try:
        return install(source, files)
    except NotInstalled as error:
        pytest.skip(f"{what} cannot be installed from an npm registry: {error}")
