"""Writes docs/cli.md from the commands: ``make docs``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

HEAD = """# Command line

`make docs` writes this page from the commands; `aragora-cp COMMAND --help` says the same.

`up`, `down`, `demo` and `env` work on this machine's data directory (`ARAGORA_DATA_DIR`, `.aragora/` by default). Most other
commands are clients of the HTTP API and touch neither Ray nor a store. They call the API of the [context](#contexts) that
`--context` or `ARAGORA_CONTEXT` names; else the one that `ARAGORA_API_URL` names, with `ARAGORA_API_KEY` as a bearer token;
else that of the context in use; without contexts, the one that `up` started on the data directory; if none runs there,
`http://127.0.0.1:8080` (`ARAGORA_HTTP_HOST` and `ARAGORA_HTTP_PORT`). `doctor` also checks Ray and the stores themselves,
`batch submit` calls Ray's dashboard, and `evaluate`, `receipts verify`, `redact`, `prove` and `show` need no control plane.
What the API can do has a command, but for what workers, browsers, probes and senders of webhooks call.

Output is live on a terminal and plain lines in a pipe. A listing has one line for each item and cuts no id, however wide
the terminal is. `--json`, which every command has whose output is an answer, prints the API's answer and nothing else. Errors and
warnings go to standard error; a line that begins with `fix:` names the command that helps. Questions are asked on a terminal
only: in a pipe, what needs a yes is refused without `--yes`.

Every command that only reads has `--watch`: it looks every two seconds (`--interval`), prints again what has changed, and
with `--json` each change as one line. It goes on after an outage and ends with Ctrl-C. `events` prints each event of the log
instead. `tasks submit --wait`, `tasks wait`, `workflows run --wait`, `workflows wait` and `deliberate` show progress on
standard error, and their exit code is the outcome.

`up` and `demo` first ask the stores that `ARAGORA_DATABASE_URL` and `ARAGORA_REDIS_URL` name. If one cannot be used, they
say why within two seconds and start nothing. `ray status` works with the variables of `env`, but has nothing to show for a
Ray that `up` started, because that one has no autoscaler; `ray list nodes` and the dashboard do.

## Contexts

A context is a control plane with its URL, your workspace in it and where its token comes from. The first one that you add is
in use; `use` chooses another, `--context NAME` one for a single command, and the only one is taken without asking.

```bash
aragora-cp context add prod --url https://control.example.com --workspace team-a --token-file ~/.secrets/prod-token
aragora-cp context add staging --url https://staging.example.com --token-env STAGING_TOKEN
pass show aragora/lab | aragora-cp context add lab --url https://lab.example.com:8080 --token-stdin
aragora-cp context list                      # marks the one that commands use; shows no token
aragora-cp context use staging
aragora-cp --context prod tasks list
```

No token is an argument, since others on the machine can read those. `--token-file` and `--token-env` are read at each use, so
that tokens may be rotated; `--token-stdin` keeps the token in `~/.config/aragora/contexts.json` (0600,
`ARAGORA_CONTEXTS_FILE`), and asks for it if standard input is a terminal. Without any of the three the session of `aragora-cp
login` for the context's URL is sent. A context's URL gets that context's credential and no other: `ARAGORA_API_KEY`, which
may be of another control plane, is not sent there, unless the context has `--token-env ARAGORA_API_KEY`.
`ARAGORA_CLIENT_WORKSPACE` counts before the context's workspace. `up`, `down`, `demo`, `env`, `logs`, `region` and `keys
create --bootstrap` are about this machine's system and use no context.

## Shell completion

```bash
aragora-cp --install-completion              # for the shell that you are in: bash, zsh, fish or PowerShell
aragora-cp --show-completion bash > /etc/bash_completion.d/aragora-cp    # or where your machine keeps them
```

Commands, options and their values are completed; open a new shell afterwards.

## The live screen

`aragora-cp top` shows the queue, agents, deliberations, regions and components on one screen, and reads them every two
seconds. It needs the extra `top` (`pip install 'aragora-control-plane[top]'`) and a terminal, also one over SSH; below 130
columns a panel has the screen to itself.

| Key | What it does |
|---|---|
| 1 2 3 4, 0 | one panel: queue, agents, deliberations, regions; all panels |
| Tab, arrows, Page Up, Page Down | the next panel; the rows |
| Enter | more of a row: why a task waits, and its story; Esc goes back |
| r, p | look now; hold, and go on |
| q | quit |

A panel has at most 200 rows; its title has the count. What your role may not read is said in its panel, and the others are
shown. The region's role, epoch and lag come from the leader's socket, so they are shown where the region runs; elsewhere the
agents of each region are.

## Exit codes

| Code | Meaning |
|---|---|
| 0 | done; for `deliberate` and `demo`: a decision was reached; for `regions demo`: nothing acknowledged is lost |
| 1 | the control plane refused the request, or failed; for `receipts verify`: a check failed |
| 2 | wrong usage; for `regions demo`: etcd is not installed |
| 3 | the deliberation ended without consensus |
| 4 | the control plane cannot be reached or is not ready; for `status`, `doctor`: something is not healthy |
| 5 | this machine or its settings do not allow it (a port in use, a bad variable); `region scan-residency`: a file was not read |
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
aragora-cp tasks explain "$id"                   # why it waits; `aragora-cp story "$id"` tells all that happened to it
aragora-cp tasks list --watch                    # or everything at once: aragora-cp top
aragora-cp dlq list && aragora-cp dlq replay ID  # what failed for good, and once more
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
