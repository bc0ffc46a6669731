"""The answer about regions: what this region's leader says of its zone, always with the same members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What is null while the region's leader has no word about it.
_ANSWERED = ("zone", "role", "phase", "primary", "epoch", "trusted_until", "head", "mode", "etcd_leader", "no_writes")


def regions_wire(region: str, enabled: bool, status: Mapping[str, Any]) -> dict[str, Any]:
    """``status``: the leader's own words (`regions.operator`, `actors.region_leader`). A region alone is its own primary. The
    names of files with surplus rows stay on their machine."""
    answer = {name: status.get(name) for name in _ANSWERED}
    warnings = [*status.get("warnings", ()), *status.get("contradictions", ())]
    if status.get("no_automatic_failover"):
        warnings.append(status["no_automatic_failover"])
    if not enabled:
        answer |= {"role": "primary", "primary": region}
    return {
        "enabled": enabled,
        "region": region,
        "is_led": bool(status.get("leader")),
        **answer,
        "problem": status.get("problem"),
        "in_sync": list(status.get("in_sync", ())),
        "members": [
            {"region": each["region"], "holds_data": each["data"], "residency": each["residency"]}
            for each in status.get("members", ())
        ],
        "lag": [
            {
                "region": name,
                "rows": lag.get("rows"),
                "silent_seconds": lag.get("silent_s"),
                "is_stale": lag.get("stale"),
            }
            for name, lag in status.get("lag", {}).items()
        ],
        "surplus_rows": sum(file["rows"] for file in status.get("surplus", ())),
        "warnings": warnings,
    }
