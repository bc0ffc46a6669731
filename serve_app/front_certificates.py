"""How the certificates of the front are: what keeps new ones out, what cannot be used, what ends soon."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cluster.domain.base.errors import ControlPlaneError
from cluster.http.front_files import UnusableFile, check_front_files, first_end, soon_ending
from cluster.ports.clock import Clock
from cluster.process.front import FrontTls

SOON: Final = timedelta(days=7)


class FrontCertificates:
    """The files of the settings as this replica reads them. ``kept_out`` is where HAProxy's guard on this node says why it does
    not serve the newest ones."""

    def __init__(self, tls: FrontTls, kept_out: Path | None, clock: Clock) -> None:
        self._tls = tls
        self._kept_out = kept_out
        self._clock = clock

    async def warnings(self) -> Sequence[str]:
        """A sentence for each certificate that ends soon.

        Raises: `ControlPlaneError` if one cannot be used, or is not served."""
        return await asyncio.to_thread(self._look)

    async def not_after(self) -> float | None:
        """When the certificate that ends first does, as epoch seconds; None if they cannot be read, which ``warnings`` tells."""
        with contextlib.suppress(UnusableFile):
            return await asyncio.to_thread(first_end, self._tls)
        return None

    def _look(self) -> Sequence[str]:
        """Raises: as above."""
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        try:
            check_front_files(self._tls, now)
            soon = soon_ending(self._tls, now, SOON)
        except UnusableFile as error:
            raise ControlPlaneError(str(error)) from None
        if self._kept_out is not None:
            with contextlib.suppress(FileNotFoundError):
                raise ControlPlaneError(self._kept_out.read_text())
        return soon
