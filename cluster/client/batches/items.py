"""The lines of the input: their schema, and the key under which each item is asked."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cluster.domain.base.canonical import canonical_sha256
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import MAX_DEPTH, MAX_DIGITS, check_json
from cluster.domain.deliberation.bounds import MAX_QUESTION_CHARS

MAX_LINE_BYTES = 1_048_576
SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"


class ItemModel(BaseModel):
    """One question of a batch: one JSON object per line."""

    model_config = ConfigDict(extra="forbid", title="Item of a batch", strict=True)

    id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="Your name for the item; it is repeated in the output and asks nothing."
    )
    content: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION_CHARS)] | None = Field(
        None, description="The question."
    )
    question: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION_CHARS)] | None = Field(
        None, description="Another name for content; give one of the two."
    )
    decision_type: Literal["auto", "debate", "quick"] = "auto"
    config: dict[str, Any] = Field({}, description="As in POST /deliberations: options, agents, rounds, consensus, ...")
    context: dict[str, Any] = {}
    required_capabilities: list[str] = ["deliberation"]
    timeout_seconds: float | None = Field(None, ge=1, le=86_400)
    priority: Literal["low", "normal", "high", "urgent"] = "normal"

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if (self.content is None) == (self.question is None):
            raise ValueError("give the question as content (or question), once")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question of a batch. ``key`` is the hash of what is asked and of the run's name; ``request_id`` is made from it."""

    line: int
    id: str | None
    key: str
    body: Mapping[str, Any]

    @property
    def request_id(self) -> str:
        return f"batch-{self.key[:40]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that is no item. ``key`` is the hash of its bytes, so that it is reported only once if the batch is resumed."""

    line: int
    key: str
    problem: str


def schema() -> dict[str, Any]:
    """The JSON Schema of a line of the input."""
    return {
        "$schema": SCHEMA_ID,
        **ItemModel.model_json_schema(),
        "oneOf": [{"required": ["content"]}, {"required": ["question"]}],
    }


def read_items(lines: Iterable[bytes], run: str = "") -> Iterator[Item | BadLine]:
    """Reads lines, numbered from 1; blank ones are skipped. ``run`` is the run's name: another one asks the same questions
    anew."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _read(number, line, run)


def _read(number: int, line: bytes, run: str) -> Item | BadLine:
    try:
        return _item(number, _json(line), run)
    except (InvalidRequest, ValueError, RecursionError) as error:
        digest = hashlib.sha256(line.strip()).hexdigest()
        return BadLine(line=number, key=f"bad-{digest}", problem=_sentence(error))


def _json(line: bytes) -> Any:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"it is longer than {MAX_LINE_BYTES} bytes")
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg} at character {error.pos})") from None
    except UnicodeError:
        raise ValueError("it is not JSON, since it is no text in UTF-8") from None
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:  # int() refuses a number with too many digits
        raise ValueError(f"it holds a number of more than {MAX_DIGITS} digits") from None
    check_json(value, "the line")
    return value


def _item(number: int, value: Any, run: str) -> Item:
    model = ItemModel.model_validate(value)
    asked = model.model_dump(exclude={"id", "question"}, exclude_none=True)
    asked["content"] = model.content or model.question
    asked["required_capabilities"] = sorted(set(model.required_capabilities))
    return Item(line=number, id=model.id, key=canonical_sha256({"run": run, "asked": asked}), body=asked)


def _sentence(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(where, ItemModel.model_fields, n=1)
        return f"{where} is not a field of an item; {f'did you mean {near[0]}?' if near else 'leave it out'}"
    if first["type"] == "model_type":  # pydantic names our class in its words
        return f"{where or 'it'} is no JSON object"
    return f"{where}: {first['msg']}" if where else first["msg"].removeprefix("Value error, ")
