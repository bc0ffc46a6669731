"""The contexts of the command line: URL, workspace and credential of several control planes, in one file of mode 0600.

Which one a command uses, the first that there is: the one that ``--context`` or ARAGORA_CONTEXT names; none if ARAGORA_API_URL is
set; the one in use; the only one. A context's URL gets that context's credential and no other: ARAGORA_API_KEY, which may be of
another control plane, is not sent there unless the context names that variable.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from stat import S_IMODE
from typing import Any, Final

from pydantic import SecretStr

from cluster.embedded.secrets import write_private
from cluster.settings import Settings, SettingsError

#: What ``--context`` names for this command.
named_context: ContextVar[str | None] = ContextVar("named_context", default=None)
MOST_TOKEN_CHARS: Final = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class CliContext:
    """A control plane. At most one of ``token`` (kept here), ``token_file`` (read at each use, so that it may be rotated) and
    ``token_env`` (the name of a variable) is set; without any, the session of `aragora-cp login` for the URL is sent."""

    url: str
    workspace: str | None = None
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    token_env: str | None = None
    ca_file: str | None = None

    @property
    def credential(self) -> str:
        """Where its credential comes from, for people."""
        if self.token is not None:
            return "kept token"
        if self.token_file is not None:
            return f"file {self.token_file}"
        return f"variable {self.token_env}" if self.token_env is not None else "login"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextBook:
    """All contexts by name, and the one in use."""

    contexts: Mapping[str, CliContext] = field(default_factory=dict)
    current: str | None = None

    @property
    def used(self) -> str | None:
        """The one that is taken unless another is named: the one in use, else the only one."""
        return self.current or (next(iter(self.contexts)) if len(self.contexts) == 1 else None)

    def without(self, name: str) -> ContextBook:
        left = {each: context for each, context in self.contexts.items() if each != name}
        return ContextBook(contexts=left, current=None if self.current == name else self.current)


def contexts_file(settings: Settings) -> Path:
    """Where the contexts are."""
    return settings.contexts_file or Path.home() / ".config" / "aragora" / "contexts.json"


def read_contexts(settings: Settings) -> ContextBook:
    """The contexts. Raises: `SettingsError` if their file can be read by others or holds something else."""
    path = contexts_file(settings)
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ContextBook()
    if S_IMODE(mode) & 0o077:
        raise SettingsError(f"{path} may hold tokens and can be read by others; run chmod 600 on it.")
    try:
        found = json.loads(text)
        contexts = {str(name): _context(values) for name, values in found["contexts"].items()}
        current = found["current"]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise SettingsError(f"{path} holds no contexts; remove it, and add them again.") from None
    return ContextBook(contexts=contexts, current=current if current in contexts else None)


def _context(values: Any) -> CliContext:
    """Raises: `TypeError` if the values are none of a context."""
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise TypeError
    known = {each.name for each in fields(CliContext)}
    return CliContext(**{name: value for name, value in values.items() if name in known})


@contextlib.contextmanager
def changing_contexts(settings: Settings) -> Iterator[list[ContextBook]]:
    """The contexts in a list of one, whose element is what the file holds afterwards; nothing is written if the block raises. Two
    commands do not change them at once.

    Raises: as `read_contexts`, `OSError` if the file cannot be written."""
    path = contexts_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.with_name(path.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = [read_contexts(settings)]
        yield held
        contexts = {
            name: {key: value for key, value in asdict(context).items() if value is not None}
            for name, context in held[0].contexts.items()
        }
        write_private(path, json.dumps({"current": held[0].current, "contexts": contexts}, indent=2) + "\n")


def chosen_context(settings: Settings) -> tuple[str, CliContext] | None:
    """The context that a command uses, with its name; None if it uses none.

    Raises: `SettingsError` if the one that is named is not there, if there are several and none is in use, or as
    `read_contexts`."""
    name = named_context.get() or settings.context
    if name is None and settings.api_url is not None:
        return None
    book = read_contexts(settings)
    if name is None:
        name = book.used
    if name is None and not book.contexts:
        return None
    if name is None:
        raise SettingsError(
            f"There are {len(book.contexts)} contexts and none is in use; run `aragora-cp context use NAME` with one of "
            f"{', '.join(sorted(book.contexts))}."
        )
    if name not in book.contexts:
        known = f"one of {', '.join(sorted(book.contexts))}" if book.contexts else "`aragora-cp context add` makes one"
        raise SettingsError(f"There is no context {name}; {known}.")
    return name, book.contexts[name]


def with_context(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """The settings with which a command calls the API: those of the context that it uses, if it uses one.
    ARAGORA_CLIENT_WORKSPACE, which is no secret, counts before the context's workspace.

    Raises: `SettingsError` as `chosen_context`, or if its token cannot be read."""
    found = chosen_context(settings)
    if found is None:
        return settings
    name, context = found
    token = _token(name, context, environment)
    changes: dict[str, Any] = {
        "api_url": context.url,
        "api_key": None if token is None else SecretStr(token),
        "client_workspace": settings.client_workspace or context.workspace,
    }
    if context.ca_file is not None:
        changes["client_ca_file"] = Path(context.ca_file)
    return settings.model_copy(update=changes)


def _token(name: str, context: CliContext, environment: Mapping[str, str]) -> str | None:
    if context.token_env is not None:
        found = environment.get(context.token_env, "").strip()
        if not found:
            raise SettingsError(f"The context {name} takes its token from {context.token_env}; set this variable.")
        return found
    return context.token if context.token_file is None else token_in_file(Path(context.token_file))


def token_in_file(path: Path) -> str:
    """The token that a file holds. Raises: `SettingsError` if it cannot be read, or holds none."""
    try:
        with path.open(encoding="utf-8") as file:
            return checked_token(file.read(MOST_TOKEN_CHARS + 1), str(path))
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is no text"
        raise SettingsError(f"{path}, which should hold a token, cannot be read ({why}); correct the path.") from None


def checked_token(text: str, source: str) -> str:
    """A token without the line end behind it. Raises: `SettingsError` if the text is none."""
    found = text.strip()
    if not found or len(found) > MOST_TOKEN_CHARS or not (found.isascii() and found.isprintable()) or " " in found:
        raise SettingsError(f"{source} does not hold one token and nothing else; put a token into it.")
    return found


def added(book: ContextBook, name: str, context: CliContext) -> ContextBook:
    """The book with a context, which is in use if none was."""
    return replace(book, contexts={**book.contexts, name: context}, current=book.used or name)
