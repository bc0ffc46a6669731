"""``aragora-cp erase``: deletes for good what people and agents wrote, and says which copies are left to delete."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, agreed, call, given, print_json
from cluster.cli.output import console, errors, plain


def erase(
    workspace: Annotated[str | None, typer.Option(help="Everything of this workspace.")] = None,
    task: Annotated[str | None, typer.Option(help="One task with its replays, or one deliberation, by its id.")] = None,
    subject: Annotated[
        str | None, typer.Option(help="What was submitted with this `subject` in its metadata or context.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Erase payloads, results, errors, journals and the words of the log. It cannot be undone; the audit still verifies.

    A run that broke off goes on when you repeat it.

    \f
    Raises: `BadParameter` unless exactly one of the three is given, or in a pipe without --yes; `Abort` if you do not agree,
    `Conflict` while something of it has not ended.
    """
    target = given(workspace=workspace, task_id=task, subject=subject)
    if len(target) != 1:
        raise typer.BadParameter("Give exactly one of --workspace, --task and --subject.")
    if not (dry_run or yes):
        agreed("This deletes for good what people and agents wrote.")
    answer = _call(target, dry_run, None)
    while not answer["complete"]:
        if not as_json:
            errors.print(_counts(answer))
        answer = _call(target, dry_run, answer["next_cursor"])
    if as_json:
        print_json(answer)
        return
    console.print(("Would be erased: " if dry_run else "Erased: ") + _counts(answer))
    if not dry_run:
        console.print("Not reached, for you to see to:")
        for copy in answer["not_reached"]:
            console.print(f"- {plain(copy)}")


def _call(target: dict[str, Any], dry_run: bool, cursor: str | None) -> dict[str, Any]:
    found: dict[str, Any] = call("POST", "/erasures", target | {"dry_run": dry_run} | given(cursor=cursor))
    return found


def _counts(answer: dict[str, Any]) -> str:
    erased = answer["erased"]
    first = ("tasks", "deliberations", "schedules", "hooks", "workflows")
    # The others in the order of the server, which may be of another version.
    names = (*first, *(name for name in erased if name not in first))
    return ", ".join(f"{erased.get(name, 0)} {name.replace('_', ' ')}" for name in names)
