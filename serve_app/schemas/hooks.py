"""Bodies and answers about hooks. A secret is in the body that gives it, or in the one answer that has made it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final
from urllib.parse import quote

from pydantic import AfterValidator, Field, SecretStr

from cluster.domain.hooks.hook import RATE_PER_MINUTE, WHOLE_BODY, Hook, Secret
from cluster.domain.notifications.channel import signing_key
from serve_app.auth.named_workspace import FIELD
from serve_app.schemas.fields import MAX_SECONDS, ExactBody, Word
from serve_app.schemas.schedules import templated_wire
from serve_app.schemas.tasks import CreateTask, TaskFields
from serve_app.schemas.workflows import SignalName

PATH: Final = "/api/control-plane/hooks/"


def _checked(secret: SecretStr) -> SecretStr:
    signing_key(secret.get_secret_value())
    return secret


#: Of the sender, where it makes its own; ours are made of 32 random bytes.
SenderSecret = Annotated[SecretStr, Field(max_length=128), AfterValidator(_checked)]


class HookTask(TaskFields, ExactBody):
    """A task, as in POST /tasks, without its payload."""

    def submit(self) -> CreateTask:
        return CreateTask.model_validate(self.model_dump(mode="json", exclude_unset=True))


class HookSignal(ExactBody):
    """The signal ``name`` to the run ``run_id``; either may be a reference, as in ``input``."""

    run_id: Word | dict[str, Any]
    name: SignalName | dict[str, Any]


class HookFields(ExactBody):
    """What a webhook is: a ``task`` (a body of POST /tasks without its payload), a run of a ``workflow``, of its newest
    ``version`` if none is given, with ``metadata``, or a ``signal`` to a run that waits for it. ``input`` becomes the payload of
    the task, the input of the run or the value of the signal; in it
    ``{"from": "body", "path": JSON Pointer, "default": VALUE}`` stands for a part of the webhook's body, and ``{"from": "id"}``
    for its id. Without it that is the whole body. A hook takes ``rate_per_minute`` webhooks in a minute."""

    younger: ClassVar[frozenset[str]] = frozenset({"signal"})

    task: HookTask | None = None
    workflow: Word | None = None
    signal: HookSignal | None = None
    version: int | None = Field(None, ge=1, le=2**31 - 1)
    metadata: dict[str, Any] | None = None
    input: Any = Field(default_factory=lambda: {**WHOLE_BODY})
    rate_per_minute: float = Field(RATE_PER_MINUTE, ge=1, le=60_000)


class CreateHook(HookFields):
    """``secret``: what the sender signs with, if it makes its own: base64 of 24 to 64 bytes, behind ``whsec_`` or not. Without
    it one is made."""

    name: Word
    secret: SenderSecret | None = None


class RotateHook(ExactBody):
    """For ``overlap_seconds`` the secrets of before count too. ``secret`` as when the hook is made."""

    overlap_seconds: float = Field(86_400.0, ge=0, le=MAX_SECONDS)
    secret: SenderSecret | None = None


def hook_wire(hook: Hook, now: float) -> dict[str, Any]:
    """A hook as the API shows it: without its secrets. ``path`` is where its webhooks are sent."""
    secrets = [Secret(key="", until=until) for until in hook.secrets_until if hook.has_secrets]
    task = hook.starts.get("task")
    return {
        "name": hook.name,
        "path": f"{PATH}{quote(hook.name)}?{FIELD}={quote(hook.workspace)}",
        "paused": hook.paused,
        "task_type": None if task is None else task["task_type"],
        "task": None if task is None else _without_payload(templated_wire(hook.starts)),
        "workflow": hook.starts.get("workflow"),
        "signal": hook.starts.get("signal"),
        "version": hook.starts.get("version"),
        "metadata": hook.starts.get("metadata"),
        "input": hook.input,
        "rate_per_minute": hook.rate_per_minute,
        "secrets": [{"ends_at": secret.until} for secret in secrets if secret.counts(now)],
        "revision": hook.revision,
        "created_at": hook.created_at,
        "created_by": hook.created_by,
        "changed_at": hook.changed_at,
        "changed_by": hook.changed_by,
    }


def _without_payload(task: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in task.items() if name != "payload"}
