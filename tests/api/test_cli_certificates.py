"""`aragora-cp ca` on the host, and an API that is put together with its authority."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cluster.postgres.migrate import migrate
from tests.api.test_cli import _one_sentence, _run
from tests.support.api import Api, api_settings
from tests.support.fronted import PROOF, fronted
from tests.support.probes import eventually
from tests.support.stores import StoreUrls, fresh_name

pytestmark = pytest.mark.slow


def read(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


async def test_a_certificate_is_issued_works_and_is_denied(store_urls: StoreUrls, tmp_path: Path) -> None:
    name = fresh_name()
    await migrate(store_urls.database, name)
    host = {
        "ARAGORA_DATABASE_URL": store_urls.database,
        "ARAGORA_REDIS_URL": store_urls.redis,
        "ARAGORA_DATABASE_SCHEMA": name,
        "ARAGORA_REGION": "test-region",
        "ARAGORA_DATA_DIR": str(tmp_path),
        "ARAGORA_TLS_TRUST_DOMAIN": "example.org",
    }
    _one_sentence(await _run("", "ca", "issue", "--agent", "a-1", **host), 5, "ca init")
    made = await _run("", "ca", "init", **host)
    authority = re.search(r"ARAGORA_TLS_CA_FILE=(\S+)", made.out)
    nameless = await _run("", "ca", "issue", "--server", " ,", **host)
    assert (nameless.code, nameless.out) == (2, "")
    assert "names nothing" in nameless.err
    issued = await _run("", "ca", "issue", "--agent", "a-1", **host)
    file = re.search(r"ARAGORA_CLIENT_CERT_FILE=(\S+)", issued.out)
    assert authority is not None, made
    assert file is not None, issued
    certificate = read(Path(file[1]))
    own = fronted(certificate.public_bytes(Encoding.DER))
    settings = api_settings(
        store_urls,
        name,
        auth_enabled=True,
        tls_enabled=True,
        tls_cert_file="/unused",
        tls_key_file="/unused",
        tls_ca_file=authority[1],
        tls_trust_domain="example.org",
    )
    async with Api(settings, front_proof=PROOF).running(()) as api:

        async def status() -> int:
            return (await api.call("POST", "/agents", {"agent_id": "a-1"}, headers=own)).status_code

        assert await status() == 201
        done = await _run("", "ca", "deny", f"{certificate.serial_number:X}", **host)
        assert done.code == 0, done

        async def is_denied() -> bool:
            return await status() == 401

        await eventually(is_denied, what="the denial")
