"""Bodies and answers about notifications. No answer has a secret: those are credentials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import Origin
from cluster.domain.base.zones import check_zone
from cluster.domain.notifications.channel import MOST_RECIPIENTS, Channel, ChannelKind, MailServer, MailTls
from cluster.domain.notifications.delivery import DeliveryStatus, Notification
from cluster.domain.notifications.events import Severity
from cluster.domain.notifications.messages import title
from cluster.domain.notifications.quiet import DAYS, QuietHours, minutes_of
from cluster.domain.notifications.rules import MOST_EVENTS, RepeatBy, Rule
from cluster.ports.notifications import Told
from serve_app.schemas.fields import MAX_SECONDS, ExactBody, Named, Text, Word

#: Where mail is handed in if the channel names no port: the submission port, or that of SMTP over TLS.
PORTS = {MailTls.STARTTLS: 587, MailTls.TLS: 465, MailTls.NONE: 25}
#: How long events may be gathered: from a minute to a week.
LEAST_DIGEST_S, MOST_DIGEST_S = 60.0, 7 * 86_400.0
TIME_OF_DAY = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Address = Annotated[Named, Field(min_length=3, max_length=320)]


class ChannelFields(ExactBody):
    """``credential``: of a ``webhook`` the key that signs (base64), of ``slack`` and ``teams`` the URL, of ``email`` the password
    of ``user``. ``url`` is a webhook's; the other fields are those of e-mail."""

    name: Word
    kind: ChannelKind
    credential: Word | None = None
    url: Text | None = Field(None, max_length=2048)
    host: Text | None = Field(None, min_length=1, max_length=253)
    port: int | None = Field(None, ge=1, le=65_535)
    sender: Address | None = None
    recipients: list[Address] | None = Field(None, min_length=1, max_length=MOST_RECIPIENTS)
    tls: MailTls | None = None
    user: Annotated[Named, Field(min_length=1, max_length=256)] | None = None

    def given(self) -> set[str]:
        """The fields that say where it is."""
        return {name for name, value in self if value is not None and name not in ("name", "kind")}

    def mail(self) -> MailServer | None:
        """Where mail is handed in; None for a channel of another kind."""
        if self.host is None or self.sender is None or self.recipients is None:
            return None
        tls = self.tls or MailTls.STARTTLS
        return MailServer(
            host=self.host,
            port=self.port or PORTS[tls],
            sender=self.sender,
            recipients=tuple(dict.fromkeys(self.recipients)),
            tls=tls,
            user=self.user,
        )

    def channel(self, asker: Origin, now: float) -> Channel:
        return Channel(
            workspace=asker.workspace,
            name=self.name,
            kind=self.kind,
            principal=asker.principal,
            changed_at=now,
            credential=self.credential,
            url=self.url,
            mail=self.mail(),
        )


class QuietFields(ExactBody):
    """From ``start`` until ``end`` (HH:MM by the clock of ``timezone``; the next day's if it is not later), beginning on ``days``
    (mon to sun; every day if they are left out). Events that are at least as grave as ``unless`` are told all the same."""

    start: Annotated[Word, Field(pattern=TIME_OF_DAY)]
    end: Annotated[Word, Field(pattern=TIME_OF_DAY)]
    timezone: Text = Field("UTC", max_length=100)
    days: list[Day] | None = Field(None, min_length=1, max_length=7)
    unless: Severity = Severity.CRITICAL

    def hours(self) -> QuietHours:
        """Raises: `InvalidRequest` if there is no such time zone."""
        check_zone(self.timezone)
        return QuietHours(
            start=minutes_of(self.start),
            end=minutes_of(self.end),
            timezone=self.timezone,
            days=tuple(sorted({DAYS.index(day) for day in self.days or DAYS})),
            unless=self.unless,
        )


