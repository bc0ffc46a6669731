"""When a notification is tried again, and when it is given up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.notifications.channel import (
    ChannelKind,
    MailServer,
    MailTls,
    check_fields,
    check_mail,
    signing_key,
)
from cluster.domain.notifications.delivery import (
    LONGEST_WAIT_S,
    MOST_ATTEMPTS,
    DeliveryStatus,
    NotTaken,
    Taken,
    settled,
)
from tests.support.samples import NOW
from tests.unit.domain.notifications.test_rules import notification


def test_waits_grow_up_to_an_hour_and_the_last_attempt_gives_up() -> None:
    found, waits = notification(attempts=1), []
    while True:
        after = settled(found, NotTaken("no"), NOW, 0.5)
        if after.status is not DeliveryStatus.PENDING:
            break
        assert after.next_at is not None
        waits.append(after.next_at - NOW)
        found = replace(after, attempts=after.attempts + 1)
    assert waits[:4] == [5.0, 15.0, 45.0, 135.0]
    assert max(waits) == LONGEST_WAIT_S
    assert len(waits) == MOST_ATTEMPTS - 1
    assert (after.status, after.next_at, after.ended_at, after.error) == (DeliveryStatus.DEAD, None, NOW, "no")


@pytest.mark.parametrize(("chance", "wait_s"), [(0.0, 4.0), (0.5, 5.0), (1.0, 6.0)])
def test_chance_moves_a_wait_by_a_fifth(chance: float, wait_s: float) -> None:
    assert settled(notification(attempts=1), NotTaken("no"), 0.0, chance).next_at == pytest.approx(wait_s)


@pytest.mark.parametrize(("asked", "wait_s"), [(1.0, 5.0), (60.0, 60.0), (1e9, LONGEST_WAIT_S)])
def test_a_receiver_that_wants_to_be_left_alone_is(asked: float, wait_s: float) -> None:
    assert settled(notification(attempts=1), NotTaken("no", retry_after_s=asked), 0.0, 0.5).next_at == wait_s


def test_what_cannot_end_otherwise_is_given_up_at_once() -> None:
    after = settled(notification(attempts=1), NotTaken("gone", is_final=True), NOW, 0.5)
    assert (after.status, after.error) == (DeliveryStatus.DEAD, "gone")


def test_what_is_taken_has_no_error_any_more() -> None:
    after = settled(notification(attempts=3, error="no"), Taken(), NOW, 0.5)
    assert (after.status, after.error, after.ended_at) == (DeliveryStatus.DELIVERED, None, NOW)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ChannelKind.WEBHOOK, {"url"}),
        (ChannelKind.WEBHOOK, {"url", "credential", "host"}),
        (ChannelKind.SLACK, set()),
        (ChannelKind.SLACK, {"credential", "url"}),
        (ChannelKind.TEAMS, {"credential", "tls"}),
        (ChannelKind.EMAIL, {"host", "sender"}),
        (ChannelKind.EMAIL, {"host", "sender", "recipients", "user"}),
        (ChannelKind.EMAIL, {"host", "sender", "recipients", "credential"}),
    ],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, set) else str(value),
)
def test_fields_that_are_not_those_of_the_kind_are_refused(kind: ChannelKind, fields: set[str]) -> None:
    with pytest.raises(InvalidRequest):
        check_fields(kind, fields)


@pytest.mark.parametrize(
    "parts",
    [
        {"sender": "nobody"},
        {"sender": "a@b\r\nBcc: x@y"},
        {"recipients": ("ok@example.com", "Ann <ann@example.com>")},
        {"user": "u", "tls": MailTls.NONE},
    ],
    ids=str,
)
def test_mail_that_could_not_be_handed_in_is_refused(parts: dict[str, Any]) -> None:
    given: dict[str, Any] = {"host": "h", "port": 25, "sender": "a@example.com", "recipients": ("b@example.com",)}
    check_mail(MailServer(**given))
    with pytest.raises(InvalidRequest):
        check_mail(MailServer(**{**given, **parts}))


@pytest.mark.parametrize("secret", ["", "whsec_", "short", "not base64!" * 4, "whsec_" + "A" * 100, "ü" * 40])
def test_a_signing_key_is_base64_of_enough_bytes(secret: str) -> None:
    with pytest.raises(InvalidRequest, match="base64"):
        signing_key(secret)


def test_a_signing_key_may_have_its_prefix_and_its_padding() -> None:
    assert signing_key("whsec_" + "QUJD" * 10) == signing_key("QUJD" * 10 + "\n") == b"ABC" * 10
    assert signing_key("QUJD" * 10 + "QQ") == signing_key("QUJD" * 10 + "QQ==")
