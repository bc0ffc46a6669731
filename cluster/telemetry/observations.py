"""Collects what a process observes until it is sent to the telemetry actor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from cluster.domain.metrics import Increment
from cluster.domain.policies.evaluation import Decision
from cluster.domain.policies.submits import Judged

#: Method and route of what registers an agent, and from which status on it was refused.
REGISTRATIONS: Final = ("POST", "/agents")
_REFUSED: Final = 400


class HttpObservations:
    """Requests of one replica since the last `take`: counts per route, and each duration up to a bound."""

    DURATIONS_MAX = 20_000

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._durations: list[Increment] = []
        #: The slowest call of each: its seconds, where it is among the durations, and its trace.
        self._slowest: dict[tuple[str, str, str], tuple[float, int, str]] = {}

    def observe(self, method: str, endpoint: str, status: int, seconds: float, trace: str) -> None:
        """Counts a call. Of those that are alike the slowest is sent with its trace: one of each is as good as all, and costs
        less."""
        labels = (method, endpoint, str(status))
        self._counts[labels] += 1
        if len(self._durations) < self.DURATIONS_MAX:
            slowest = self._slowest.get(labels)
            if slowest is None or seconds > slowest[0]:
                self._slowest[labels] = seconds, len(self._durations), trace
            self._durations.append(
                Increment(name="aragora_http_request_duration_seconds", labels=labels, value=seconds)
            )

    def take(self) -> list[Increment]:
        """Returns what was observed, and forgets it."""
        counts, self._counts = self._counts, Counter()
        durations, self._durations = self._durations, []
        slowest, self._slowest = self._slowest, {}
        for _, index, trace in slowest.values():
            durations[index] = replace(durations[index], trace=trace)
        return [
            *(
                Increment(name="aragora_http_requests_total", labels=labels, amount=count)
                for labels, count in counts.items()
            ),
            *_refused_registrations(counts),
            *durations,
        ]


def _refused_registrations(counts: Counter[tuple[str, str, str]]) -> list[Increment]:
    """The log has no row of what was refused."""
    refused = sum(
        count
        for (method, endpoint, status), count in counts.items()
        if (method, endpoint) == REGISTRATIONS and int(status) >= _REFUSED
    )
    if not refused:
        return []
    return [Increment(name="aragora_cp_agents_registered_total", labels=("failure",), amount=refused)]


class PolicyObservations:
    """What policies have made of submits since the last `take`, and how long each look took, up to a bound."""

    DURATIONS_MAX = 2_000

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._durations: list[Increment] = []

    def observe(self, found: Iterable[Judged], seconds: float) -> None:
        """Counts the submits of a call, which took so long together."""
        for each in found:
            decision = Decision.ALLOW
            if each.violations:
                decision = Decision.WARN if each.denied is None else Decision.DENY
            of = each.violations[0].violation_type.value if each.violations else "none"
            self._counts[of, decision.value] += 1
        if len(self._durations) < self.DURATIONS_MAX:
            self._durations.append(Increment(name="aragora_cp_policy_check_latency_seconds", labels=(), value=seconds))

    def take(self) -> list[Increment]:
        """Returns what was observed, and forgets it."""
        counts, self._counts = self._counts, Counter()
        durations, self._durations = self._durations, []
        name = "aragora_cp_policy_decisions_total"
        return [*(Increment(name=name, labels=labels, amount=count) for labels, count in counts.items()), *durations]
