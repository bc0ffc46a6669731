"""Plain actors that share one process, since each process costs some 70 MB: those that may die together."""

from __future__ import annotations

from typing import Any, Protocol


class Part(Protocol):
    """A plain actor that tells how it is."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def status(self) -> dict[str, Any]: ...


class Keeper:
    """``first`` has the say about what the status says; of the others it has their warnings, whether they serve,
    and how many seconds each is behind the log (``log_lag_s``)."""

    def __init__(self, first: Part, *others: Part) -> None:
        self.first = first
        self._parts = (first, *others)

    async def start(self) -> None:
        for part in self._parts:
            await part.start()

    async def stop(self) -> None:
        for part in reversed(self._parts):
            await part.stop()

    async def status(self) -> dict[str, Any]:
        found = [await part.status() for part in self._parts]
        return {
            **found[0],
            "serving": all(status["serving"] for status in found),
            "warnings": [warning for status in found for warning in status["warnings"]],
            "log_lag_s": {name: lag_s for status in found for name, lag_s in status.get("log_lag_s", {}).items()},
        }
