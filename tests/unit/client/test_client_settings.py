"""The worker's reader of settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aragora_worker.settings import ClientSettings, SettingsError, load_client_settings


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.touch(0o600)
    file.write_text(
        json.dumps({"ARAGORA_API_URL": "http://file", "ARAGORA_API_KEY": "secret", "ARAGORA_BATCH_SIZE": "7"})
    )
    environ = {"ARAGORA_CONFIG_FILE": str(file), "ARAGORA_API_URL": "http://environment", "ARAGORA_BATCH_SIZE": ""}
    found = load_client_settings(environ)
    assert found == ClientSettings(api_url="http://environment", api_key="secret", batch_size=7)
    assert "secret" not in repr(found)


@pytest.mark.parametrize("content", ["", "[]", '{"ARAGORA_BATCH_SIZE": 7}', "\\udc80"])
def test_a_file_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.touch(0o600)
    file.write_text(content)
    with pytest.raises(SettingsError, match="ARAGORA_CONFIG_FILE"):
        load_client_settings({"ARAGORA_CONFIG_FILE": str(file)})


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text("{}")
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        load_client_settings({"ARAGORA_CONFIG_FILE": str(file)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_CONCURRENCY", "0"),
        ("WORKER_CONCURRENCY", "many"),
        ("WORKER_CONCURRENCY", "9" * 5000),
        ("BATCH_SIZE", "-1"),
        ("BATCH_SIZE", "1.5"),
        ("HTTP_PORT", "70000"),
        ("TLS_ENABLED", "perhaps"),
    ],
    ids=["zero", "no number", "endless", "negative", "fraction", "port", "switch"],
)
def test_a_bad_value_is_one_sentence_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"ARAGORA_{name}=") as refused:
        load_client_settings({f"ARAGORA_{name}": value})
    assert str(refused.value).endswith(".")
    assert len(str(refused.value)) < 200


def test_a_certificate_without_its_key_is_refused() -> None:
    with pytest.raises(SettingsError, match="go together"):
        load_client_settings({"ARAGORA_CLIENT_CERT_FILE": "/a"})
