"""The files of TLS settings are checked before anything starts; each refusal names the setting and says what to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from cluster.embedded.layout import EmbeddedError
from cluster.embedded.safety import checked_tls, with_authentication
from cluster.http.front_files import UnusableFile, check_front_files, first_end
from cluster.process.front import FrontTls, proof_of, write_private
from cluster.settings import load_settings
from tests.support.authorities import Issuer

NOW = datetime.now(UTC)
ISSUER = Issuer()

#: Changes good files: gets their directory, in which server.pem, server.key and ca.pem are.
Change = Callable[[Path], object]


def _encrypt(files: Path) -> None:
    key = ISSUER.issue()
    key.write(files, "server")
    (files / "server.key").write_bytes(
        key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )


def _chain(*issuers: Issuer) -> Change:
    def change(files: Path) -> None:
        ISSUER.issue().write(files, "server")
        own = (files / "server.pem").read_bytes()
        more = [Path(issuer.file(files, "more")).read_bytes() for issuer in issuers]
        (files / "server.pem").write_bytes(own + b"".join(more))

    return change


GOOD: dict[str, Change] = {"a certificate alone": lambda _: None, "a chain": _chain(ISSUER)}
ODD: dict[str, tuple[Change, str]] = {
    "no certificate": (lambda files: (files / "server.pem").unlink(), "CERT_FILE .*cannot be read: No such file"),
    "a directory": (
        lambda files: ((files / "server.key").unlink(), (files / "server.key").mkdir()),
        "KEY_FILE .*cannot",
    ),
    "an empty file": (lambda files: (files / "server.pem").write_text(""), "CERT_FILE .*no certificates as PEM"),
    "the key instead": (
        lambda files: (files / "server.pem").write_bytes((files / "server.key").read_bytes()),
        "CERT_FILE .*no certificates as PEM",
    ),
    "the certificate as key": (
        lambda files: (files / "server.key").write_bytes((files / "server.pem").read_bytes()),
        "KEY_FILE .*no private key as PEM",
    ),
    "another's key": (
        lambda files: (files / "server.key").write_bytes(Path(ISSUER.issue().write(files, "x")[1]).read_bytes()),
        "KEY_FILE .*is not the key of ARAGORA_TLS_CERT_FILE",
    ),
    "an encrypted key": (_encrypt, "KEY_FILE .*encrypted"),
    "expired": (lambda files: ISSUER.issue(ends_in=timedelta(hours=-1)).write(files, "server"), "has expired"),
    "not valid yet": (lambda files: ISSUER.issue(ends_in=timedelta(days=9)).write(files, "server"), "not valid yet"),
    "a chain of others": (_chain(Issuer("Another authority")), "is no chain: its certificate 2"),
    "the chain twice": (_chain(Issuer("Another authority"), ISSUER), "is no chain: its certificate 2"),
    "no authority": (lambda files: (files / "ca.pem").unlink(), "CA_FILE .*cannot be read"),
    "no authority's certificate": (
        lambda files: ISSUER.issue().write(files, "ca"),
        "CA_FILE .*a certificate that is no authority's",
    ),
    "an expired authority": (
        lambda files: ISSUER.own(timedelta(hours=-1)).write(files, "ca"),
        "CA_FILE .*has expired",
    ),
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    ISSUER.issue().write(tmp_path, "server")
    ISSUER.file(tmp_path)
    return tmp_path


def tls_of(files: Path) -> FrontTls:
    return FrontTls(str(files / "server.pem"), str(files / "server.key"), str(files / "ca.pem"))


@pytest.mark.parametrize("change", GOOD.values(), ids=GOOD.keys())
def test_good_files_are_taken(files: Path, change: Change) -> None:
    change(files)
    check_front_files(tls_of(files), NOW)
    check_front_files(tls_of(files)._replace(authority=None), NOW)


@pytest.mark.parametrize(("change", "words"), ODD.values(), ids=ODD.keys())
def test_a_bad_file_is_refused_in_a_sentence(files: Path, change: Change, words: str) -> None:
    change(files)
    with pytest.raises(UnusableFile, match=words) as refused:
        check_front_files(tls_of(files), NOW)
    assert str(refused.value).startswith("ARAGORA_TLS_")
    assert str(refused.value).endswith(".")
    assert "PRIVATE KEY" not in str(refused.value)


def test_up_refuses_bad_files_before_it_starts_anything(files: Path) -> None:
    environment = {
        "ARAGORA_TLS_ENABLED": "true",
        "ARAGORA_TLS_CERT_FILE": str(files / "server.pem"),
        "ARAGORA_TLS_KEY_FILE": str(files / "server.key"),
        "ARAGORA_TLS_CA_FILE": str(files / "ca.pem"),
    }
    settings = load_settings(environment)
    assert checked_tls(settings) == tls_of(files)
    assert with_authentication(settings).auth_enabled  # agents' certificates would count for nothing without
    assert checked_tls(load_settings({})) is None
    (files / "server.key").unlink()
    with pytest.raises(EmbeddedError, match="ARAGORA_TLS_KEY_FILE"):
        checked_tls(settings)


def test_the_proof_is_the_drawn_one_else_of_rays_token(tmp_path: Path) -> None:
    token = {"RAY_AUTH_TOKEN": "t" * 64}
    derived = proof_of(token, tmp_path)
    assert derived is not None
    assert len(derived) == 64
    assert derived == proof_of(token)
    assert derived != proof_of({"RAY_AUTH_TOKEN": "u" * 64})
    (tmp_path / "token").write_text("t" * 64 + "\n")
    assert proof_of({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}) == derived
    write_private(tmp_path / "front-proof", "5e" * 32)
    assert (tmp_path / "front-proof").stat().st_mode & 0o777 == 0o600
    assert proof_of(token, tmp_path) == "5e" * 32
    (tmp_path / "front-proof").chmod(0o644)
    assert proof_of(token, tmp_path) == derived


@pytest.mark.parametrize("token", ["", " \n"])
def test_without_a_token_there_is_no_proof(tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token)
    assert proof_of({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"), "HOME": str(tmp_path)}) is None
    assert proof_of({"HOME": str(tmp_path)}, tmp_path) is None


def test_the_end_that_comes_first_is_known(tmp_path: Path) -> None:
    certificate, key = ISSUER.issue(ends_in=timedelta(hours=2)).write(tmp_path, "server")
    authority = ISSUER.file(tmp_path, "ca")
    front = FrontTls(certificate=str(certificate), key=str(key), authority=str(authority))
    assert 0 < first_end(front) - time.time() <= 2 * 3600
    (tmp_path / "server.pem").unlink()
    with pytest.raises(UnusableFile, match="cannot be read"):
        first_end(front)
