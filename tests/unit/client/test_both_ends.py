"""What the worker's package and the control plane have to agree on without sharing it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from typing import Any

import pytest

import aragora_worker
from aragora_worker.errors import is_for_later
from aragora_worker.reports import MALFORMED
from aragora_worker.settings import ClientSettings, load_client_settings
from cluster.domain.base import errors
from cluster.domain.base.errors import TryLater
from cluster.domain.tasks.retries import ErrorClass
from cluster.settings import load_settings
from cluster.version import VERSION
from tests.support.docs import ROOT
from tests.support.pythons import WORKER

ENVIRONMENTS: tuple[dict[str, str], ...] = (
    {},
    {
        "ARAGORA_API_URL": "https://control.example.com",
        "ARAGORA_API_KEY": "a-key",
        "ARAGORA_CLIENT_WORKSPACE": "w1",
        "ARAGORA_CLIENT_CA_FILE": "ca.pem",
        "ARAGORA_CLIENT_CERT_FILE": "own.pem",
        "ARAGORA_CLIENT_KEY_FILE": "own.key",
        "ARAGORA_WORKER_CONCURRENCY": "3",
        "ARAGORA_BATCH_SIZE": "7",
        "ARAGORA_HTTP_PORT": "9000",
    },
    {"ARAGORA_TLS_ENABLED": "Yes", "ARAGORA_TLS_CERT_FILE": "/a.pem", "ARAGORA_TLS_KEY_FILE": "/a.key"},
    {"ARAGORA_TLS_ENABLED": "0", "ARAGORA_API_URL": ""},
)


def _plain(value: Any) -> Any:
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


@pytest.mark.parametrize("environ", ENVIRONMENTS, ids=["nothing", "a client's", "a server's", "switched off"])
def test_both_read_the_environment_alike(environ: dict[str, str]) -> None:
    light, full = load_client_settings(environ), load_settings(environ)
    names = ClientSettings.__slots__
    assert {name: getattr(light, name) for name in names} == {name: _plain(getattr(full, name)) for name in names}


def test_every_retryable_error_code_is_known() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TryLater)]
    assert len(kinds) > 4
    assert all(is_for_later(kind.default_code) for kind in kinds)
    assert not is_for_later("lease_lost")
    assert not is_for_later(None)


def test_a_result_that_is_none_has_the_class_that_the_server_knows() -> None:
    assert MALFORMED == ErrorClass.MALFORMED


def test_both_packages_have_one_version() -> None:
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    workers = tomllib.loads((WORKER / "pyproject.toml").read_text())["project"]
    assert workers["version"] == VERSION
    assert f"aragora-worker=={VERSION}" in ours["dependencies"]
    assert (WORKER / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_every_name_of_the_package_is_there() -> None:
    names = aragora_worker.__all__
    assert {name for name in names if getattr(aragora_worker, name).__name__ != name} == set()
    with pytest.raises(AttributeError):
        _ = aragora_worker.Nothing


def test_what_both_share_loads_no_client() -> None:
    """Each process of the control plane imports it."""
    program = (
        "import sys, cluster.domain.base.errors; print([name for name in ('httpx', 'asyncio') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "[]\n", ran.stderr
