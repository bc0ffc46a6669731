"""Bodies of deliberations."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.tasks.task import Priority
from serve_app.schemas.fields import Names, RequestBody, Text


class Deliberate(RequestBody):
    """A question for a panel of agents.

    ``config`` may hold options, agents, rounds, consensus, min_agents, max_agents, effort, max_tokens and more.
    ``documents``, ``attachments`` and ``evidence`` are shown to the panel as data; nothing is fetched.
    """

    content: str = Field(min_length=1, max_length=20_000)
    decision_type: Text = Field("auto", max_length=64)
    config: dict[str, Any] = {}
    context: dict[str, Any] = {}
    documents: list[str] = Field([], max_length=50)
    attachments: list[dict[str, Any]] = Field([], max_length=50)
    evidence: list[dict[str, Any]] = Field([], max_length=50)
    request_id: str | None = None
    is_async: bool = Field(False, alias="async")
    mode: Literal["sync", "async"] | None = None
    priority: str = "normal"
    required_capabilities: Names = ["deliberation"]
    timeout_seconds: float | None = Field(None, ge=1, le=86_400)

    @field_validator("request_id")
    @classmethod
    def _request_id(cls, value: str | None) -> str | None:
        return None if value is None else check_id(value, "request_id")

    @model_validator(mode="after")
    def _one_mode(self) -> Self:
        given = self.model_fields_set
        if self.mode is not None and "is_async" in given and self.is_async != (self.mode == "async"):
            says = "true" if self.is_async else "false"
            raise InvalidRequest(
                f"mode {self.mode} and async {says} contradict each other; send one of them.", "contradictory_mode"
            )
        return self

    @field_validator("priority")
    @classmethod
    def _priority(cls, value: str) -> str:
        return Priority.parse(value).wire_name
