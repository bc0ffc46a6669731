"""``aragora-cp roles`` and ``aragora-cp whoami``: what roles allow, and who the command line is to the control plane."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli.calls import Json, call, path_segment, print_json, split
from cluster.cli.output import console, listing, plain

app = typer.Typer(no_args_is_help=True, help="Roles: what they allow, and those that a workspace defines.")

Role = Annotated[str, typer.Argument(help="Its name.")]


@app.command("list")
def list_roles(as_json: Json = False) -> None:
    """List the built-in roles and those of the workspace, with the permissions of each."""
    found = call("GET", "/roles")
    if as_json:
        print_json(found)
        return
    rows = (
        (role["name"], "built in" if role["built_in"] else "", " ".join(role["permissions"])) for role in found["roles"]
    )
    listing(("role", "", "permissions"), rows)


@app.command("set")
def set_role(
    role: Role, permissions: Annotated[str, typer.Argument(help="What it allows, separated by commas.")]
) -> None:
    """Define a role of the workspace, or define it anew: whoever has it may do from then on what it says."""
    call("PUT", f"/roles/{path_segment(role)}", {"permissions": split(permissions)})
    console.print(f"{plain(role)} is set.")


@app.command()
def delete(role: Role) -> None:
    """Delete a role of the workspace. It is refused while a member or a valid key has it."""
    answer = call("DELETE", f"/roles/{path_segment(role)}")
    console.print(f"Deleted {plain(role)}." if answer["removed"] else f"There was no role {plain(role)}.")


def whoami(as_json: Json = False) -> None:
    """Show who you are to the control plane, the workspace that calls act in, and what you may do there."""
    found = call("GET", "/auth/caller")
    if as_json:
        print_json(found)
        return
    for name, value in (
        ("Principal", found["principal"]),
        ("Workspace", found["workspace"] or "none named: set ARAGORA_CLIENT_WORKSPACE to one of yours"),
        ("Roles", ", ".join(found["roles"]) or "none"),
        ("Workspaces", ", ".join(found["workspaces"]) or "none"),
        ("Permissions", ", ".join(found["permissions"]) or "none"),
    ):
        console.print(f"[bold]{name}:[/] {plain(str(value))}")
    if found["suspended"]:
        console.print("The workspace is suspended: it can be read, and nothing new starts.")
