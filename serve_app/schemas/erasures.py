"""Bodies of erasures."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serve_app.schemas.fields import ExactBody, Text, Word, Words


class Erase(ExactBody):
    """What to erase: one of ``workspace``, ``task_id`` (also of a deliberation) and ``subject``, what a submit named as
    ``subject`` in its metadata or context. ``dry_run`` only counts. ``cursor`` goes on with an earlier call."""

    workspace: Word | None = None
    task_id: Word | None = None
    subject: Words | None = None
    dry_run: bool = False
    cursor: Annotated[Text, Field(min_length=1, max_length=512)] | None = None
