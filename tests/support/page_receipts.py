"""What the web page says of receipts, asked of its own source in Node: the same WebCrypto as in browsers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from typing import Any

from scripts.node_packages import NODE
from scripts.web_page import SOURCE

_SCRIPT = """
import { createInterface } from "node:readline";
const { verifyText } = await import(process.argv[1]);
for await (const line of createInterface({ input: process.stdin })) {
  const [text, trusted] = JSON.parse(line);
  const { checks, redacted, recomputed } = await verifyText(text, trusted);
  console.log(JSON.stringify({ checks, redacted, recomputed }));
}
"""


def page_reports(texts: Iterable[str], trusted: list[str] | None = None) -> list[dict[str, Any]]:
    """The report on each text. ``trusted``: public keys in hex."""
    asked = "".join(json.dumps([text, trusted]) + "\n" for text in texts)
    # Warnings are off, since Node says of reading TypeScript that it is new.
    command: list[Any] = [NODE, "--no-warnings", "--input-type=module", "-e", _SCRIPT]
    done = subprocess.run(
        [*command, (SOURCE / "src" / "receipts" / "verify.ts").as_uri()],
        input=asked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]
