"""``aragora-cp workspaces`` and ``aragora-cp members``: workspaces, and who has which role in them."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli.calls import Json, call, given, path_segment, print_json
from cluster.cli.listings import PageCursor, PageLimit, read_on
from cluster.cli.output import console, listing, plain

app = typer.Typer(no_args_is_help=True, help="Workspaces: create, suspend, delete.")
members_app = typer.Typer(no_args_is_help=True, help="Who has which role in a workspace.")

Subject = Annotated[str, typer.Argument(help="user:EMAIL, group:NAME, key:ID or agent:ID.")]
Workspace = Annotated[str, typer.Argument(help="Its id, or * for all workspaces.")]
Role = Annotated[
    str, typer.Argument(help="viewer, submitter, operator, agent, auditor, admin or one of the workspace.")
]


@app.command("list")
def list_(limit: PageLimit = 1000, cursor: PageCursor = None, as_json: Json = False) -> None:
    """List the workspaces that you may manage."""
    found = call("GET", "/workspaces", limit=limit, **given(cursor=cursor))
    if as_json:
        print_json(found)
        return
    rows = (
        (workspace["id"], workspace["state"], workspace.get("zone") or "", workspace["name"])
        for workspace in found["workspaces"]
    )
    listing(("id", "state", "zone", "name"), rows)
    read_on(found, "workspaces")


@app.command()
def create(
    workspace: Annotated[str, typer.Argument(help="Its id.")],
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    zone: Annotated[str | None, typer.Option(help="The zone that it is resident in, for good.")] = None,
) -> None:
    """Create a workspace."""
    call("POST", "/workspaces", {"id": workspace} | given(name=name, zone=zone))
    console.print(f"Created {plain(workspace)}.")


@app.command()
def suspend(workspace: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Suspend a workspace: it can be read, what runs may end, and nothing new starts until it is resumed."""
    call("PATCH", f"/workspaces/{path_segment(workspace)}", {"state": "suspended"})
    console.print(f"Suspended {plain(workspace)}.")


@app.command()
def resume(workspace: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Resume a workspace that was suspended."""
    call("PATCH", f"/workspaces/{path_segment(workspace)}", {"state": "active"})
    console.print(f"Resumed {plain(workspace)}.")


@app.command()
def delete(workspace: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Delete a workspace for good. Its open tasks and deliberations are cancelled."""
    call("DELETE", f"/workspaces/{path_segment(workspace)}")
    console.print(f"Deleted {plain(workspace)}.")


@members_app.command("list")
def list_members(
    workspace: Workspace, limit: PageLimit = 1000, cursor: PageCursor = None, as_json: Json = False
) -> None:
    """List who has which role in a workspace."""
    found = call("GET", f"/workspaces/{path_segment(workspace)}/members", limit=limit, **given(cursor=cursor))
    if as_json:
        print_json(found)
        return
    rows = ((member["subject"], member["role"], member["created_by"]) for member in found["members"])
    listing(("subject", "role", "given by"), rows)
    read_on(found, "members")


@members_app.command()
def add(workspace: Workspace, subject: Subject, role: Role) -> None:
    """Give a subject a role in a workspace, or (*) in all of them."""
    answer = call("PUT", f"/workspaces/{path_segment(workspace)}/members", {"subject": subject, "role": role})
    console.print(f"{plain(answer['subject'])} is {plain(role)} in {plain(workspace)}.")


@members_app.command()
def remove(workspace: Workspace, subject: Subject, role: Role) -> None:
    """Take a role in a workspace from a subject."""
    answer = call("DELETE", f"/workspaces/{path_segment(workspace)}/members", subject=subject, role=role)
    console.print("Removed." if answer["removed"] else f"{plain(subject)} was not {plain(role)} there.")
