"""A hook: what a webhook of this name starts, and with which secrets its sender signs."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.domain.base.json_values import check_json
from cluster.domain.base.log import IDENTITY, LogTexts
from cluster.domain.notifications.channel import signing_key
from cluster.domain.workflows.stored import RUN_PREFIX
from cluster.domain.workflows.values import Unresolved, references, resolved

#: Hooks of one workspace, and secrets of one hook that count at a time.
MOST_HOOKS: Final = 1_000
MOST_SECRETS: Final = 8
SECRET_BYTES: Final = 32
#: Calls of a hook in a minute, unless it says otherwise.
RATE_PER_MINUTE: Final = 600.0
#: What the input of a hook can refer to: the body of the webhook, and its id.
BODY: Final = "body"
ID: Final = "id"
WHOLE_BODY: Final[Mapping[str, str]] = {"from": BODY}
LOG_TEXTS: LogTexts = {"hook": IDENTITY, "erasure": IDENTITY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret that counts before ``until`` (epoch seconds), or without end."""

    key: str = field(repr=False)
    until: float | None = None

    def counts(self, now: float) -> bool:
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """``starts`` is the template of a task (``{"task": …}``), a workflow (``{"workflow", "version", "metadata"}``, whose version
    is null if it is the newest one), or a signal (``{"signal": {"run_id", "name"}}``, templates of both). ``input``: what it is
    given, with references to the body of the webhook. ``secrets_id`` names the sealed secrets, ``secrets_until`` says up to when
    each counts, and ``has_secrets`` whether they are here: they do not travel to other regions. Each change has a ``revision`` of
    its own. Times in epoch seconds."""

    id: str
    workspace: str
    name: str
    starts: Mapping[str, Any]
    input: Any
    rate_per_minute: float
    created_at: float
    created_by: str
    changed_at: float
    changed_by: str
    secrets_id: str
    secrets_until: tuple[float | None, ...]
    paused: bool = False
    revision: int = 1
    has_secrets: bool = True

    @property
    def principal(self) -> str:
        """In whose name it starts what it starts."""
        return f"hook:{self.name}"

    def changed(self, by: str, now: float, **parts: Any) -> Hook:
        """The next revision."""
        return replace(self, changed_by=by, changed_at=now, revision=self.revision + 1, **parts)

    def start_id(self, webhook_id: str) -> str:
        """The id of the task or run that a webhook is: the same whenever and wherever it arrives."""
        digest = hashlib.blake2b(f"{self.id}\x1f{webhook_id}".encode(), digest_size=13).hexdigest()
        return f"{'task' if 'task' in self.starts else RUN_PREFIX}_{digest}"

    def metadata(self, given: Mapping[str, Any], webhook_id: str) -> dict[str, Any]:
        """The metadata of what a webhook starts."""
        return {**given, "hook": self.name, "webhook_id": webhook_id}

    def given(self, webhook_id: str, body: Any) -> Any:
        """The input of what a webhook starts.

        Raises: `InvalidRequest` (``input_unresolved``) if the body lacks something that is referred to."""
        try:
            found = resolved(self.input, {BODY: body, ID: webhook_id})
        except Unresolved as error:
            raise InvalidRequest(f"The hook {self.name} does not fit this body: {error.message}", error.code) from None
        check_json(found, "input")
        return found

    def signalled(self, webhook_id: str, body: Any) -> tuple[str, str]:
        """(run, name) of the signal that a webhook is.

        Raises: `InvalidRequest` (``input_unresolved``) if the body lacks one of them, or it is none."""
        found = []
        for part in ("run_id", "name"):
            try:
                value = resolved(self.starts["signal"][part], {BODY: body, ID: webhook_id})
            except Unresolved as error:
                raise InvalidRequest(
                    f"The hook {self.name} does not fit this body: {error.message}", error.code
                ) from None
            if not isinstance(value, str):
                raise InvalidRequest(
                    f"signal.{part} of the hook {self.name} must become a text.", Unresolved.default_code
                )
            found.append(value)
        return found[0], found[1]


def check_input(template: Any, what: str = "input") -> None:
    """Returns if a hook can have this input. ``what`` names the field in the error's text.

    Raises: `InvalidRequest` (``invalid_hook``) if it refers to something else than the body and the id, or is no template."""
    check_json(template, what)
    try:
        sources = {reference.source for reference in references(template)}
    except InvalidRequest as refused:
        raise InvalidRequest(refused.message, "invalid_hook") from None
    if odd := sorted(sources - {BODY, ID}):
        raise InvalidRequest(
            f'{what} refers to "{odd[0]}"; a hook has "{BODY}" and "{ID}" (of the webhook), and {{"literal": …}} for values that '
            "only look like references.",
            "invalid_hook",
        )


def new_key(entropy: bytes) -> str:
    """A secret that was never used, as Standard Webhooks write it."""
    return f"whsec_{base64.b64encode(entropy).decode()}"


def rotated(secrets: Sequence[Secret], key: str, now: float, overlap_s: float) -> tuple[Secret, ...]:
    """The secrets with a new one first. The others count for ``overlap_s`` more, if they have not ended before.

    Raises: `InvalidRequest` if the key is none, `Conflict` if the hook has it already or has too many that count."""
    signing_key(key)
    if any(secret.key == key and secret.counts(now) for secret in secrets):
        raise Conflict("The hook has this secret already; rotate to another one.", "hook_rotated")
    end = now + overlap_s
    kept = [replace(secret, until=end if secret.until is None else min(secret.until, end)) for secret in secrets]
    kept = [secret for secret in kept if secret.counts(now)]
    if len(kept) >= MOST_SECRETS:
        raise Conflict(
            f"The hook has {MOST_SECRETS} secrets that count; wait until one ends, or rotate with overlap_seconds 0.",
            "too_many_secrets",
        )
    return Secret(key=key), *kept


def sealed_text(secrets: Sequence[Secret]) -> bytes:
    """What is sealed of secrets; when they end is no secret."""
    return json.dumps([secret.key for secret in secrets]).encode()


def secrets_of(text: bytes, until: Sequence[float | None]) -> tuple[Secret, ...]:
    """The secrets that `sealed_text` was made of."""
    return tuple(Secret(key=key, until=end) for key, end in zip(json.loads(text), until, strict=True))
