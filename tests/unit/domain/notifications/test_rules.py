"""Which events go to which channels, and what is said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import LogRow
from cluster.domain.deliberation.sla import SlaLevel
from cluster.domain.notifications.channel import MailServer, signing_key
from cluster.domain.notifications.delivery import Notification, Queued
from cluster.domain.notifications.events import EVENT_TYPES, TITLES, Severity, event_of
from cluster.domain.notifications.messages import mail, slack_body, teams_body, webhook_body, webhook_headers
from cluster.domain.notifications.rules import RepeatBy, Rule, check_events, notifications_of
from tests.support.notifications import KEY, new_rule
from tests.support.samples import NOW
from tests.unit.domain.test_log_texts import WORDS

ROOT = Path(__file__).parents[4]
MAIL_SERVER = MailServer(host="h", port=1, sender="a@example.com", recipients=("b@example.com",))


def row(seq: int = 5, kind: str = "task.failed", entity: str = "task_1", **data: Any) -> LogRow:
    private = json.dumps({"salt": "s", "words": {"error": WORDS}})
    columns: dict[str, Any] = {
        "attempt": None,
        "principal": "p",
        "digest": seq.to_bytes(4, "big"),
        "private_json": private,
        "v": 2,
    }
    return LogRow(seq=seq, at=NOW, workspace="w", kind=kind, entity=entity, data=data, **columns)


def queued(*rules: Rule, rows: tuple[LogRow, ...] = (row(),), now: float = NOW + 1) -> list[Queued]:
    return notifications_of({"w": rules}, rows, now)


def notification(**parts: Any) -> Notification:
    columns: dict[str, Any] = {"seq": 7, "at": NOW, "data": {"agent_id": "a1"}, "created_at": NOW}
    identity = {"id": "ntf_1", "workspace": "w", "channel": "hook", "rule": "all", "entity": "task_1"}
    return Notification(**{**identity, **columns, "event": "task.failed", "severity": Severity.ERROR, **parts})


def test_each_event_is_a_row_that_our_code_makes() -> None:
    rooms = (ROOT / room for room in ("cluster", "actors", "serve_app"))
    code = "".join(
        file.read_text() for room in rooms for file in room.rglob("*.py") if "notifications" not in str(file)
    )
    for kind in {event.kind for event in EVENT_TYPES}:
        # Kinds of levels are made of the level's name.
        assert f'"{kind}"' in code or kind.removeprefix("deliberation.sla_") in set(SlaLevel), kind
    assert len({event.name for event in EVENT_TYPES}) == len(EVENT_TYPES)
    for event in EVENT_TYPES:
        data = {} if event.field is None else {event.field: event.value}
        assert event_of(event.kind, data) is event
        assert "task_1" in TITLES[event.name].format("task_1")


def test_a_row_with_another_state_is_no_event() -> None:
    assert event_of("agent.status_changed", {"new_status": "starting"}) is None
    assert event_of("agent.status_changed", {}) is None
    assert event_of("task.claimed", {}) is None


@pytest.mark.parametrize(
    ("parts", "chosen"),
    [
        ({"events": ("*",)}, True),
        ({"events": ("task.*",)}, True),
        ({"events": ("task.failed",)}, True),
        ({"events": ("task.completed", "task.failed")}, True),
        ({"events": ("task.completed",)}, False),
        ({"events": ("agent.*",)}, False),
        ({"least": Severity.ERROR}, True),
        ({"least": Severity.CRITICAL}, False),
        ({"since": 4}, True),
        ({"since": 5}, False),
    ],
    ids=str,
)
def test_a_rule_chooses_by_event_severity_and_age(parts: dict[str, Any], chosen: bool) -> None:
    assert [item.channel for item in queued(new_rule(**parts))] == (["hook"] if chosen else [])


def test_a_channel_is_told_once_by_the_first_rule_by_name() -> None:
    rules = (new_rule("second", "hook", "other"), new_rule("first", "hook", repeat_after_s=60.0))
    found = queued(*rules)
    assert [(item.channel, item.rule, item.repeat_key is None) for item in found] == [
        ("hook", "first", False),
        ("other", "second", True),
    ]
    assert found[0].id != found[1].id
    assert [item.id for item in queued(*rules)] == [item.id for item in found], "a second look makes the same"


def test_another_row_is_another_notification() -> None:
    first, second = queued(new_rule(), rows=(row(5), row(6)))
    assert first.id != second.id


@pytest.mark.parametrize(("by", "same"), [(RepeatBy.ENTITY, False), (RepeatBy.EVENT, True)])
def test_what_repeats_an_event_is_chosen(by: RepeatBy, same: bool) -> None:
    rule = new_rule(repeat_after_s=60.0, repeat_by=by)
    first, second, again = queued(rule, rows=(row(5), row(6, entity="task_2"), row(7)))
    assert first.repeat_key == again.repeat_key is not None
    assert (first.repeat_key == second.repeat_key) is same
    (other,) = queued(rule, rows=(row(8, kind="task.timeout"),))
    assert other.repeat_key != first.repeat_key


@pytest.mark.parametrize("pattern", ["task.fail", "task", "tasks.*", "*.failed", "", "notification.test", "access.*"])
def test_an_event_that_there_is_not_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match="There is no event"):
        check_events(["task.failed", pattern])


def test_no_message_has_words_that_somebody_wrote() -> None:
    (item,) = queued(new_rule(), rows=(row(agent_id="a1"),))
    told = replace(notification(), data=item.data)
    texts = [body(told).decode() for body in (webhook_body, slack_body, teams_body)]
    texts.append(mail(told, MAIL_SERVER, NOW).as_string())
    for text in texts:
        assert WORDS not in text
        assert "task_1" in text
    assert json.loads(texts[0])["data"]["details"] == {"agent_id": "a1"}


def test_a_signature_verifies_for_each_key_and_for_no_other_body() -> None:
    keys = [KEY, "whsec_" + "QUJD" * 10]
    body = webhook_body(notification())
    headers = webhook_headers("ntf_1", body, [signing_key(key) for key in keys], datetime.now(UTC).timestamp())
    for key in keys:
        assert Webhook(key).verify(body, headers)["type"] == "task.failed"
    with pytest.raises(WebhookVerificationError):
        Webhook(keys[0]).verify(body + b" ", headers)


def test_slack_takes_no_markup_from_an_entity() -> None:
    found = json.loads(slack_body(notification(entity="<!channel> & <http://x|y>")))
    assert "<" not in found["text"]
    assert "&lt;!channel&gt; &amp; " in found["text"]


def test_a_subject_with_a_line_break_adds_no_header() -> None:
    message = mail(notification(entity="x\r\nBcc: c@example.com"), MAIL_SERVER, NOW)
    assert "Bcc" not in message
    assert message.as_bytes().count(b"\nBcc: ") <= 1  # in the text alone
