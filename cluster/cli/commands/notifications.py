"""``aragora-cp notifications``: who is told of what."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, call, given, path_segment, print_json
from cluster.cli.numbers import amount
from cluster.cli.output import console, counted, listing, plain, utc

app = typer.Typer(no_args_is_help=True, help="Notifications: channels, rules, and what was told to whom.")
channels = typer.Typer(no_args_is_help=True, help="Where notifications go: set, list, test, delete.")
rules = typer.Typer(no_args_is_help=True, help="Which events go to which channels: set, list, delete.")
app.add_typer(channels, name="channels")
app.add_typer(rules, name="rules")

#: How often the outcome of a test is looked at.
LOOK_S = 0.5


@app.command("list")
def list_notifications(
    status: Annotated[str | None, typer.Option(help="pending, delivered or dead.")] = None,
    channel: Annotated[str | None, typer.Option(help="Of this channel.")] = None,
    event: Annotated[str | None, typer.Option(help="Of this event.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: Json = False,
) -> None:
    """List what was told or is to be told, the newest first."""
    found = call("GET", "/notifications", **given(status=status, channel=channel, event=event), limit=limit)
    if as_json:
        print_json(found)
        return
    rows = (
        (
            each["notification_id"],
            utc(each["event_at"]),
            each["channel"],
            each["event"],
            each["entity"],
            each["status"],
            each["attempts"],
            each["repeats"],
            each["last_error"],
        )
        for each in found["notifications"]
    )
    head = ("notification", "event at (UTC)", "channel", "event", "of", "status", "attempts", "repeats", "last error")
    listing(head, rows)


@app.command()
def show(notification_id: str, as_json: Json = False) -> None:
    """Show one notification."""
    _show(call("GET", f"/notifications/{path_segment(notification_id)}"), as_json)


@app.command()
def replay(notification_id: str, as_json: Json = False) -> None:
    """Send a notification that was given up anew, under the same id."""
    _show(call("POST", f"/notifications/{path_segment(notification_id)}/replay"), as_json)


@app.command()
def stats(as_json: Json = False) -> None:
    """Show how many notifications were delivered, and how many were given up."""
    found = call("GET", "/notifications/stats")
    if as_json:
        print_json(found)
        return
    rate = "none has ended" if found["success_rate"] is None else f"{found['success_rate']:.1%} delivered"
    console.print(
        f"{found['successful']} delivered, {found['failed']} dead, {found['pending']} pending in {found['kept_days']:g} days "
        f"({rate}); {found['channels_configured']} channels"
    )
    names = ("successful", "failed", "pending")
    rows = ((channel, *(of[name] for name in names)) for channel, of in found["by_channel"].items())
    listing(("channel", "delivered", "dead", "pending"), rows)


@channels.command("set")
def set_channel(
    name: str,
    kind: Annotated[str, typer.Option(help="webhook, slack, teams or email.")],
    credential: Annotated[
        str | None,
        typer.Option(
            help="The credential: a webhook's signing key, the URL of Slack or Teams, the password of e-mail."
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Where a webhook is sent.")] = None,
    host: Annotated[str | None, typer.Option(help="The mail server.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Its port; 587, or as TLS has it.")] = None,
    sender: Annotated[str | None, typer.Option(help="The address that mail comes from.")] = None,
    recipient: Annotated[list[str] | None, typer.Option(help="Who gets it; may be given several times.")] = None,
    tls: Annotated[str | None, typer.Option(help="starttls (required, if left out), tls or none.")] = None,
    user: Annotated[str | None, typer.Option(help="Who logs in at the mail server.")] = None,
    as_json: Json = False,
) -> None:
    """Make a channel, or replace the one of this name."""
    where = given(
        credential=credential, url=url, host=host, port=port, sender=sender, recipients=recipient, tls=tls, user=user
    )
    channel = call("POST", "/notifications/channels", {"name": name, "kind": kind, **where})
    _done(channel, "set", as_json)


@channels.command("list")
def list_channels(as_json: Json = False) -> None:
    """List the channels of the workspace."""
    found = call("GET", "/notifications/channels")
    if as_json:
        print_json(found)
        return
    rows = (
        (channel["name"], channel["kind"], channel["credential"], utc(channel["changed_at"]), _where(channel))
        for channel in found["channels"]
    )
    listing(("channel", "kind", "credential", "changed (UTC)", "where"), rows)


@channels.command("test")
def send_test(
    name: str,
    wait: Annotated[float, amount("Seconds to wait for what comes of it; 0: do not wait.")] = 30.0,
    as_json: Json = False,
) -> None:
    """Send a test to a channel, and tell what came of it. Exit code 1 if it was not delivered in time.

    \f
    Raises: `Exit` with code 1 if it was not delivered.
    """
    found = call("POST", f"/notifications/channels/{path_segment(name)}/test")
    until = time.monotonic() + wait
    while found["status"] == "pending" and found["last_error"] is None and time.monotonic() < until:
        time.sleep(LOOK_S)
        found = call("GET", f"/notifications/{found['notification_id']}")
    _show(found, as_json)
    if wait and found["status"] != "delivered":
        raise typer.Exit(1)


@channels.command("delete")
def delete_channel(name: str) -> None:
    """Delete a channel; what waits for it is given up."""
    call("DELETE", f"/notifications/channels/{path_segment(name)}")
    console.print("deleted")


@rules.command("set")
def set_rule(
    name: str,
    event: Annotated[
        list[str], typer.Option(help="An event, such as task.failed, task.* or *; may be given several times.")
    ],
    channel: Annotated[list[str], typer.Option(help="A channel; may be given several times.")],
    severity: Annotated[str, typer.Option(help="The least one: info, warning, error or critical.")] = "info",
    repeat_after: Annotated[
        float, amount("Seconds after an event in which the same one is counted and not told; 0: tell each.")
    ] = 0.0,
    repeat_by: Annotated[
        str, typer.Option(help="entity: the same event about the same thing; event: about anything.")
    ] = "entity",
    digest: Annotated[
        float | None,
        amount("Seconds for which events are gathered and then told as one; left out: each is told at once."),
    ] = None,
    quiet: Annotated[
        str | None, typer.Option(help="Hours in which events are gathered until the hours end, as 22:00-07:00.")
    ] = None,
    quiet_zone: Annotated[
        str | None, typer.Option(help="Their time zone, such as Europe/Berlin; UTC if left out.")
    ] = None,
    quiet_day: Annotated[
        list[str] | None, typer.Option(help="A day on which they begin, mon to sun; may be given several times.")
    ] = None,
    quiet_unless: Annotated[
        str | None, typer.Option(help="Events from this severity on are told all the same: critical if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a rule, or replace the one of this name."""
    body = {
        "name": name,
        "events": event,
        "channels": channel,
        "severity": severity,
        "repeat_after_seconds": repeat_after,
        "repeat_by": repeat_by,
        **given(digest_seconds=digest, quiet=_quiet(quiet, timezone=quiet_zone, days=quiet_day, unless=quiet_unless)),
    }
    _done(call("POST", "/notifications/rules", body), "set", as_json)


