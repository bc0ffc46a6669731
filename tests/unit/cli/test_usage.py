"""Wrong usage of every command exits 2, and asks nobody first."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cluster.cli.exit_codes import USAGE, guarded
from cluster.cli.main import app

#: A value that no number is.
WORD = "nope"

#: Texts that Python reads as floats.
NO_NUMBERS = ("nan", "inf", "-inf")
#: Options whose whole numbers have no bounds.
UNBOUNDED = {("evaluate", "--seed")}

#: What the parser alone cannot find: options that exclude or need each other, and texts of a form.
TOGETHER = [
    ("ca", "issue"),
    ("ca", "issue", "--agent", "a", "--server", "b"),
    ("ca", "issue", "--agent", "a/b"),
    ("ca", "issue", "--agent", ""),
    ("ca", "issue", "--server", " , "),
    ("ca", "deny", "xyz"),
    ("ca", "deny", "0"),
    ("tokens", "create", "someone"),
    ("tokens", "create", "user:a@b.de", "--role", "viewer"),
    ("tokens", "create", "user:a@b.de", "--expires", "soon"),
    ("tokens", "create", "user:a@b.de", "--expires", "0m"),
    ("tokens", "revoke"),
    ("tokens", "revoke", "j", "--subject", "user:a@b.de"),
    ("tokens", "revoke", "--subject", "a@b.de"),
    ("evaluate",),
    ("evaluate", "--replay", "missing.jsonl"),
    ("evaluate", "--votes", "missing.jsonl", "--panels", "missing.json"),
    ("outcomes", "import", "FILE", "--split", "some"),
    ("receipts", "verify", "missing.json"),
    ("receipts", "verify", "FILE", "--key", "no key"),
    ("batch", "run", "missing.jsonl", "--out", "out.jsonl"),
    ("keys", "create", "A key"),
    ("keys", "create", "A key", "--grants", "viewer", "--expires-days", "0"),
    ("keys", "create", "A key", "--grants", "viewer", "--expires-days", "367"),
    ("queue", "limit", "q"),
    ("queue", "prioritize", "t1"),
    ("dlq", "replay"),
    ("dlq", "replay", "t1", "--all"),
    ("dlq", "purge"),
    ("tasks", "get", ".."),
    ("tasks", "get", ""),
    ("agents", "show", "."),
    ("deliberations", "show", ".."),
    ("worker", "run", "json:nothing"),
    ("worker", "run", "no_such_module:f"),
    ("worker", "run", "logging:os"),
    ("worker", "run", "math:pi"),
    ("worker", "run", "json:__all__"),
    ("worker", "run", "odd_worker:worker"),
    ("worker", "run", "json:dumps", "--concurrency", "0"),
    ("worker", "run", "json:dumps", "--concurrency", "100000"),
    ("worker", "run", "json:dumps", "--agent-id", "a b"),
    ("worker", "run", "made_worker:worker", "--agent-id", "b"),
    ("worker", "run", "made_worker:worker", "--drain-seconds", "30"),
    ("queue", "weight", "t", "0"),
]


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        yield path, command
    for name, part in getattr(command, "commands", {}).items():
        yield from _leaves(part, (*path, name))


def _wrong(path: tuple[str, ...], command: Any) -> Iterator[tuple[str, ...]]:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    needed = [argument for argument in arguments if argument.required]
    yield (*path, "--no-such-option")
    if needed:
        yield path
    if all(argument.nargs != -1 for argument in arguments):
        yield (*path, *["x"] * (len(arguments) + 1))
    for option in (parameter for parameter in command.params if parameter.param_type_name == "option"):
        name = next(name for name in option.opts if name.startswith("--"))
        if option.is_flag:
            yield (*path, *["x"] * len(needed), f"{name}={WORD}")
            continue
        yield (*path, *["x"] * len(needed), name)
        if option.min is not None or option.max is not None:
            yield (*path, *["x"] * len(needed), name, WORD)
            yield (*path, *["x"] * len(needed), name, "-1000000")


def _numeric(path: tuple[str, ...], command: Any) -> Iterator[tuple[str, Any]]:
    for parameter in command.params:
        if parameter.type_descriptor.annotation in (int, float):
            yield next((name for name in parameter.opts if name.startswith("--")), parameter.name), parameter


COMMAND = typer.main.get_command(app)
LEAVES = dict(_leaves(COMMAND))
CASES = [case for path, command in LEAVES.items() for case in _wrong(path, command)]


def _exit_code(words: tuple[str, ...]) -> Any:
    with pytest.raises(SystemExit) as ended:
        guarded(lambda: COMMAND(list(words)))
    return ended.value.code


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No control plane and no stores: whoever asks them ends with another code."""
    (tmp_path / "FILE").write_text("{}")
    (tmp_path / "odd_worker.py").write_text(
        "from aragora_worker.worker import Worker\nworker = Worker('w', drain_s=-1)\n"
    )
    (tmp_path / "made_worker.py").write_text("from aragora_worker.worker import Worker\nworker = Worker('w')\n")
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "ARAGORA_API_URL": "http://127.0.0.1:9",
        "ARAGORA_DATA_DIR": str(tmp_path / "data"),
        "ARAGORA_DATABASE_URL": "postgresql://u:p@127.0.0.1:9/d",
        "ARAGORA_REDIS_URL": "redis://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)


def test_wrong_arguments_and_options_of_every_command_exit_2() -> None:
    assert len(LEAVES) > 60
    found = {" ".join(case): code for case in CASES if (code := _exit_code(case)) != USAGE}
    assert found == {}


def test_options_that_a_made_worker_would_not_have_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Also those that were given their default value; the others are not named."""
    words = ("worker", "run", "made_worker:worker", "--task-types", "a", "--drain-seconds", "30", "--concurrency=2")
    assert _exit_code(words) == USAGE
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    for name in ("--task-types", "--drain-seconds", "--concurrency", "made_worker:worker is a Worker"):
        assert name in said
    assert "--agent-id" not in said
    assert "--capabilities" not in said


def test_every_number_has_a_lower_bound() -> None:
    found = {
        (" ".join(path), name)
        for path, command in LEAVES.items()
        for name, parameter in _numeric(path, command)
        if parameter.min is None
    }
    assert found == UNBOUNDED


def test_a_float_that_is_no_finite_number_exits_2() -> None:
    found, count = {}, 0
    for path, command in LEAVES.items():
        needed = [each for each in command.params if each.param_type_name == "argument" and each.required]
        for name, parameter in _numeric(path, command):
            if parameter.type_descriptor.annotation is not float:
                continue
            count += 1
            for word in NO_NUMBERS:
                words = [word if each.name == name else "x" for each in needed]
                if name.startswith("--"):
                    words += [name, word]
                case = (*path, "--", *words) if not name.startswith("--") else (*path, *words)
                if (code := _exit_code(case)) != USAGE:
                    found[" ".join(case)] = code
    assert count > 10
    assert found == {}


@pytest.mark.parametrize("words", TOGETHER, ids=" ".join)
def test_options_that_do_not_go_together_exit_2(words: tuple[str, ...]) -> None:
    assert _exit_code(words) == USAGE
