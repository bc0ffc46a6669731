"""Time zones of the IANA database, by the names that users give."""

from __future__ import annotations

import functools
import re
from typing import Final
from zoneinfo import ZoneInfo

from cluster.domain.base.errors import InvalidRequest

_NAME: Final = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}")
#: Files beside the zones: what this machine is set to, and zones that count leap seconds.
_NO_ZONES: Final = ("localtime", "posixrules", "Factory", "right/", "posix/")


def check_zone(name: str) -> None:
    """Returns if there is such a zone.

    Raises: `InvalidRequest` (``invalid_timezone``) if there is none."""
    if _NAME.fullmatch(name) is not None and not name.startswith(_NO_ZONES):
        try:
            zone(name)
        except (LookupError, ValueError, OSError):
            pass
        else:
            return
    raise InvalidRequest(
        f"timezone {name[:64]!r} is not known; use a name of the IANA database, such as Europe/Berlin or UTC.",
        "invalid_timezone",
    )


@functools.lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The zone of a name that was checked."""
    return ZoneInfo(name)
