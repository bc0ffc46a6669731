"""What to do about an error that the API answers, as a command: its sentences are for all clients and name no commands."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from aragora_worker.errors import ApiError, OutcomeUnknown
from cluster.cli.contexts import chosen_context
from cluster.settings import SettingsError, load_settings

_LISTS: Final = {
    "task": "tasks list",
    "agent": "agents list",
    "deliberation": "deliberations list",
    "schedule": "schedules list",
    "workflow": "workflows list",
    "run": "workflows runs",
    "hook": "hooks list",
    "credential": "credentials list",
    "policy": "policies list",
    "violation": "policies violations list",
    "budget": "budgets list",
    "key": "keys list",
    "role": "roles list",
    "workspace": "workspaces list",
    "channel": "notifications channels list",
    "rule": "notifications rules list",
    "notification": "notifications list",
    "audit_entry": "audit list",
    "snapshot": "weights",
}
FIXES: Final = {
    f"{what}_not_found": f"`aragora-cp {command}` lists those that there are." for what, command in _LISTS.items()
} | {
    "workspace_required": (
        "`aragora-cp whoami` lists your workspaces; set ARAGORA_CLIENT_WORKSPACE to one, or give the context one with "
        "--workspace."
    ),
    "workspace_suspended": "`aragora-cp workspaces resume` ends it, for who may manage the workspace.",
    "forbidden": "`aragora-cp whoami` shows what you may do; `aragora-cp members add` gives a role, for who may manage access.",
    "exceeds_own": "`aragora-cp whoami` shows what you may do; nobody can give more than that.",
    "role_in_use": "`aragora-cp members list` and `aragora-cp keys list` show who has it.",
    "policy_denied": (
        "`aragora-cp policies violations list` shows the policy and why; `aragora-cp tasks submit --override REASON` puts a soft "
        "one aside, for who may override policies."
    ),
    "budget_exhausted": "`aragora-cp budgets list` shows what is spent; `aragora-cp budgets update` changes the limit.",
    "quota_exceeded": "`aragora-cp quotas show` shows what may be used; `aragora-cp quotas set` changes it.",
    "quota_full": "`aragora-cp quotas show` shows what is used; try again when something of it has ended.",
    "cursor_lost": "Begin without --after: what was before is not kept any more.",
}
_UNAUTHENTICATED: Final = (
    "`aragora-cp context list` shows which credential is sent; `aragora-cp login` begins a session, or set ARAGORA_API_KEY "
    "(for a context: `aragora-cp context add NAME --replace --url URL --token-env ARAGORA_API_KEY`)."
)


def fix_of(error: Exception) -> str | None:
    """A sentence that names the command or the setting which helps; None where the error's own sentence says it."""
    if isinstance(error, ApiError) and error.status == 401:
        return _UNAUTHENTICATED
    if isinstance(error, OutcomeUnknown):
        with suppress(SettingsError):
            found = chosen_context(load_settings())
            if found is not None:
                return f"The context {found[0]} was used: `aragora-cp context list` lists all, and --context NAME names another."
    return FIXES.get(str(getattr(error, "code", "")))
