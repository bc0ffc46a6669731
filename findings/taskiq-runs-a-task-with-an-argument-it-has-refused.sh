#!/usr/bin/env bash
# Subject: taskiq 0.13.0 (PyPI), the worker's parsing of arguments by the annotations of the task (on by default).
# A good guess: an argument that its annotation refuses ends the task with the validation error, as pydantic would in a route of
# FastAPI; or nothing is checked, as in plain Python.
# Behaviour seen: annotations are checked and what fits is converted ("5" becomes 5), but what does not fit is only logged, and the
# task runs with the value as it came: a text where the function says int. The result is a success. So a function gets values of
# the type that it names, or of any other, and its own error, if there is one, comes from the middle of its work.
# Output seen:
#   '5' for int: int 5, error None
#   2.5 for int: float 2.5, error None
#   'many' for int: str 'many', error None
#   {'cents': 'many'} for a dataclass: dict {'cents': 'many'}, error None
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check taskiq==0.13.0
cat > "$dir/run.py" <<'PY'
import asyncio
import dataclasses
import logging

from taskiq import InMemoryBroker

logging.disable()
broker = InMemoryBroker()


@dataclasses.dataclass
class Price:
    cents: int


@broker.task
async def count(number: int) -> str:
    return f"{type(number).__name__} {number!r}"


@broker.task
async def pay(price: Price) -> str:
    return f"{type(price).__name__} {price!r}"


async def main() -> list[str]:
    await broker.startup()
    lines = []
    for task, sent, hint in (
        (count, "5", "int"),
        (count, 2.5, "int"),
        (count, "many", "int"),
        (pay, {"cents": "many"}, "a dataclass"),
    ):
        result = await (await task.kiq(sent)).wait_result(timeout=10)
        lines.append(f"{sent!r} for {hint}: {result.return_value}, error {result.error}")
    await broker.shutdown()
    return lines


got = asyncio.run(main())
print("\n".join(got))
assert got == [
    "'5' for int: int 5, error None",
    "2.5 for int: float 2.5, error None",
    "'many' for int: str 'many', error None",
    "{'cents': 'many'} for a dataclass: dict {'cents': 'many'}, error None",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py"
