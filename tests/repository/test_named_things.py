"""What README, CONTRIBUTING, the architecture, the glossary and the decisions put in backticks exists: paths and identifiers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.docs import ROOT, VARIABLES

ROOMS = ("actors", "bench", "cluster", "docs", "findings", "kuberay", "regions", "scripts", "serve_app", "tests")
PAGES = ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/glossary.md", "docs/adr/*.md")
SOURCES = (".py", ".sql", ".sh", ".yaml", ".toml")
#: What belongs to other software, or is made at run time.
OTHERS = {
    "pg_snapshot": "PostgreSQL",
    "pg_statistic": "PostgreSQL",
    "wrk": "the load generator of a decision's figures",
    "max_pending_calls": "Ray",
    "ActorUnavailableError": "Ray",
    "run.json": "written by `aragora-cp up`",
    ".site/html": "written by `make site`",
    "application/jwt": "a media type",
}

_PATH = re.compile(r"\.?\w[\w.-]*(/[\w.-]*)+")
_FILE = re.compile(r"[\w-]+\.(md|py|sql|yaml|json|toml|sh)")
_MEMBER = re.compile(r"([A-Z]\w*)\.([a-z_]\w*)(\(\))?")


@cache
def _files() -> dict[str, Path]:
    found = [path for room in ROOMS for path in (ROOT / room).rglob("*") if "__pycache__" not in path.parts]
    return {f"/{path.relative_to(ROOT)}": path for path in [*found, *ROOT.glob("[!.]*")]}


@cache
def _sources() -> dict[str, str]:
    """The text of each source but this one, whose exceptions are no proof."""
    files = [path for path in _files().values() if path.suffix in SOURCES and path != Path(__file__).resolve()]
    return {str(path): path.read_text() for path in [*files, ROOT / "Makefile", ROOT / "Dockerfile", ROOT / ".ci/run"]}


@cache
def _words() -> frozenset[str]:
    words = {word for text in _sources().values() for word in re.findall(r"[A-Za-z_]\w*", text)}
    return frozenset(words | VARIABLES | OTHERS.keys())


def _is_there(name: str) -> bool:
    """Whether a path exists, from the root or, as in the table of rooms, from a folder that the sentence is about."""
    name = name.rstrip("/")
    return (ROOT / name).exists() or any(path.endswith(f"/{name}") for path in _files())


def _missing(token: str) -> str | None:
    """Why a token names nothing that exists."""
    if token in OTHERS:
        return None
    if _PATH.fullmatch(token) or _FILE.fullmatch(token):
        return None if _is_there(token) else "no such file"
    member = _MEMBER.fullmatch(token)
    if member is not None:
        owners = [text for text in _sources().values() if re.search(rf"\bclass {member[1]}\b", text)]
        if owners and not any(re.search(rf"\b{member[2]}\b", text) for text in owners):
            return f"{member[1]} has no {member[2]}"
    unknown = [word for word in re.findall(r"[A-Za-z_]\w*", token) if word not in _words()]
    return f"nothing is called {', '.join(unknown)}" if unknown else None


def _tokens(text: str) -> Iterator[str]:
    prose = re.sub(r"^```.*?^```$|^ {4}[^\n]*$", "", text, flags=re.MULTILINE | re.DOTALL)
    return (token.strip() for token in re.findall(r"`([^`\n]+)`", prose))


def test_what_the_pages_name_exists() -> None:
    pages = [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))]
    found = [(page, token) for page in pages for token in _tokens(page.read_text())]
    assert len(found) > 500
    missing = {f"{page.relative_to(ROOT)}: {token}": why for page, token in found if (why := _missing(token))}
    assert missing == {}


@pytest.mark.parametrize(
    "token",
    [
        "cluster/domain/tasks/steps_of_old.py",
        "steps_of_old.py",
        "LeaseTable.let_it_go",
        "LEAD_" + "TTL_S",
        "ARAGORA_OF_" + "OLD",
        "tests/support/probes.eventually",
    ],
)
def test_what_does_not_exist_is_found(token: str) -> None:
    assert _missing(token) is not None


@pytest.mark.parametrize(
    "token", ["cluster/domain/tasks/steps.py", "steps.py", "routes/", "LeaseTable.renew", "ARAGORA_REDIS_URL"]
)
def test_what_exists_is_not_reported(token: str) -> None:
    assert _missing(token) is None


def test_code_blocks_are_left_out() -> None:
    assert list(_tokens("a `b`\n\n    c `d`\n\n```\n`e`\n```\n")) == ["b"]
