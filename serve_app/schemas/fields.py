"""Types of the fields of request bodies: bounded numbers and times, and texts that the stores can hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from fastapi import Query
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import check_json, shown_text
from cluster.domain.base.names import check_name
from cluster.domain.base.nearest import MAX_SHOWN, hint
from cluster.domain.base.versions import MAX_VERSION, check_version
from serve_app.auth.named_workspace import FIELDS as WORKSPACE_FIELDS
from serve_app.schemas.numbers import with_strict_numbers

MAX_BATCH = 1000


#: The last second of the year 9999, the latest time that ISO 8601 and Python can write.
MAX_EPOCH_S = 253_402_300_799


class _RefusedParameter(InvalidRequest, ValueError):
    """A query parameter holds what it must not. A validator of one does not know its name; who words the errors does, and gets
    only what is a `ValueError`."""


def _checked(check: Callable[[str, str], object], value: str, info: ValidationInfo) -> str:
    try:
        check(value, info.field_name or "its value")
    except InvalidRequest as refused:
        if info.field_name is None:
            raise _RefusedParameter(refused.message, refused.code) from None
        raise
    return value


def _storable(value: str, info: ValidationInfo) -> str:
    return _checked(check_json, value, info)


def _readable(value: str, info: ValidationInfo) -> str:
    """An empty name is for the field's bounds to refuse: some mean none by it."""
    return _checked(check_name, value, info) if value else value


#: Query parameter: how many rows to leave out. Below the largest number of the database, which adds the limit to it.
Offset = Annotated[int, Query(ge=0, le=2**53 - 1)]


#: Text that the stores can hold.
Text = Annotated[str, AfterValidator(_storable)]


#: Text that names something, for people too.
Named = Annotated[Text, AfterValidator(_readable)]


Word = Annotated[Named, Field(min_length=1, max_length=128)]


Words = Annotated[Named, Field(min_length=1, max_length=256)]


#: US dollars, read by `aragora_worker.base.money.nanos_of`.
Money = Annotated[Text, Field(min_length=1, max_length=32)]


#: A worker's version.
Version = Annotated[Text, Field(min_length=1, max_length=MAX_VERSION), AfterValidator(check_version)]


Names = Annotated[list[Word], Field(max_length=64)]


MAX_SECONDS = 366 * 86_400.0


Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS)]


class RequestBody(BaseModel):
    """Base of all request bodies: frozen, unknown fields are ignored, and numbers and booleans have one rule
    (`serve_app.schemas.numbers`). A body that the released client does not send is an `ExactBody`."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    #: Fields that are younger than idempotency keys which may be stored: None counts as no field, so that a repeat after an
    #: upgrade has the body of its first call.
    younger: ClassVar[frozenset[str]] = frozenset()

    def for_digest(self, *besides: str) -> dict[str, Any]:
        """What a repeat under the same idempotency key has to have: all but the fields ``besides``."""
        return self.model_dump(
            mode="json", exclude={name for name in self.younger if getattr(self, name) is None} | set(besides)
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return with_strict_numbers(handler(source))


class ExactBody(RequestBody):
    """Base of the bodies that the released client has no call for: an unknown field is refused, since a misspelt one would
    silently mean the default, such as a key that never expires. The fields that name the workspace of a call
    (`serve_app.auth.named_workspace`) are part of every body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        given = {name: item for name, item in value.items() if name not in WORKSPACE_FIELDS}
        for name in given:
            if name not in cls.model_fields:
                shown = shown_text(str(name), MAX_SHOWN)
                raise InvalidRequest(
                    f"There is no field {shown} here; {hint(shown, cls.model_fields)}", "unknown_field"
                )
        return given


def agent_name(value: str) -> str:
    return check_id(value, "agent_id")


def iso_time(at: float | None) -> str | None:
    """ISO 8601, with microseconds always: without ``timespec`` a whole second would be written in another form."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
