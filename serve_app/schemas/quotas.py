"""Bodies and answers about quotas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from cluster.domain.quotas.quotas import MOST, QuotaKind, Quotas
from serve_app.schemas.fields import ExactBody, iso_time


class SetQuotas(ExactBody):
    """The workspace's quotas: registered agents, tasks that wait, tasks that run, submits in a minute. Null removes one; a field
    that is left out stays as it is."""

    agents: int | None = Field(None, ge=1, le=MOST)
    queued_tasks: int | None = Field(None, ge=1, le=MOST)
    running_tasks: int | None = Field(None, ge=1, le=MOST)
    submits_per_minute: int | None = Field(None, ge=1, le=MOST)

    def given(self) -> dict[QuotaKind, int | None]:
        """What the body names."""
        return {kind: getattr(self, kind.value) for kind in QuotaKind if kind.value in self.model_fields_set}


def quotas_wire(quotas: Quotas, used: Mapping[QuotaKind, int]) -> dict[str, Any]:
    """The quotas of a workspace, and how much of them is used, as the API shows them."""
    return {
        "workspace": quotas.workspace,
        "quotas": {kind.value: quotas.of(kind) for kind in QuotaKind},
        "used": {kind.value: used.get(kind, 0) for kind in QuotaKind if kind is not QuotaKind.SUBMITS_PER_MINUTE},
        "version": quotas.version,
        "updated_at": iso_time(quotas.changed_at) if quotas.version else None,
        "updated_by": quotas.changed_by or None,
    }
