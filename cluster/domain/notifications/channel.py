"""Channels: where notifications go. What is secret of one is a credential of the workspace, which it names."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final, Self

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import IDENTITY, LogTexts

MOST_CHANNELS: Final = 100
MOST_RECIPIENTS: Final = 50
#: Bytes of a key of Standard Webhooks.
KEY_BYTES: Final = (24, 64)
LOG_TEXTS: LogTexts = dict.fromkeys(("channel", "rule", "notification_id", "erasure", "push_id", "task_id"), IDENTITY)

_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_PREFIX: Final = "whsec_"


class ChannelKind(StrEnum):
    WEBHOOK = "webhook"
    SLACK = "slack"
    TEAMS = "teams"
    EMAIL = "email"


class MailTls(StrEnum):
    """``starttls``: the connection begins without TLS and goes on with it, or not at all. ``tls``: from the first byte on."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where mail is handed in. ``user``: logs in with the channel's credential as password."""

    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    tls: MailTls = MailTls.STARTTLS
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """``credential``: of a webhook the key that signs, of Slack and Teams the URL, of e-mail the password. Times in epoch
    seconds."""

    workspace: str
    name: str
    kind: ChannelKind
    principal: str
    changed_at: float
    credential: str | None = None
    url: str | None = None
    mail: MailServer | None = None

    def target(self) -> dict[str, Any]:
        """What is stored beside name and kind."""
        return {"url": self.url, "mail": None if self.mail is None else asdict(self.mail)}

    @classmethod
    def from_target(cls, target: dict[str, Any], **parts: Any) -> Self:
        """The channel with what `target` has made."""
        mail = target["mail"]
        if mail is not None:
            mail = MailServer(**{**mail, "tls": MailTls(mail["tls"]), "recipients": tuple(mail["recipients"])})
        return cls(url=target["url"], mail=mail, **parts)


#: The fields that each kind needs, and those that it may have.
_NEEDS: Final = {
    ChannelKind.WEBHOOK: ({"url", "credential"}, {"url", "credential"}),
    ChannelKind.SLACK: ({"credential"}, {"credential"}),
    ChannelKind.TEAMS: ({"credential"}, {"credential"}),
    ChannelKind.EMAIL: (
        {"host", "sender", "recipients"},
        {"host", "port", "sender", "recipients", "tls", "user", "credential"},
    ),
}


def check_fields(kind: ChannelKind, given: set[str]) -> None:
    """Returns if these fields are those of a channel of this kind.

    Raises: `InvalidRequest` if one is missing, or means nothing there."""
    needs, allowed = _NEEDS[kind]
    if missing := sorted(needs - given):
        raise InvalidRequest(f"A channel of kind {kind} needs {', '.join(missing)}.", "invalid_channel")
    if odd := sorted(given - allowed):
        raise InvalidRequest(f"A channel of kind {kind} takes no {', '.join(odd)}; leave it out.", "invalid_channel")
    if len({"user", "credential"} & given) == 1 and kind is ChannelKind.EMAIL:
        raise InvalidRequest("user and credential (the password) belong together; give both.", "invalid_channel")


def check_mail(mail: MailServer) -> None:
    """Returns if mail can be handed in so.

    Raises: `InvalidRequest` if an address is none, or a password would travel without TLS."""
    for what, address in (("sender", mail.sender), *(("recipients", address) for address in mail.recipients)):
        if not _ADDRESS.fullmatch(address):
            raise InvalidRequest(f"{what} must be addresses such as ops@example.com, in ASCII.", "invalid_channel")
    if mail.user is not None and mail.tls is MailTls.NONE:
        raise InvalidRequest("A password is not sent without TLS; take tls starttls or tls.", "invalid_channel")


def signing_key(secret: str) -> bytes:
    """The key of a webhook's signatures, as Standard Webhooks write it: base64 of 24 to 64 bytes, behind ``whsec_`` or not.

    Raises: `InvalidRequest` if the secret is none."""
    text = secret.strip().removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        key = b""
    least, most = KEY_BYTES
    if not least <= len(key) <= most:
        raise InvalidRequest(
            f"The credential of a webhook must be base64 of {least} to {most} random bytes; `openssl rand -base64 32` makes it.",
            "invalid_webhook_key",
        )
    return key
