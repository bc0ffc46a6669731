"""The deployment guide's compose file: its environment, as printed, starts a control plane that lets nobody in unasked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guide_stores import guide_stores
from tests.support.system import RunningSystem

#: As in the guide, but for the hosts of the stores and the ports.
ENVIRONMENT = {"ARAGORA_ENABLE_METRICS": "true", "ARAGORA_LOG_LEVEL": "info"}


@pytest.fixture
def guide_stack(tmp_path: Path) -> Iterator[RunningSystem]:
    with guide_stores() as urls:
        stores = {"ARAGORA_DATABASE_URL": urls.database, "ARAGORA_REDIS_URL": urls.redis}
        system = RunningSystem(tmp_path / "data", ENVIRONMENT | stores)
        try:
            system.start()
            yield system
        finally:
            system.clean_up()


def test_the_guides_compose_environment_starts_as_printed(guide_stack: RunningSystem) -> None:
    guide_stack.wait_healthy()
    said = "\n".join(guide_stack.output)
    assert "warning: the password in ARAGORA_DATABASE_URL is weak: it has 4 characters" in said
    assert guide_stack.call("GET", "/api/control-plane/agents").status_code == 401
    made = guide_stack.cli("keys", "create", "--bootstrap")
    assert made.returncode == 0, made.stdout + made.stderr
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    assert guide_stack.call("GET", "/api/control-plane/agents", headers=headers).status_code == 200
    doctor = guide_stack.cli("doctor", "--json")
    assert '"passwords"' in doctor.stdout
    for text in (said, doctor.stdout, *guide_stack.logs().values()):
        assert ":pass@" not in text