class RuleFields(ExactBody):
    """``events``: names, ``group.*`` or ``*``; ``severity``: the least one. Within ``repeat_after_seconds`` after an event was
    told, the same event about the same thing (``entity``) or about anything (``event``) is only counted.
    ``digest_seconds``: for so long events are gathered and then told as one; ``quiet``: hours in which they are gathered until
    the hours end."""

    younger = frozenset({"digest_seconds", "quiet"})

    name: Word
    events: list[Word] = Field(min_length=1, max_length=MOST_EVENTS)
    severity: Severity = Severity.INFO
    channels: list[Word] = Field(min_length=1, max_length=20)
    repeat_after_seconds: float = Field(0.0, ge=0, le=MAX_SECONDS)
    repeat_by: RepeatBy = RepeatBy.ENTITY
    digest_seconds: float | None = Field(None, ge=LEAST_DIGEST_S, le=MOST_DIGEST_S)
    quiet: QuietFields | None = None

    def rule(self, asker: Origin, now: float) -> Rule:
        """Raises: `InvalidRequest` if there is no such time zone, or both repeats and a digest are asked for."""
        if self.digest_seconds is not None and self.repeat_after_seconds:
            raise InvalidRequest(
                "A digest counts repeats itself; give either digest_seconds or repeat_after_seconds.",
                "digest_and_repeats",
            )
        return Rule(
            workspace=asker.workspace,
            name=self.name,
            events=tuple(dict.fromkeys(self.events)),
            least=self.severity,
            channels=tuple(dict.fromkeys(self.channels)),
            principal=asker.principal,
            changed_at=now,
            repeat_after_s=self.repeat_after_seconds,
            repeat_by=self.repeat_by,
            digest_s=self.digest_seconds or 0.0,
            quiet=None if self.quiet is None else self.quiet.hours(),
        )


def channel_wire(channel: Channel) -> dict[str, Any]:
    mail = channel.mail
    return {
        "name": channel.name,
        "kind": channel.kind.value,
        "credential": channel.credential,
        "url": channel.url,
        "host": mail and mail.host,
        "port": mail and mail.port,
        "sender": mail and mail.sender,
        "recipients": None if mail is None else list(mail.recipients),
        "tls": mail and mail.tls.value,
        "user": mail and mail.user,
        "changed_at": channel.changed_at,
        "changed_by": channel.principal,
    }


def rule_wire(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "events": list(rule.events),
        "severity": rule.least.value,
        "channels": list(rule.channels),
        "repeat_after_seconds": rule.repeat_after_s,
        "repeat_by": rule.repeat_by.value,
        "digest_seconds": rule.digest_s or None,
        "quiet": rule.quiet and rule.quiet.to_json(),
        "changed_at": rule.changed_at,
        "changed_by": rule.principal,
    }


def notification_wire(notification: Notification) -> dict[str, Any]:
    return {
        "notification_id": notification.id,
        "channel": notification.channel,
        "rule": notification.rule,
        "event": notification.event,
        "severity": notification.severity.value,
        "title": title(notification),
        "entity": notification.entity,
        "seq": notification.seq,
        "event_at": notification.at,
        "created_at": notification.created_at,
        "status": notification.status.value,
        "attempts": notification.attempts,
        "repeats": notification.repeats,
        "next_attempt_at": notification.next_at,
        "ended_at": notification.ended_at,
        "last_error": notification.error,
    }


def stats_wire(told: Sequence[Told], channels: int, kept_days: float) -> dict[str, Any]:
    """Counts of the notifications that are kept. ``total_sent``: those that have ended, ``success_rate``: the share of them that
    was delivered, null if there are none."""
    by_channel = {of.channel: _counts(of) for of in told}
    whole = {name: sum(counts[name] for counts in by_channel.values()) for name in ("successful", "failed", "pending")}
    ended = whole["successful"] + whole["failed"]
    return {
        "total_sent": ended,
        **whole,
        "success_rate": whole["successful"] / ended if ended else None,
        "by_channel": by_channel,
        "channels_configured": channels,
        "kept_days": kept_days,
    }


def _counts(of: Told) -> dict[str, int]:
    delivered, dead = of.counts.get(DeliveryStatus.DELIVERED, 0), of.counts.get(DeliveryStatus.DEAD, 0)
    pending = of.counts.get(DeliveryStatus.PENDING, 0)
    return {"total_sent": delivered + dead, "successful": delivered, "failed": dead, "pending": pending}
