"""Writes docs/cli.md from the commands: ``make docs``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

HEAD = """# Command line

`make docs` writes this page from the commands; `aragora-cp COMMAND --help` says the same.

`up`, `down`, `demo` and `env` work on this machine's data directory (`ARAGORA_DATA_DIR`, `.aragora/` by default). Most
other commands are clients of the HTTP API and touch neither Ray nor a store. They call the API that `ARAGORA_API_URL`
names; if it is not set, the one that `up` started on the data directory; if none runs there, `http://127.0.0.1:8080`
(`ARAGORA_HTTP_HOST` and `ARAGORA_HTTP_PORT`). `ARAGORA_API_KEY` is sent as a bearer token. `doctor` also checks Ray and the
stores themselves, `batch submit` calls Ray's dashboard, and `evaluate`, `receipts verify`, `redact`, `prove` and `show`
need no control plane.

Output is live on a terminal and plain lines in a pipe. A listing has one line for each item and cuts no id, however wide
the terminal is. `--json` prints the API's answer and nothing else; errors and
warnings go to standard error.

`up` and `demo` first ask the stores that `ARAGORA_DATABASE_URL` and `ARAGORA_REDIS_URL` name. If one cannot be used, they
say why within two seconds and start nothing. `ray status` works with the variables of `env`, but has nothing to show for a
Ray that `up` started, because that one has no autoscaler; `ray list nodes` and the dashboard do.

## Exit codes

| Code | Meaning |
|---|---|
| 0 | done; for `deliberate` and `demo`: a decision was reached; for `regions demo`: nothing acknowledged is lost |
| 1 | the control plane refused the request, or failed; for `receipts verify`: a check failed |
| 2 | wrong usage; for `regions demo`: etcd is not installed |
| 3 | the deliberation ended without consensus |
| 4 | the control plane cannot be reached or is not ready; for `status`, `doctor`: something is not healthy |
| 5 | this machine or its settings do not allow it (a port in use, a bad variable, a store that does not start) |
| 6 | the receipt is valid, but its decision cannot be recomputed |
| 7 | the task that was waited for (`tasks wait`, `tasks submit --wait`) failed |
| 8 | the task that was waited for was cancelled |
| 9 | the task that was waited for took too long |
| 130 | interrupted; 143 when `demo` was terminated |

## A session

```bash
aragora-cp up                                    # in another terminal, until it says "Ready."
aragora-cp status
aragora-cp agents register reviewer-1 --capabilities debate,code
aragora-cp deliberate "Tea or coffee?" --options tea,coffee    # prints the deliberation's id
aragora-cp deliberations list                    # and show, cancel, transcript, outcome, receipt
id=$(aragora-cp tasks submit review --payload '{"pr": 17}' --key review-17)
aragora-cp tasks wait "$id"                      # prints its result; or `tasks submit --wait`
eval "$(aragora-cp env)"                         # addresses and token, for `ray job submit`, `ray status`, `serve`
aragora-cp down                                  # --delete-data also deletes the state
```

## Commands
"""


def page() -> str:
    from cluster.cli.main import app

    return HEAD + "".join(_sections(typer.main.get_command(app), "aragora-cp"))


def _sections(command: Any, name: str) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if children is not None:
        for child_name, child in children.items():
            yield from _sections(child, f"{name} {child_name}")
        return
    parameters = [param for param in command.params if param.name != "help"]
    arguments = "".join(
        f" {_argument(parameter)}" for parameter in parameters if parameter.param_type_name == "argument"
    )
    shown = (command.help or "").partition("\f")[0]  # as `--help` does: what follows is for readers of the code
    yield f"\n### `{name}{arguments}`\n\n{' '.join(shown.split())}\n"
    options = [parameter for parameter in parameters if parameter.param_type_name == "option"]
    if options:
        yield "\n| Option | Default | Meaning |\n|---|---|---|\n"
        yield from (_option(option) for option in options)


def _argument(parameter: Any) -> str:
    name = str(parameter.name).upper()
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    flag = bool(parameter.is_flag)
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    shown = "" if flag or parameter.default is None else f"`{parameter.default}`"
    return f"| {names} | {shown} | {getattr(parameter, 'help', None) or ''} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
