"""The terms by which what submitters wrote is found, as triggers of the database store them (migration 27)."""

from __future__ import annotations

from hashlib import sha256

from cluster.domain.base.conditions import Term


def stored_term(workspace: str, term: Term) -> bytes:
    """What the function ``search_term`` of the database makes of it."""
    text = f"{term.kind}{len(workspace)}:{workspace}{len(term.key)}:{term.key}{term.value}"
    return sha256(text.encode()).digest()[:16]
