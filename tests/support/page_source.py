"""What functions of the web page's source give, asked in Node, which has WebCrypto as browsers have it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any

from scripts.node_packages import NODE
from scripts.web_page import SOURCE

_SCRIPT = """
import { createInterface } from "node:readline";
const page = await import(process.argv[1]);
for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = { value: await page[process.argv[2]](...JSON.parse(line)) };
  } catch (error) {
    answer = { error: error.message };
  }
  console.log(JSON.stringify(answer));
}
"""


def page_calls(module: str, function: str, calls: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Of each call of a function of ``src/MODULE.ts`` its `value` (none if it is undefined), or the `error` that it raised."""
    # Warnings are off, since Node says of reading TypeScript that it is new.
    command: list[Any] = [NODE, "--no-warnings", "--input-type=module", "-e", _SCRIPT]
    done = subprocess.run(
        [*command, (SOURCE / "src" / f"{module}.ts").as_uri(), function],
        input="".join(json.dumps(list(call)) + "\n" for call in calls),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def page_reports(texts: Iterable[str], trusted: list[str] | None = None) -> list[dict[str, Any]]:
    """The report on the text of each receipt. ``trusted``: public keys in hex."""
    return [
        found["value"] for found in page_calls("receipts/verify", "verifyText", ([text, trusted] for text in texts))
    ]
