"""Counts the commits of a process that have failed, by the class of their SQLSTATE."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

#: Functions of the database that are a commit each: those that append to the log.
COMMITS: Final = (
    *(
        "submit_tasks",
        "submit_asking_tasks",
        "decide",
        "submit_within_quotas",
        "store_progress",
        "replay_tasks",
        "purge_tasks",
        "put_control",
    ),
    *("register_agents", "register_within_quotas", "change_agents", "remove_agents", "save_breakers"),
    *(
        "admit_deliberations",
        "append_deliberations",
        "cancel_deliberation",
        "record_outcomes",
        "record_outcomes_of_kinds",
        "save_snapshots",
    ),
    *(
        "put_workspace",
        "create_resident_workspace",
        "put_binding",
        "remove_binding",
        "put_role",
        "remove_role",
        "create_key",
        "change_key",
    ),
    *("erase_tasks", "erase_deliberation", "erase_outcomes", "erase_log_words", "erase_rules", "erase_violations"),
    *(
        "remove_tasks",
        "remove_deliberations",
        "remove_runs",
        "put_retention",
        "remove_log_segment",
        "drop_cursors_and_segment",
        "remove_segment",
    ),
    *("create_schedule", "change_schedules", "remove_schedules"),
    *("put_credential", "remove_credential", "put_hook", "remove_hooks"),
    *("create_budget", "change_budget", "remove_budget", "tell_budget_levels"),
    *("fold_entries", "remove_spending", "remove_violations", "remove_policy_versions", "remove_budget_levels"),
    *("put_quotas",),
    *("create_policy", "change_policy", "remove_policy", "record_violations", "change_violation"),
    *("apply_workflow", "start_run", "begin_advancing", "advance_runs", "signal_run", "remove_workflows"),
    *("put_notification_channel", "remove_notification_channel", "put_notification_rule", "remove_notification_rule"),
    *(
        "begin_notifying",
        "queue_notifications",
        "claim_notifications",
        "test_notification_channel",
        "replay_notification",
        "put_push",
        "claim_pushes",
        "remove_push",
    ),
    *("begin_session", "end_session", "revoke_access", "log_append", "raise_epoch", "publish_signing_key"),
)
_COMMIT: Final = re.compile(rf"\b(?:{'|'.join(COMMITS)})\(")
#: The class of an error without a SQLSTATE: the server did not answer, or the data did not even reach it.
NO_ANSWER: Final = "none"
#: Of refusals that are the caller's fault: a key that was used with another body, a change after which nobody could
#: administer access, one schedule or workflow too many, a schedule or run that was changed or deleted meanwhile, and a webhook
#: that was sent again.
_CALLERS: Final = ("AG003", "AG004", "AG006", "AG007", "AG008", "AG009", "AG010")


class FailedCommits:
    """``count`` adds, ``take`` takes what was counted since the last call."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, sql: str, error: Exception) -> None:
        """Counts a statement that failed, if it is a commit."""
        state = str(getattr(error, "sqlstate", None) or NO_ANSWER)
        if state not in _CALLERS and _COMMIT.search(sql):
            self._counts[state if state == NO_ANSWER else state[:2]] += 1

    def take(self) -> Mapping[str, int]:
        """How many commits have failed since the last call, by class."""
        taken, self._counts = self._counts, Counter()
        return taken
