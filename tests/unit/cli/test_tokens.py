"""What `aragora-cp tokens` refuses, in one sentence that says what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from typer import BadParameter

from cluster.cli.commands.tokens import create, revoke
from cluster.settings import SettingsError


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("ARAGORA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ARAGORA_DATA_DIR", str(tmp_path))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"subject": "key:x"}, "--subject"),
        ({"subject": "user:a b"}, "--subject"),
        ({"subject": "user:a@b", "expires": "30d"}, "ARAGORA_JWT_EXPIRY"),
        ({"subject": "user:a@b", "expires": "soon"}, "--expires"),
        ({"subject": "user:a@b", "role": "admin"}, "--workspace"),
    ],
    ids=str,
)
def test_a_token_that_would_not_count_is_not_made(options: dict[str, Any], said: str) -> None:
    given = {"expires": None, "workspace": None, "role": None, **options}
    with pytest.raises(BadParameter, match=said):
        create(**given)


def test_tokens_of_a_subject_of_another_issuer_are_revoked_but_not_made() -> None:
    subject = "user:subject/id.example/AbC%7C9"
    with pytest.raises(BadParameter, match="--subject"):
        create(subject=subject, expires=None, workspace=None, role=None)
    with pytest.raises(SettingsError, match="ARAGORA_DATABASE_URL"):  # the name was taken
        revoke(jti=None, subject=subject)
    with pytest.raises(BadParameter, match="HOST/SUB"):
        revoke(jti=None, subject="user:a/b")


def test_without_the_settings_nothing_is_made_or_revoked() -> None:
    with pytest.raises(SettingsError, match="ARAGORA_JWT_SECRET"):
        create(subject="user:a@b", expires=None, workspace=None, role=None)
    with pytest.raises(SettingsError, match="ARAGORA_DATABASE_URL"):
        revoke(jti="t", subject=None)
    with pytest.raises(BadParameter, match="--subject"):
        revoke(jti=None, subject=None)
