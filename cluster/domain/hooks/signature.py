"""Whether a webhook was signed with one of a hook's secrets, as Standard Webhooks has it.

``verify`` of the library was rejected, since it reads the machine's clock.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

from cluster.domain.base.errors import Unauthenticated
from cluster.domain.notifications.channel import signing_key

#: How far the time of a webhook may be from ours: what is older may be a replay of a call that somebody has recorded.
TOLERANCE_S: Final = 300
ID_HEADER: Final = "webhook-id"
TIME_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"
CODE: Final = "invalid_signature"

#: Without the full stop, which separates the id from what follows it in what is signed.
_ID: Final = re.compile(r"[\x21-\x2d\x2f-\x7e]{1,255}")
#: Up to the end of the year 9999.
_TIME: Final = re.compile(r"0|[1-9][0-9]{0,10}")
#: Signatures of one webhook that are looked at: a sender has one for each of its keys.
_MOST: Final = 16


@dataclass(frozen=True, slots=True)
class Signed:
    """What the headers of a webhook say: its id, when it was sent (epoch seconds), and its signatures."""

    id: str
    at: int
    signatures: tuple[bytes, ...]

    def counts_for(self, secrets: Sequence[str], body: bytes) -> bool:
        """Whether one of the secrets has signed it with this body. Each comparison takes the same time whatever differs."""
        try:
            text, at = body.decode(), datetime.fromtimestamp(self.at, UTC)
        except ValueError:  # no text that could be signed, or no time of the calendar
            return False
        expected = [Webhook(signing_key(secret)).sign(self.id, at, text).encode() for secret in secrets]
        return any(hmac.compare_digest(ours, theirs) for ours in expected for theirs in self.signatures)


def signed(headers: Mapping[str, Sequence[str]]) -> Signed:
    """What the headers say, by their names in lower case.

    Raises: `Unauthenticated` if one is missing, there twice, or says nothing."""
    values = [headers.get(name, ()) for name in (ID_HEADER, TIME_HEADER, SIGNATURE_HEADER)]
    if any(len(value) != 1 for value in values):
        raise Unauthenticated(
            f"Send each of the headers {ID_HEADER}, {TIME_HEADER} and {SIGNATURE_HEADER} once (Standard Webhooks).",
            CODE,
        )
    (id_,), (at,), (signatures,) = values
    if not _ID.fullmatch(id_):
        raise Unauthenticated(
            f"{ID_HEADER} must be 1 to 255 printable ASCII characters without spaces and full stops.", CODE
        )
    if not _TIME.fullmatch(at):
        raise Unauthenticated(f"{TIME_HEADER} must be the time of sending in epoch seconds, such as 1767225600.", CODE)
    return Signed(id_, int(at), tuple(part.encode("latin-1", "replace") for part in signatures.split()[:_MOST]))


def check_time(webhook: Signed, now: float) -> None:
    """Returns if a webhook that was signed is of now (epoch seconds).

    Raises: `Unauthenticated` if its time is more than ``TOLERANCE_S`` from it."""
    if abs(now - webhook.at) > TOLERANCE_S:
        raise Unauthenticated(
            f"The webhook's time is more than {TOLERANCE_S} s from ours; sign it anew when it is sent again, and set the "
            "sender's clock.",
            "stale_webhook",
        )
