"""Lists whose entries are validated each for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import shown_text
from serve_app.http.errors import problem_of

Entry = TypeVar("Entry", bound=BaseModel)


def entry_or_refusal(
    value: Any, validate: Callable[[Any], Entry], id_field: str, refused: Callable[..., Entry]
) -> Entry:
    """The validated entry. A bad one, of any shape, becomes ``refused(…)``, so that it gets its own answer and the others of
    its list still count: ``named`` is the text that it has as its ``id_field``, if any; ``refusal`` and ``code`` say why."""
    given = value.get(id_field) if isinstance(value, dict) else None
    named = shown_text(given, 128) if isinstance(given, str) else None
    try:
        return validate(value)
    except ValidationError as error:
        refusal, code = problem_of(error.errors()), "invalid_request"
    except InvalidRequest as error:
        refusal, code = error.message, error.code
    return refused(**{id_field: named or ""}, named=named, refusal=refusal, code=code)