@rules.command("list")
def list_rules(as_json: Json = False) -> None:
    """List the rules of the workspace."""
    found = call("GET", "/notifications/rules")
    if as_json:
        print_json(found)
        return
    rows = (
        (
            rule["name"],
            rule["severity"],
            ", ".join(rule["channels"]),
            rule["repeat_after_seconds"],
            ", ".join(rule["events"]),
        )
        for rule in found["rules"]
    )
    listing(("rule", "from", "channels", "repeats after (s)", "events"), rows)


@rules.command("delete")
def delete_rule(name: str) -> None:
    """Delete a rule; what is queued already is sent."""
    call("DELETE", f"/notifications/rules/{path_segment(name)}")
    console.print("deleted")


def _quiet(hours: str | None, **others: Any) -> dict[str, Any] | None:
    """Raises: `BadParameter` if the hours are none, or others are given without them."""
    if hours is None:
        if given(**others):
            raise typer.BadParameter("give the hours as well, as --quiet 22:00-07:00", param_hint="--quiet")
        return None
    start, dash, end = hours.partition("-")
    if not dash:
        raise typer.BadParameter("write the hours as 22:00-07:00", param_hint="--quiet")
    return {"start": start.strip(), "end": end.strip(), **given(**others)}


def _where(channel: dict[str, Any]) -> str:
    """Where it is; nothing for callers who may not see addresses."""
    recipients = ", ".join(channel.get("recipients") or ())
    return channel.get("url") or recipients


def _done(found: dict[str, Any], done: str, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        console.print(plain(f"{found['name']} {done}"))


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    why = f": {found['last_error']}" if found["last_error"] else ""
    console.print(plain(f"{found['notification_id']} {found['status']}, {counted(found['attempts'], 'attempt')}{why}"))
