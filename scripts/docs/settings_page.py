"""Writes docs/configuration.md from the settings: ``make docs``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import SecretStr

from cluster.setting_fields import CLIENT, LATER, PROCESS, STARTUP
from cluster.settings import CLIENT_NAMES, Settings, role_of, variable_name

HEAD = """# Configuration

`make docs` writes this page from `cluster/settings.py`, the only reader of the `ARAGORA_*` variables, and its parts:
`cluster/api_settings.py`, `cluster/retention_settings.py` and `cluster/region_settings.py`.

- The environment wins over the file that `ARAGORA_CONFIG_FILE` names (a JSON object of variable names and strings, mode
  0600), which wins over the defaults. `aragora-cp up` writes such a file for the processes that it starts, so that no
  secret is on a command line or in Ray's dashboard.
- A process with a bad value does not start, and says in one sentence which one. For an `ARAGORA_` name
  or a name in the file that is not a setting, the command line prints a warning with the nearest known name. An empty
  variable counts as unset.
- A process reads its settings once. Changes take effect when Ray is started with them (`aragora-cp up` again, or new
  pods): the supervisor then replaces every actor that runs with other settings.
- Lists are separated by commas, booleans are `true` or `false`, secrets are never printed.

**No effect yet** marks a variable that this version accepts and does not use, so that one environment serves this and
later versions.
"""

TAIL = f"""
## Variables of the client and of Ray

`{"`, `".join(CLIENT_NAMES)}` belong to the released client; this
project neither reads them nor warns about them. `RAY_ADDRESS` (URL of a Ray dashboard) makes `aragora-cp up` use that
cluster instead of starting one, with the token in the file that `RAY_AUTH_TOKEN_PATH` names: see [deployment](deploy.md).
"""

_ROLES = {
    LATER: "**No effect yet.**",
    CLIENT: "Read by the command line and by workers.",
    STARTUP: "Read by `aragora-cp`.",
    PROCESS: "Each process reads it when it starts.",
}

#: The groups of the page. Bases of the model come first in it, whatever a reader looks for first.
_ORDER = (
    "Stores",
    "Tasks and agents",
    "Calling agents",
    "API",
    "Metrics and logs",
    "Deployment",
    "Security",
    "Retention",
    "Regions",
)


def page() -> str:
    groups: dict[str, list[str]] = {}
    for name, info in Settings.model_fields.items():
        groups.setdefault(str(_extra(info)["group"]), []).append(_row(name, info))
    assert groups.keys() == set(_ORDER), "each group has its place in the page"
    header = "| Variable | Default | Meaning |\n|---|---|---|\n"
    sections = [
        f"\n## {group}\n\n{header}{''.join(rows)}" for group, rows in ((group, groups[group]) for group in _ORDER)
    ]
    return HEAD + "".join(sections) + TAIL


def _extra(info: Any) -> Mapping[str, Any]:
    extra: Mapping[str, Any] = info.json_schema_extra
    return extra


def _row(name: str, info: Any) -> str:
    sentences = [str(info.description), *_bounds(info), _ROLES.get(role_of(info), "")]
    if _extra(info)["unit"] in ("seconds", "bytes"):
        sentences.insert(1, f"In {_extra(info)['unit']}.")
    meaning = " ".join(sentence for sentence in sentences if sentence)
    return f"| `{variable_name(name, info)}` | {_shown(info)} | {meaning} |\n".replace("|}", "\\|}")


def _shown(info: Any) -> str:
    default = info.default
    if default is None or default == ():
        return "unset"
    if isinstance(default, tuple):
        default = ",".join(default)
    return f"`{str(default).lower() if isinstance(default, bool) else f'{default:g}' if isinstance(default, float) else default}`"


def _bounds(info: Any) -> Iterator[str]:
    """The constraints that the model checks, in words."""
    words = get_args(info.annotation)
    if words and all(isinstance(word, str) for word in words):
        yield f"One of {', '.join(f'`{word}`' for word in words)}."
    if SecretStr in words:
        yield "Secret."
    limits = {name: getattr(rule, name) for rule in info.metadata for name in ("gt", "ge", "le") if hasattr(rule, name)}
    if "gt" in limits:
        yield f"More than {limits['gt']}."
    if "ge" in limits and "le" in limits:
        yield f"{limits['ge']} to {limits['le']}."
    elif "ge" in limits:
        yield f"At least {limits['ge']}."


if __name__ == "__main__":
    sys.stdout.write(page())
