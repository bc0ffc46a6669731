"""``aragora-cp policies``: what the workspace allows of tasks and of the agents that have them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, Words, call, given, json_option, path_segment, print_json, split
from cluster.cli.numbers import amount
from cluster.cli.output import console, listing, plain

app = typer.Typer(no_args_is_help=True, help="Policies: what is allowed of tasks and of the agents that have them.")
violations_app = typer.Typer(no_args_is_help=True, help="Violations: what was submitted against policies.")
app.add_typer(violations_app, name="violations")

Name = Annotated[str | None, typer.Option(help="What people call it.")]
Description = Annotated[str | None, typer.Option(help="What it is for.")]
TaskTypes = Annotated[str | None, typer.Option(help="It is about tasks of these types, separated by commas.")]
Capabilities = Annotated[str | None, typer.Option(help="It is about tasks that require one of these.")]
Level = Annotated[str | None, typer.Option("--enforcement", help="warn, soft or hard.")]
Priority = Annotated[
    int | None,
    typer.Option(min=-1_000, max=1_000, help="Of several that refuse a submit the highest is named."),
]
MaxExecution = Annotated[float | None, amount("The longest time limit that a task may ask for, in seconds.")]
DenyWhen = Annotated[
    str | None, typer.Option(help="A condition in CEL: a task of which it is true is against the policy.")
]
Enabled = Annotated[bool | None, typer.Option("--enable/--disable", help="A disabled policy says nothing.")]
PolicyJson = Annotated[str | None, typer.Option("--json-body", help="Fields of the body as JSON; options win.")]


@app.command()
def create(
    name: Name = None,
    description: Description = None,
    task_types: TaskTypes = None,
    capabilities: Capabilities = None,
    allow_agents: Words = None,
    block_agents: Words = None,
    allow_regions: Words = None,
    block_regions: Words = None,
    max_execution: MaxExecution = None,
    deny_when: DenyWhen = None,
    enforcement: Level = None,
    priority: Priority = None,
    all_workspaces: Annotated[bool, typer.Option("--all-workspaces", help="Of every workspace.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Store nothing: say what it would have refused.")] = False,
    body: PolicyJson = None,
    as_json: Json = False,
) -> None:
    """Make a policy and print its id."""
    lists = (allow_agents, block_agents, allow_regions, block_regions)
    fields = _fields(body, name, description, task_types, capabilities, lists, max_execution, enforcement, priority)
    fields |= given(all_workspaces=all_workspaces or None, deny_when=deny_when)
    answer = call("POST", "/policies/dry-run" if dry_run else "/policies", fields)
    if as_json:
        print_json(answer)
        return
    if dry_run:
        console.print(
            f"Of the newest {answer['tried']} tasks it is about {answer['matched']}: it would have refused "
            f"{answer['denied']}, warned about {answer['warned']}, and kept {answer['agent_refused']} from their agents."
        )
    else:
        console.print(plain(answer["id"]))
    for conflict in answer["conflicts"]:
        console.print(plain(f"Conflict: {conflict['reason']}"))


@app.command()
def update(
    policy_id: str,
    name: Name = None,
    description: Description = None,
    task_types: TaskTypes = None,
    capabilities: Capabilities = None,
    allow_agents: Words = None,
    block_agents: Words = None,
    allow_regions: Words = None,
    block_regions: Words = None,
    max_execution: MaxExecution = None,
    deny_when: DenyWhen = None,
    enforcement: Level = None,
    priority: Priority = None,
    enabled: Enabled = None,
    body: PolicyJson = None,
) -> None:
    """Change a policy and print it as JSON. What you do not name stays as it is; --allow-regions and --block-regions are one list
    pair, which is replaced as a whole."""
    lists = (allow_agents, block_agents, allow_regions, block_regions)
    fields = _fields(body, name, description, task_types, capabilities, lists, max_execution, enforcement, priority)
    fields |= given(deny_when=deny_when)
    if enabled is not None:
        fields["enabled"] = enabled
    if not fields:
        raise typer.BadParameter("Name at least one of the options; --help lists them.")
    print_json(call("PUT", f"/policies/{path_segment(policy_id)}", fields))


@app.command("list")
def list_policies(as_json: Json = False) -> None:
    """List the policies that are about the workspace, the highest priority first."""
    found = call("GET", "/policies")
    if as_json:
        print_json(found)
        return
    rows = (
        (
            policy["id"],
            policy["enforcement_level"] if policy["enabled"] else "disabled",
            str(policy["priority"]),
            str(policy["version"]),
            "all workspaces" if policy["all_workspaces"] else "",
            policy["name"],
        )
        for policy in found["policies"]
    )
    listing(("policy", "enforcement", "priority", "version", "", "name"), rows)


@app.command()
def show(policy_id: str) -> None:
    """Print a policy as JSON."""
    print_json(call("GET", f"/policies/{path_segment(policy_id)}"))


@app.command()
def versions(policy_id: str) -> None:
    """Print every version of a policy as JSON, the newest first."""
    print_json(call("GET", f"/policies/{path_segment(policy_id)}/versions"))


@app.command()
def rollback(policy_id: str, version: Annotated[int, typer.Argument(min=1)]) -> None:
    """Make the next version of a policy, which says what an earlier one said."""
    print_json(call("POST", f"/policies/{path_segment(policy_id)}/rollback", {"version": version}))


@app.command()
def delete(policy_id: str) -> None:
    """Delete a policy; its versions and violations stay."""
    call("DELETE", f"/policies/{path_segment(policy_id)}")
    console.print(plain(f"{policy_id} is deleted."))


@violations_app.command("list")
def list_violations(
    policy: Annotated[str | None, typer.Option(help="Of this policy.")] = None,
    status: Annotated[str | None, typer.Option(help="open, investigating, resolved or false_positive.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """List violations, newest first."""
    chosen = given(policy_id=policy, status=status)
    found = call("GET", "/policies/violations", limit=limit, offset=offset, **chosen)
    if as_json:
        print_json(found)
        return
    rows = (
        (
            violation["id"],
            violation["status"],
            violation["violation_type"],
            violation["policy_id"],
            violation["timestamp"][:19],
            violation["description"],
        )
        for violation in found["violations"]
    )
    listing(("violation", "status", "type", "policy", "at (UTC)", "description"), rows)


@violations_app.command("show")
def show_violation(violation_id: str) -> None:
    """Print a violation as JSON."""
    print_json(call("GET", f"/policies/violations/{path_segment(violation_id)}"))


@violations_app.command("stats")
def violation_stats() -> None:
    """Print how many violations there are, by status and type, as JSON."""
    print_json(call("GET", "/policies/violations/stats"))


@violations_app.command("set")
def set_violation(
    violation_id: str,
    status: Annotated[str, typer.Argument(help="open, investigating, resolved or false_positive.")],
    notes: Annotated[str | None, typer.Option(help="What was found.")] = None,
) -> None:
    """Say what became of a violation."""
    fields = {"status": status, **given(resolution_notes=notes)}
    answer = call("PATCH", f"/policies/violations/{path_segment(violation_id)}", fields)
    console.print(plain(answer["message"]))


def _fields(
    body: str | None,
    name: str | None,
    description: str | None,
    task_types: str | None,
    capabilities: str | None,
    lists: tuple[str | None, str | None, str | None, str | None],
    max_execution: float | None,
    enforcement: str | None,
    priority: int | None,
) -> dict[str, Any]:
    """The body of a call. An option that is given empty means an empty list.

    Raises: `BadParameter` if the body that was given is no JSON object."""
    start = json_option(body, "--json-body")
    if start is not None and not isinstance(start, dict):
        raise typer.BadParameter("--json-body must be a JSON object.")
    fields: dict[str, Any] = {**(start or {}), **given(name=name, description=description, priority=priority)}
    fields |= given(enforcement_level=enforcement)
    allow_agents, block_agents, allow_regions, block_regions = lists
    for field, words in (
        ("task_types", task_types),
        ("capabilities", capabilities),
        ("agent_allowlist", allow_agents),
        ("agent_blocklist", block_agents),
    ):
        if words is not None:
            fields[field] = split(words)
    if allow_regions is not None or block_regions is not None:
        fields["region_constraint"] = {
            "allowed_regions": split(allow_regions),
            "blocked_regions": split(block_regions),
        }
    if max_execution is not None:
        fields["sla"] = {"max_execution_seconds": max_execution}
    return fields
