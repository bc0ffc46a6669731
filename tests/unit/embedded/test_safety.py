"""What `aragora-cp up` decides about authentication, and the key of sealed secrets."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cluster.embedded.layout import EmbeddedError
from cluster.embedded.safety import sealing_key, with_authentication
from cluster.settings import load_settings

HOST, ENABLED = "ARAGORA_HTTP_HOST", "ARAGORA_AUTH_ENABLED"
GIVEN = {"ARAGORA_DATABASE_URL": "postgresql://h/d", "ARAGORA_REDIS_URL": "redis://h"}


@pytest.mark.parametrize(
    ("environment", "enabled"),
    [
        ({}, False),
        ({HOST: "localhost"}, False),
        ({HOST: "::1"}, False),
        ({"ARAGORA_DATABASE_URL": "postgresql://h/d"}, False),
        ({HOST: "0.0.0.0"}, True),
        ({HOST: "10.0.0.5"}, True),
        (GIVEN, True),
        ({**GIVEN, ENABLED: "false"}, False),
        ({ENABLED: "true"}, True),
    ],
    ids=str,
)
def test_authentication_is_off_only_for_a_trial_on_one_machine(environment: dict[str, str], enabled: bool) -> None:
    assert with_authentication(load_settings(environment)).auth_enabled is enabled


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "example.com", "::"])
def test_without_authentication_another_address_is_refused(host: str) -> None:
    with pytest.raises(EmbeddedError, match=ENABLED):
        with_authentication(load_settings({HOST: host, ENABLED: "false"}))


def test_the_key_of_secrets_is_made_once_and_private(tmp_path: Path) -> None:
    first, again = (sealing_key(tmp_path / "key") for _ in range(2))
    assert first == again
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert load_settings({"ARAGORA_SECRETS_KEY": first.get_secret_value()}).sealing_keys()
