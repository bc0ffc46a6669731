"""Collects what a process observes until it is sent to the telemetry actor."""

from __future__ import annotations

from collections import Counter

from cluster.domain.metrics import Increment


class HttpObservations:
    """Requests of one replica since the last `take`: counts per route, and each duration up to a bound."""

    DURATIONS_MAX = 20_000

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._durations: list[Increment] = []

    def observe(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        labels = (method, endpoint, str(status))
        self._counts[labels] += 1
        if len(self._durations) < self.DURATIONS_MAX:
            self._durations.append(
                Increment(name="aragora_http_request_duration_seconds", labels=labels, value=seconds)
            )

    def take(self) -> list[Increment]:
        """Returns what was observed, and forgets it."""
        counts, self._counts = self._counts, Counter()
        durations, self._durations = self._durations, []
        return [
            *(
                Increment(name="aragora_http_requests_total", labels=labels, amount=count)
                for labels, count in counts.items()
            ),
            *durations,
        ]
