"""The front of the API, which is Serve's HAProxy: TLS, and the headers by which it tells a replica whose call it passes on.

The headers begin with ``x-aragora-front-``, a prefix that is the front's alone: it takes every such header out of what comes in.
Not all of ``x-aragora-``: clients name their workspace in X-Aragora-Workspace.

Replicas listen on ports of their own, so a header of that name proves nothing by itself. Beside it the front sends a proof that
only processes of this system have. `aragora-cp up` draws it at each start and keeps it in a file of mode 0600. Where Ray has
several nodes, the front of one node calls replicas of the others, so the proof is derived of Ray's own token, which all nodes
have, and which KubeRay draws for each cluster.

Standard library only: the program that stands in for HAProxy imports this.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

PREFIX: Final = "x-aragora-front-"
PROOF: Final = PREFIX + "proof"
ADDRESS: Final = PREFIX + "address"
CERTIFICATE: Final = PREFIX + "certificate"
#: By this variable HAProxy knows its proof, so that it is in no configuration and on no command line.
VARIABLE: Final = "FRONT_PROOF"
PROOF_FILE: Final = "front-proof"
#: In HAProxy's directory: certificate and key in one file, as HAProxy wants them, and the authority of clients.
PAIR: Final = "front.pem"
AUTHORITY: Final = "clients.pem"
#: Why the newest files are not served; absent while they are.
PROBLEM: Final = "certificate-problem"
#: On every answer: the API sets them, and HAProxy on those that it gives itself.
SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
#: Only where the client's call is encrypted. Not for subdomains, which may be others'.
HSTS: Final = ("strict-transport-security", "max-age=31536000")
#: Headers of answers that a page of another origin may read, beside those that it always may.
EXPOSED_HEADERS: Final = ("X-Trace-Id", "Location", "Retry-After")
_LABEL: Final = b"aragora front"


class FrontTls(NamedTuple):
    """The files of the settings. ``authority`` is None if clients are not asked for certificates."""

    certificate: str
    key: str
    authority: str | None = None


def rules(tls: FrontTls | None) -> str:
    """What the front does to every request before anything else."""
    certificate = ""
    if tls is not None and tls.authority is not None:
        # Not ssl_fc_has_crt, which is false on a resumed session.
        certificate = f"    http-request set-header {CERTIFICATE} %[ssl_c_der,base64] if {{ ssl_c_used }}\n"
    return (
        f"    http-request del-header {PREFIX} -m beg\n"
        f"    http-request set-header {PROOF} %[env({VARIABLE})]\n"
        f"    http-request set-header {ADDRESS} %[src]\n" + certificate
    )


def answer_rules(tls: FrontTls | None) -> str:
    """What the front does to every answer that lacks one of the headers, which are its own answers."""
    headers = [*SECURITY_HEADERS.items(), *([HSTS] if tls is not None else [])]
    return "".join(
        f'    http-after-response set-header {name} "{value}" unless {{ res.hdr({name}) -m found }}\n'
        for name, value in headers
    )


def cors_rules(origins: Sequence[str]) -> str:
    """The CORS headers of the front's own answers; those of replicas have theirs. ``origins`` are the settings' (``*``: all)."""
    if not origins:
        return ""
    any_page = "*" in origins
    page = "-m found" if any_page else f"-m str {' '.join(origins)}"
    condition = f"{{ var(txn.origin) {page} }} !{{ res.hdr(access-control-allow-origin) -m found }}"
    headers = {"access-control-expose-headers": f'"{", ".join(EXPOSED_HEADERS)}"'}
    if not any_page:
        headers |= {"access-control-allow-credentials": "true", "vary": "Origin"}
    # By this one the condition ends, so it comes last.
    headers["access-control-allow-origin"] = "*" if any_page else "%[var(txn.origin)]"
    return "    http-request set-var(txn.origin) req.hdr(origin)\n" + "".join(
        f"    http-after-response set-header {name} {value} if {condition}\n" for name, value in headers.items()
    )


def bind_options(tls: FrontTls, directory: Path) -> str:
    """The words after the address of the frontend's ``bind``."""
    clients = f" ca-file {directory / AUTHORITY} verify optional" if tls.authority is not None else ""
    return f" ssl crt {directory / PAIR}{clients} alpn h2,http/1.1 ssl-min-ver TLSv1.2"


def write_private(file: Path, text: str) -> None:
    """Writes a file whose mode is 0600 before anything is in it."""
    new = file.with_name(file.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
    new.replace(file)


def proof_of(environment: Mapping[str, str], directory: Path | None = None) -> str | None:
    """The proof of this system: the one that was drawn into HAProxy's directory, else that of Ray's token. None if there is
    neither: then the front's headers count for nothing."""
    drawn = _drawn(directory / PROOF_FILE) if directory is not None else None
    return drawn or _derived(environment)


def _drawn(file: Path) -> str | None:
    try:
        with file.open() as opened:
            found = os.fstat(opened.fileno())
            private = found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o600
            return opened.read() if private else None
    except OSError:
        return None


def _derived(environment: Mapping[str, str]) -> str | None:
    token = environment.get("RAY_AUTH_TOKEN", "")
    if not token:
        name = environment.get("RAY_AUTH_TOKEN_PATH") or Path(environment.get("HOME", "/"), ".ray", "auth_token")
        try:
            token = Path(name).read_text()
        except OSError:
            return None
    token = token.strip()
    return hmac.new(token.encode(), _LABEL, hashlib.sha256).hexdigest() if token else None


def front_tls(enabled: bool, certificate: Path | None, key: Path | None, authority: Path | None) -> FrontTls | None:
    """The files of the settings; None without TLS. Ray's processes have another working directory than `up`."""
    if not enabled or certificate is None or key is None:
        return None
    clients = str(authority.absolute()) if authority is not None else None
    return FrontTls(str(certificate.absolute()), str(key.absolute()), clients)
