#!/usr/bin/env bash
# Subject: mcp 2.3.0 (PyPI), the MCP Python SDK: Streamable HTTP of protocol 2026-07-28, where a client cancels a call by closing
# its connection.
# A good guess: json_response=True changes the form of an answer (one JSON body for a stream of events), and nothing else.
# Behaviour seen: with streams, which is the default, a client that hangs up cancels the tool at once. With json_response=True
# nobody looks at the connection: the tool runs to its end, and its answer goes nowhere. A tool that holds something for its caller
# (a lock, a slot, a model) holds it on, and one that counts on being cancelled never is.
# Output seen:
#   streams: cancelled
#   JSON: ran to its end
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check mcp==2.3.0
cat > "$dir/run.py" <<'PY'
import asyncio
import logging
import socket

import uvicorn
from mcp import Client
from mcp.server.mcpserver import MCPServer

logging.disable()


async def outcome(json_response: bool) -> str:
    begun, may_end = asyncio.Event(), asyncio.Event()
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = MCPServer("hang-ups")

    @server.tool()
    async def wait() -> str:
        begun.set()
        try:
            await may_end.wait()
        except asyncio.CancelledError:
            ended.set_result("cancelled")
            raise
        ended.set_result("ran to its end")
        return "done"

    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = server.streamable_http_app(json_response=json_response, stateless_http=True)
        http = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        serving = asyncio.create_task(http.serve([listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        async with Client(url, mode="2026-07-28") as client:
            call = asyncio.create_task(client.call_tool("wait", {}))
            await begun.wait()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        # The client has closed all of its connections. A tool that is to be cancelled is so long before this.
        await asyncio.wait({ended}, timeout=3)
        may_end.set()
        found = await ended
        http.should_exit = True
        await serving
    return found


async def main() -> list[str]:
    return [f"streams: {await outcome(False)}", f"JSON: {await outcome(True)}"]


got = asyncio.run(main())
print("\n".join(got))
assert got == ["streams: cancelled", "JSON: ran to its end"], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py"
