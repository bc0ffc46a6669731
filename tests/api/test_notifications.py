"""Notifications over the API and the command line: what is refused, what is shown to whom, and a test that arrives."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from actors import notifications
from actors.notifications import NotificationKeeper
from cluster.cli.main import app
from cluster.domain.access.permissions import ALL, Permission
from cluster.domain.notifications.channel import MOST_CHANNELS
from cluster.domain.notifications.events import EVENT_TYPES
from cluster.process.clock import SystemClock
from tests.support.api import Api, in_thread
from tests.support.changes import MAIL
from tests.support.notifications import KEY, channel_notifier, receiver
from tests.support.principals import TokenTable, bearer, principal
from tests.support.task_api import TaskApi

PAGE = Path(__file__).parents[2] / "docs" / "notifications.md"
HOOK = {"name": "hook", "kind": "webhook", "credential": "key"}
CHANNELS, RULES = "/notifications/channels", "/notifications/rules"


async def run(api: Api, *words: str, code: int = 0, given: str | None = None) -> str:
    environment = {"ARAGORA_API_URL": api.url, "COLUMNS": "200"}
    result = await in_thread(CliRunner().invoke, app, list(words), env=environment, input=given)
    assert result.exit_code == code, result.output
    return str(result.output)


@asynccontextmanager
async def sending(api: Api) -> AsyncIterator[None]:
    """What queues and sends, with its loops."""
    clock = SystemClock()
    keys = api.settings.sealing_keys()
    read = api.stores.credentials(keys).read
    notifier = channel_notifier(api.stores, clock.now, read=read)
    keeper = NotificationKeeper(
        notifications=api.stores.notifications,
        pushes=api.stores.pushes(keys),
        region=api.stores.region,
        notifier=notifier,
        doorbell=api.resources.doorbell,
        clock=clock,
    )
    await keeper.start()
    yield
    await keeper.stop()
    await notifier.close()


async def test_what_is_urgent_is_told_when_it_is_rung_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "LOOK_S", 3600.0)
    async with receiver() as it, sending(api):
        await run(api, "credentials", "set", "key", given=KEY)
        await api.post(CHANNELS, {"name": "hook", "kind": "webhook", "url": it.url, "credential": "key"})
        await api.post(RULES, {"name": "bad", "events": ["task.*"], "severity": "error", "channels": ["hook"]})
        tasks = TaskApi(api)
        await tasks.agent("a1")
        await tasks.submit(target_agent="a1", max_retries=0)
        await tasks.fail(await tasks.claim_one("a1"))
        await it.heard(1)
        await api.post(f"{CHANNELS}/hook/test", {})
        await it.heard(2)


async def test_a_user_is_told_of_a_task_that_failed(api: Api) -> None:
    async with receiver() as it, sending(api):
        await run(api, "credentials", "set", "key", given=KEY)
        await run(
            api, "notifications", "channels", "set", "hook", "--kind", "webhook", "--url", it.url, "--credential", "key"
        )
        tested = json.loads(await run(api, "notifications", "channels", "test", "hook", "--json"))
        assert (tested["status"], tested["event"]) == ("delivered", "notification.test")
        await run(
            api, "notifications", "rules", "set", "bad", "--event", "task.*", "--severity", "error", "--channel", "hook"
        )
        tasks = TaskApi(api)
        await tasks.agent("a1")
        task_id = await tasks.submit(payload={"secret": "planted"}, target_agent="a1", max_retries=0)
        await tasks.fail(await tasks.claim_one("a1"), error="planted too")
        await it.heard(2)
        shown = await run(api, "notifications", "list")
        stats = await api.get("/notifications/stats")
    _, headers, body = it.got[1]
    # As the page has it, with the key as somebody may have kept it.
    (verified,) = re.findall(r"```python client\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {"key": KEY.removeprefix("whsec_"), "body": body, "headers": dict(headers)}
    exec(verified, names)
    event = names["event"]
    assert (event["data"]["entity"], event["data"]["rule"], event["data"]["severity"]) == (task_id, "bad", "error")
    assert b"planted" not in body
    assert task_id in shown
    assert stats["by_channel"].keys() == {"hook"}
    assert stats["channels_configured"] == 1
    assert stats["total_sent"] + stats["pending"] == 2


async def test_the_examples_of_the_page_run(api: Api) -> None:
    page = PAGE.read_text().replace("\\\n", " ")
    blocks = re.findall(r"```sh run\n(.*?)```", page, re.DOTALL)
    for line in "".join(blocks).strip().splitlines():
        piped, _, command = line.rpartition(" | ")
        given = shlex.split(piped)[-1] if "printf" in piped else KEY
        output = await run(api, *shlex.split(command)[1:], given=given)
    assert "mail set" in output
    assert "3 channels" in await run(api, "notifications", "stats")
    listed = await run(api, "notifications", "channels", "list")
    assert "hooks.slack.com" not in listed
    for event in EVENT_TYPES:
        assert f"| `{event.name}` | {event.severity} | {event.title.format('…')} |" in page


ODD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"kind": "pigeon"}, "invalid_request"),
    ({"url": None}, "invalid_channel"),
    ({"url": "ftp://127.0.0.1/"}, "invalid_endpoint"),
    ({"url": "http://169.254.169.254/latest"}, "endpoint_forbidden"),
    ({"url": "http://user:pass@127.0.0.1/"}, "invalid_channel"),
    ({"url": "http://"}, "invalid_endpoint"),
    ({"credential": None}, "invalid_channel"),
    ({"credential": "nobody"}, "credential_missing"),
    ({"credential": "weak"}, "invalid_webhook_key"),
    ({"host": "mail.example.com"}, "invalid_channel"),
    ({"name": "a/b"}, "invalid_id"),
    ({"odd": 1}, "unknown_field"),
    ({"kind": "slack", "url": None, "credential": "weak"}, "invalid_credential"),
    ({"kind": "slack", "url": None, "credential": "inside"}, "endpoint_forbidden"),
)


async def test_a_channel_that_cannot_be_is_refused(api: Api) -> None:
    for name, secret in (("key", KEY), ("weak", "a weak secret"), ("inside", "http://10.1.2.3/services/T000")):
        await api.post("/credentials", {"name": name, "secret": secret})
    good = {**HOOK, "url": "http://127.0.0.1:1/"}
    assert (await api.call("POST", CHANNELS, good)).status_code == 201
    for body, code in ODD:
        given = {name: value for name, value in {**good, **body}.items() if value is not None}
        answer = await api.call("POST", CHANNELS, given)
        assert (answer.status_code, answer.json()["code"]) == (400, code), (body, answer.text)
        assert "weak secret" not in answer.text
        assert "T000" not in answer.text


NIGHT = {"start": "22:00", "end": "07:00"}


async def test_rules_and_bounds_are_checked(api: Api) -> None:
    await api.post(CHANNELS, {"name": "mail", **MAIL})
    rule = {"name": "r", "events": ["task.failed"], "channels": ["mail"]}
    assert (await api.post(RULES, rule))["severity"] == "info"
    for odd, status, code in (
        ({"events": ["task.fail"]}, 400, "unknown_event"),
        ({"events": []}, 400, "invalid_request"),
        ({"channels": ["absent"]}, 404, "channel_not_found"),
        ({"severity": "loud"}, 400, "invalid_request"),
        ({"repeat_after_seconds": -1}, 400, "invalid_request"),
        ({"digest_seconds": 59}, 400, "invalid_request"),
        ({"digest_seconds": 60, "repeat_after_seconds": 60}, 400, "digest_and_repeats"),
        ({"quiet": {"start": "22:00"}}, 400, "invalid_request"),
        ({"quiet": {"start": "24:00", "end": "07:00"}}, 400, "invalid_request"),
        ({"quiet": {**NIGHT, "timezone": "Mars/Base"}}, 400, "invalid_timezone"),
        ({"quiet": {**NIGHT, "days": ["monday"]}}, 400, "invalid_request"),
        ({"quiet": {**NIGHT, "days": []}}, 400, "invalid_request"),
        ({"quiet": {**NIGHT, "odd": 1}}, 400, "unknown_field"),
    ):
        answer = await api.call("POST", RULES, rule | odd)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    quiet = {**NIGHT, "timezone": "Europe/Berlin", "days": ["sun", "sat"], "unless": "error"}
    made = await api.post(RULES, rule | {"digest_seconds": 900, "quiet": quiet})
    assert (made["digest_seconds"], made["quiet"]) == (900, {**quiet, "days": ["sat", "sun"]})
    assert (await api.get(RULES))["rules"] == [made]
    assert "did you mean task.failed?" in (await api.call("POST", RULES, rule | {"events": ["task.fail"]})).text
    for n in range(MOST_CHANNELS - 1):
        await api.post(CHANNELS, {"name": f"mail-{n}", **MAIL})
    answer = await api.call("POST", CHANNELS, {"name": "one-more", **MAIL})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_channels")
    await api.post(CHANNELS, {"name": "mail", **MAIL, "recipients": ["c@example.com"]})
    found = await api.get(CHANNELS)
    assert (found["total"], found["channels"][0]["recipients"]) == (MOST_CHANNELS, ["c@example.com"])


async def test_what_is_absent_is_404_and_only_the_dead_are_replayed(api: Api) -> None:
    for method, path in (
        ("DELETE", f"{CHANNELS}/absent"),
        ("POST", f"{CHANNELS}/absent/test"),
        ("DELETE", f"{RULES}/absent"),
        ("GET", "/notifications/absent"),
        ("POST", "/notifications/absent/replay"),
    ):
        assert (await api.call(method, path)).status_code == 404, path
    await api.post(CHANNELS, {"name": "mail", **MAIL})
    made = await api.post(f"{CHANNELS}/mail/test", headers={"Idempotency-Key": "k"})
    again = await api.post(f"{CHANNELS}/mail/test", headers={"Idempotency-Key": "k"})
    assert made == again
    answer = await api.call("POST", f"/notifications/{made['notification_id']}/replay")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_dead")


async def test_pages_are_whole_and_filters_choose(api: Api) -> None:
    await api.post(CHANNELS, {"name": "mail", **MAIL})
    await api.post(CHANNELS, {"name": "other", **MAIL})
    made = [(await api.post(f"{CHANNELS}/mail/test"))["notification_id"] for _ in range(5)]
    await api.post(f"{CHANNELS}/other/test")
    pages, cursor = [], ""
    while cursor is not None:
        found = await api.get(f"/notifications?channel=mail&status=pending&limit=2{cursor and '&cursor=' + cursor}")
        assert found["total"] == 5
        pages += [each["notification_id"] for each in found["notifications"]]
        cursor = found["next_cursor"]
    assert pages == made[::-1]
    assert (await api.get("/notifications?status=dead"))["notifications"] == []
    assert (await api.call("GET", "/notifications?status=odd")).status_code == 400


async def test_addresses_and_credentials_take_permissions_of_their_own(api: Api) -> None:
    await api.post("/credentials", {"name": "key", "secret": KEY})
    hook = {**HOOK, "url": "http://127.0.0.1:1/"}
    limited = principal("limited", "default", ALL - {Permission.CREDENTIALS_USE})
    viewer = principal("viewer", "default", {Permission.NOTIFICATIONS_READ})
    api.app.state.resolver = TokenTable({"limited": limited, "viewer": viewer})
    refused = await api.call("POST", CHANNELS, hook, headers=bearer("limited"))
    assert refused.status_code == 403
    assert (await api.call("POST", CHANNELS, {"name": "mail", **MAIL}, headers=bearer("limited"))).status_code == 201
    (shown,) = (await api.call("GET", CHANNELS, headers=bearer("viewer"))).json()["channels"]
    assert shown.keys() & {"url", "host", "recipients", "sender", "user"} == set()
    assert shown["kind"] == "email"
