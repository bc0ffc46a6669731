#!/usr/bin/env bash
# Subject: mcp 2.3.0 (PyPI), the MCP Python SDK: a tool of MCPServer with an argument of type "str | None", called by the SDK's
# own client.
# A good guess: a string that the tool's published input schema allows reaches the function as it was sent. An optional argument
# differs from a required one in that it may be left out.
# Behaviour seen: a string for an argument whose annotation is anything else than str alone is tried as JSON first. For "str |
# None" the text "null" arrives as None, and the call succeeds. A text that is an object or a list, such as the contents of a JSON
# file, is refused with "Input should be a valid string", though it is one and the schema allows it. For "str | list[str]" the
# text ["a"] arrives as a list. Numbers and booleans are left alone, and so is everything for a required str and for 'str = ""'.
# Output seen:
#   str: '{"a": 1}' -> '{"a": 1}', 'null' -> 'null', '12' -> '12'
#   str = "": '{"a": 1}' -> '{"a": 1}', 'null' -> 'null', '12' -> '12'
#   str | None: '{"a": 1}' -> refused, 'null' -> None, '12' -> '12'
#   str | list[str]: '["a"]' -> ['a']
#   the schema of the optional argument allows: string, null
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check mcp==2.3.0
cat > "$dir/run.py" <<'PY'
import asyncio
import logging

from mcp import Client
from mcp.server.mcpserver import MCPServer

logging.disable()
server = MCPServer("texts")


@server.tool()
def required(text: str) -> str:
    return repr(text)


@server.tool()
def defaulted(text: str = "") -> str:
    return repr(text)


@server.tool()
def optional(text: str | None = None) -> str:
    return repr(text)


@server.tool()
def either(text: str | list[str]) -> str:
    return repr(text)


async def main() -> list[str]:
    async with Client(server) as client:

        async def arrived(tool: str, *texts: str) -> str:
            answers = []
            for text in texts:
                result = await client.call_tool(tool, {"text": text})
                refused = result.is_error and "Input should be a valid string" in result.content[0].text
                answers.append(f"{text!r} -> {'refused' if refused else result.content[0].text}")
            return ", ".join(answers)

        schemas = {tool.name: tool.input_schema for tool in (await client.list_tools()).tools}
        allowed = [choice["type"] for choice in schemas["optional"]["properties"]["text"]["anyOf"]]
        texts = ('{"a": 1}', "null", "12")
        return [
            "str: " + await arrived("required", *texts),
            'str = "": ' + await arrived("defaulted", *texts),
            "str | None: " + await arrived("optional", *texts),
            "str | list[str]: " + await arrived("either", '["a"]'),
            f"the schema of the optional argument allows: {', '.join(allowed)}",
        ]


got = asyncio.run(main())
print("\n".join(got))
kept = """'{"a": 1}' -> '{"a": 1}', 'null' -> 'null', '12' -> '12'"""
assert got == [
    f"str: {kept}",
    f'str = "": {kept}',
    """str | None: '{"a": 1}' -> refused, 'null' -> None, '12' -> '12'""",
    """str | list[str]: '["a"]' -> ['a']""",
    "the schema of the optional argument allows: string, null",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py"
