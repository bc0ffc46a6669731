"""What channels are told: identities, states, times and numbers. What a person or an agent wrote never leaves by a channel."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final

from standardwebhooks import Webhook

from cluster.domain.notifications.channel import MailServer
from cluster.domain.notifications.delivery import Notification
from cluster.domain.notifications.digest import MOST_TOLD, digest_title, left_out
from cluster.domain.notifications.events import DIGEST, TITLES

#: Events of a digest that a message in a chat tells one by one, and how much text a section of Slack takes.
MOST_IN_CHAT: Final = 10
MOST_CHARS_OF_SLACK: Final = 3000
#: What Slack takes for markup.
_SLACK: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def title(notification: Notification) -> str:
    """On one line: it is the subject of mail."""
    if notification.event == DIGEST:
        text = digest_title(notification.rule, notification.data)
    else:
        text = TITLES[notification.event].format(notification.entity)
    return _on_a_line(text)


def _on_a_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _facts(notification: Notification) -> list[tuple[str, str]]:
    return [
        ("Event", notification.event),
        ("Severity", notification.severity.value),
        ("Workspace", notification.workspace),
        ("Time", _time(notification.at)),
        ("Log row", str(notification.seq)),
        ("Notification", notification.id),
    ]


def _told(notification: Notification, most: int) -> list[str]:
    """A line for each of the first events of a digest, and one for the others; none for anything else."""
    if notification.event != DIGEST:
        return []
    events = notification.data["events"]
    lines = [f"{_time(event['at'])} {event['severity']}: {_on_a_line(event['title'])}" for event in events[:most]]
    others = left_out(notification.data) + len(events[most:])
    return [*lines, f"and {others} more"] if others else lines


def webhook_body(notification: Notification) -> bytes:
    """The body that Standard Webhooks recommend: a type, the time of the event, and data."""
    return _json(
        {
            "type": notification.event,
            "timestamp": datetime.fromtimestamp(notification.at, UTC).isoformat(timespec="microseconds"),
            "data": {
                "title": title(notification),
                "severity": notification.severity.value,
                "workspace": notification.workspace,
                "entity": notification.entity,
                "seq": notification.seq,
                "rule": notification.rule,
                "details": dict(notification.data),
            },
        }
    )


def webhook_headers(notification_id: str, body: bytes, keys: Sequence[bytes], now: float) -> dict[str, str]:
    """The headers of Standard Webhooks, with a signature by each key. ``now``: of this attempt, in epoch seconds."""
    # `sign` takes the wall time of any datetime for UTC, so it gets one in UTC.
    at = datetime.fromtimestamp(int(now), UTC)
    signatures = [Webhook(key).sign(notification_id, at, body.decode()) for key in keys]
    return {
        "content-type": "application/json",
        "webhook-id": notification_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(signatures),
    }


def slack_body(notification: Notification) -> bytes:
    """A message of an incoming webhook."""
    facts = dict(_facts(notification))
    text = f"*{title(notification).translate(_SLACK)}*"
    details = f"{facts['Severity']} · {facts['Event']} · {facts['Workspace'].translate(_SLACK)} · {facts['Time']}"
    told = "\n".join(_told(notification, MOST_IN_CHAT)).translate(_SLACK)
    blocks = [
        {"type": "section", "text": {"type": "mrkdwn", "text": text}},
        *([{"type": "section", "text": {"type": "mrkdwn", "text": told[:MOST_CHARS_OF_SLACK]}}] if told else []),
        {"type": "context", "elements": [{"type": "mrkdwn", "text": f"{details} · {facts['Notification']}"}]},
    ]
    return _json({"text": f"{text} ({facts['Severity']})", "blocks": blocks})


def teams_body(notification: Notification) -> bytes:
    """A message with a card, as a Teams workflow that was asked to post cards takes it."""
    heading = {"type": "TextBlock", "text": title(notification), "weight": "Bolder", "size": "Medium", "wrap": True}
    facts = [{"title": name, "value": value} for name, value in _facts(notification)]
    told = [{"type": "TextBlock", "text": line, "wrap": True} for line in _told(notification, MOST_IN_CHAT)]
    card = {"type": "AdaptiveCard", "version": "1.4", "body": [heading, *told, {"type": "FactSet", "facts": facts}]}
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return _json({"type": "message", "attachments": [attachment]})


def mail(notification: Notification, server: MailServer, now: float) -> EmailMessage:
    """The e-mail; its ``Message-ID`` is the same at every attempt."""
    message = EmailMessage()
    message["Subject"] = f"[{notification.severity}] {title(notification)}"
    message["From"] = server.sender
    message["To"] = ", ".join(server.recipients)
    message["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    message["Message-ID"] = f"<{notification.id}@{server.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    told = _told(notification, MOST_TOLD)
    facts = (f"{name}: {value}" for name, value in _facts(notification))
    lines = [title(notification), "", *told, *([""] if told else []), *facts]
    message.set_content("\n".join(lines) + "\n")
    return message


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
