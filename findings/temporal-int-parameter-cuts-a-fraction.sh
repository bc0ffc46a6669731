#!/usr/bin/env bash
# Subject: temporalio 1.35.0 (PyPI), the Temporal Python SDK's default data converter, which makes the arguments of workflows and
# activities from their type hints.
# A good guess: the converter is strict where a value does not fit its hint, as it is for a text or a boolean: the attempt fails
# with a TypeError. Or it is lenient and hands over what came.
# Behaviour seen: a number with a fraction is cut for a hint of int, and nothing is said. A caller (of another SDK, say) that
# sends 2.9 starts the workflow with 2, and a share of 0.75 is 0. True becomes 1. The same holds inside dataclasses and lists. The
# text "2" for int, 1 for bool and 5 for str are refused. A union is tried from the left: int | float cuts too, float | int keeps
# the number.
# Output seen:
#   int: 2.9 -> 2, 0.75 -> 0, -0.5 -> 0, True -> 1, '2' -> TypeError
#   bool: 1 -> TypeError; str: 5 -> TypeError
#   int | float: 2.9 -> 2; float | int: 2.9 -> 2.9
#   dataclass: Budget(tokens=2, shares=[0, 1])
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check temporalio==1.35.0
cat > "$dir/run.py" <<'PY'
import asyncio
import dataclasses
from typing import Any

import temporalio.converter


@dataclasses.dataclass
class Budget:
    tokens: int
    shares: list[int]


async def taken(sent: Any, hint: Any) -> str:
    """What a function whose parameter has the hint gets of what was sent to it."""
    converter = temporalio.converter.default()
    payloads = await converter.encode([sent])
    try:
        return repr((await converter.decode(payloads, [hint]))[0])
    except TypeError as error:
        return type(error).__name__


async def main() -> list[str]:
    numbers = [f"{sent!r} -> {await taken(sent, int)}" for sent in (2.9, 0.75, -0.5, True, "2")]
    return [
        "int: " + ", ".join(numbers),
        f"bool: 1 -> {await taken(1, bool)}; str: 5 -> {await taken(5, str)}",
        f"int | float: 2.9 -> {await taken(2.9, int | float)}; float | int: 2.9 -> {await taken(2.9, float | int)}",
        f"dataclass: {await taken({'tokens': 2.9, 'shares': [0.75, 1.25]}, Budget)}",
    ]


got = asyncio.run(main())
print("\n".join(got))
assert got == [
    "int: 2.9 -> 2, 0.75 -> 0, -0.5 -> 0, True -> 1, '2' -> TypeError",
    "bool: 1 -> TypeError; str: 5 -> TypeError",
    "int | float: 2.9 -> 2; float | int: 2.9 -> 2.9",
    "dataclass: Budget(tokens=2, shares=[0, 1])",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py"
