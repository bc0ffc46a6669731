"""The timers of several regions, and the rule between them: heartbeat < election < stale."""

from __future__ import annotations

from dataclasses import dataclass

#: A third of the election timeout passes between two renewals, so that two of them may fail.
RENEWALS = 3
#: etcd grants no shorter lease.
LEAST_TTL_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionTimers:
    """``election_s`` is the time to live of the primary's lease. ``stale_s`` is when a secondary that hears nothing refuses reads
    of bounded staleness; it is no lease. ``sync_s``: a member of the in-sync set that is late for longer leaves it."""

    heartbeat_s: float = 1.0
    election_s: float = 10.0
    stale_s: float = 60.0
    sync_s: float = 5.0
    #: How much two clocks may differ over one ``election_s``. Trust ends this much before the lease.
    margin_s: float = 1.0

    @property
    def renewal_s(self) -> float:
        return self.election_s / RENEWALS

    def problems(self) -> list[str]:
        """What an operator has to change, one sentence each; empty if the timers fit together."""
        found = []
        if not 0 < self.heartbeat_s < self.election_s:
            found.append(
                f"The heartbeat ({self.heartbeat_s:g} s) must be shorter than ARAGORA_LEADER_ELECTION_TIMEOUT "
                f"({self.election_s:g} s); raise the timeout."
            )
        if not self.election_s < self.stale_s:
            found.append(
                f"ARAGORA_LEADER_ELECTION_TIMEOUT ({self.election_s:g} s) must be shorter than ARAGORA_STALE_LEADER_THRESHOLD "
                f"({self.stale_s:g} s), else reads are refused before a new primary can be elected; raise the threshold."
            )
        if self.election_s < LEAST_TTL_S:
            found.append(
                f"ARAGORA_LEADER_ELECTION_TIMEOUT ({self.election_s:g} s) must be at least {LEAST_TTL_S:g} s, which is the "
                "shortest lease of etcd."
            )
        if not 0 < self.margin_s < self.election_s - self.renewal_s:
            found.append(
                f"The margin of the clocks ({self.margin_s:g} s) must leave time for a renewal within "
                f"ARAGORA_LEADER_ELECTION_TIMEOUT ({self.election_s:g} s)."
            )
        if not self.sync_s > 0:
            found.append("ARAGORA_SYNC_INTERVAL must be longer than 0 s.")
        return found

    def trusted_until(self, started: float, ttl_s: float) -> float:
        """Until when a renewal that started at ``started``, by the clock of the primary's database, lets it write."""
        return started + ttl_s - self.margin_s
