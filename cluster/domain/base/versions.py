"""Versions of workers, and the ranges of them that tasks ask for.

Both are those of PEP 440 (https://peps.python.org/pep-0440/), read by ``packaging``, which Ray brings along: a grammar of
our own would be one more to learn, and to get wrong at pre-releases. What workers in other languages usually have (``1.4.2``,
``2.0.0-rc.1``) is a version there too. ``===`` is left out: it compares texts, so it would take what is no version. A
pre-release needs no range that names one: ``2.0rc1`` is in ``>=1`` and ``==2.*``, but neither in ``>=2`` nor in ``<2``.
"""

from __future__ import annotations

import functools
from typing import Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from cluster.domain.base.errors import InvalidRequest

#: Characters of a version or a range.
MAX_VERSION: Final = 128


def check_version(text: str) -> str:
    """The version in its normal form. Raises: `InvalidRequest` if it is none."""
    if not is_version(text):
        raise InvalidRequest("version must be a version such as 1.4.2 or 2.0rc1 (PEP 440).", "invalid_version")
    return str(Version(text))


@functools.lru_cache(4096)
def is_version(text: str) -> bool:
    """Whether a text is a version."""
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def check_range(text: str) -> str:
    """The range in its normal form: equal ranges have equal texts. Raises: `InvalidRequest` if it is none."""
    try:
        parts = SpecifierSet(text)
    except InvalidSpecifier:
        parts = SpecifierSet()
    if not all(text.split(",")) or not len(parts) or any(part.operator == "===" for part in parts):
        raise InvalidRequest(
            "worker_version must be a range of versions such as >=1.4,<2 or ~=2.3 or ==2.* (PEP 440).",
            "invalid_version",
        )
    return str(parts)


@functools.lru_cache(4096)
def in_range(version: str, versions: str) -> bool:
    """Whether a version is in a range; both in normal form."""
    return SpecifierSet(versions).contains(version, prereleases=True)
