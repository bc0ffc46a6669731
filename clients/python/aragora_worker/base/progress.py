"""One report of progress, as a worker makes it and the control plane takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aragora_worker.base.errors import InvalidRequest
from aragora_worker.base.json_values import check_json, check_text, compact_json, plain_json

#: Bytes of a checkpoint's JSON without white space. It says where to go on, and travels with every claim and to other regions;
#: what is larger belongs into a store of the worker's own, and its address into the checkpoint.
MAX_CHECKPOINT_BYTES: Final = 16_384
MAX_MESSAGE_CHARS: Final = 1_000
CODE: Final = "invalid_progress"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One report; None is left out. ``percent`` is 0 to 100, ``checkpoint_json`` the JSON of any value but null."""

    percent: float | None = None
    message: str | None = None
    checkpoint_json: str | None = None

    def followed_by(self, newer: Progress) -> Progress:
        """Both reports of one attempt as one."""
        return Progress(
            percent=self.percent if newer.percent is None else newer.percent,
            message=self.message if newer.message is None else newer.message,
            checkpoint_json=self.checkpoint_json if newer.checkpoint_json is None else newer.checkpoint_json,
        )


def checked_progress(percent: Any = None, message: Any = None, checkpoint: Any = None) -> Progress | None:
    """The report of these values; None if there is nothing in it.

    Raises: `InvalidRequest` if one of them cannot be stored, or is too large."""
    if percent is None and message is None and checkpoint is None:
        return None
    if percent is not None and not _is_percent(percent):
        raise InvalidRequest("percent must be a number from 0 to 100.", CODE)
    if message is not None:
        if not isinstance(message, str) or len(message) > MAX_MESSAGE_CHARS:
            raise InvalidRequest(f"message must be a text of at most {MAX_MESSAGE_CHARS} characters.", CODE)
        check_text(message, "message")
    text = None if checkpoint is None else _written(checkpoint)
    if text is not None and len(text.encode()) > MAX_CHECKPOINT_BYTES:
        raise InvalidRequest(
            f"checkpoint is larger than {MAX_CHECKPOINT_BYTES} bytes of JSON; keep the data elsewhere, and its address here.",
            CODE,
        )
    return Progress(percent=None if percent is None else float(percent), message=message, checkpoint_json=text)


def _written(checkpoint: Any) -> str:
    check_json(checkpoint, "checkpoint")
    return compact_json(plain_json(checkpoint))


def _is_percent(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 100  # which no NaN, infinity or huge integer is
