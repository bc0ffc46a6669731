"""What the settings of a region and the group's record both must know of a group's size and of how it acknowledges."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

#: The zone of the regions that name no residency.
DEFAULT_ZONE: Final = "default"
#: With fewer voters, the loss of one leaves no majority that could elect.
LEAST_VOTERS: Final = 3
TWO_ALONE: Final = (
    "Two regions cannot fail over by themselves, because neither can tell the loss of the other from the loss of the link "
    "between them; add a third region or a witness."
)


class ReplicationMode(StrEnum):
    SYNC = "sync"
    ASYNC = "async"
