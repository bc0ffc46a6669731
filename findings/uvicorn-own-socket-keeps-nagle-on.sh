#!/usr/bin/env bash
# Subject: uvicorn 0.54.0 from PyPI on CPython's own event loop (no uvloop); CPython 3.11 to 3.13 have the same line in asyncio.
# A good guess: a server's connections have TCP_NODELAY, as asyncio sets it for every TCP connection (since 3.6).
# Behaviour seen: only those of a listening socket that says it is TCP's. uvicorn binds its socket itself for `--workers`, `--reload`
# and `Server.run(sockets=…)`, with `socket.socket(family)`, whose `proto` is 0, which the accepted sockets inherit; asyncio
# compares `proto` with IPPROTO_TCP and leaves Nagle's algorithm on. What is written in two small parts may then wait for the other
# end's delayed acknowledgement, 40 ms on Linux. `asyncio.start_server(sock=socket.create_server(…))` does the same. uvloop sets the
# option in all cases.
# Output seen:
#   uvicorn, one process: TCP_NODELAY 1
#   uvicorn, socket of --workers: TCP_NODELAY 0
#   asyncio, host and port: TCP_NODELAY 1
#   asyncio, socket.create_server: TCP_NODELAY 0
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check uvicorn==0.54.0
cat > "$dir/run.py" <<'PY'
import asyncio
import http.client
import socket

import uvicorn


def nodelay(transport):
    sock = transport.get_extra_info("socket")
    return int(bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})


def ask(port):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/")
    connection.getresponse().read()
    return connection


async def of_uvicorn(own_socket):
    config = uvicorn.Config(app, host="127.0.0.1", port=0, loop="asyncio", lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    # What uvicorn's own command does before it starts its workers.
    sockets = [config.bind_socket()] if own_socket else None
    serving = asyncio.create_task(server.serve(sockets))
    while not server.started:
        await asyncio.sleep(0.01)
    listening = sockets or server.servers[0].sockets
    connection = await asyncio.to_thread(ask, listening[0].getsockname()[1])
    (protocol,) = server.server_state.connections
    found = nodelay(protocol.transport)
    connection.close()
    server.should_exit = True
    await serving
    return found


async def of_asyncio(**address):
    accepted = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda reader, writer: accepted.set_result(writer), **address)
    port = server.sockets[0].getsockname()[1]
    _, mine = await asyncio.open_connection("127.0.0.1", port)
    theirs = await accepted
    found = nodelay(theirs.transport)
    mine.close()
    theirs.close()
    server.close()
    return found


async def main():
    return [
        f"uvicorn, one process: TCP_NODELAY {await of_uvicorn(False)}",
        f"uvicorn, socket of --workers: TCP_NODELAY {await of_uvicorn(True)}",
        f"asyncio, host and port: TCP_NODELAY {await of_asyncio(host='127.0.0.1', port=0)}",
        f"asyncio, socket.create_server: TCP_NODELAY {await of_asyncio(sock=socket.create_server(('127.0.0.1', 0)))}",
    ]


got = asyncio.run(main())
print("\n".join(got))
assert got == [
    "uvicorn, one process: TCP_NODELAY 1",
    "uvicorn, socket of --workers: TCP_NODELAY 0",
    "asyncio, host and port: TCP_NODELAY 1",
    "asyncio, socket.create_server: TCP_NODELAY 0",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py"
