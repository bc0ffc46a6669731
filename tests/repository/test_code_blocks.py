"""Every fenced block of the documents is run by a test of its page, or parsed here, or is in a table that says what it is.

Commands are parsed by the command line itself, calls are compared with the OpenAPI document, files have to be there.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import typer
import yaml
from starlette.routing import compile_path

from aragora_worker.command import parser as worker_parser
from cluster.cli.main import app
from tests.support.code_blocks import EXAMPLES, OTHERS, SHELLS, SHOWN, Block, blocks, commands
from tests.support.docs import ROOT
from tests.support.documented import documented

BLOCKS = blocks()
PLAIN = [block for block in BLOCKS if not block.mark and block.key not in SHOWN]
#: Languages of pictures and files, of which each has its reader.
#: What the command line raises for words that it does not take; its package has no name for it.
UsageError = typer.BadParameter.__mro__[1]
PICTURES = ("mermaid",)


def _of(*languages: str) -> list[Block]:
    return [block for block in PLAIN if block.language in languages]


def test_every_block_has_a_language_that_is_checked() -> None:
    known = {*SHELLS, *PICTURES, "json", "yaml", "python", "console", "dockerfile"}
    assert [block.where for block in PLAIN if block.language not in known] == []
    assert SHOWN.keys() - {block.key for block in BLOCKS} == set(), "the table names blocks that are not there"


def test_every_marked_block_is_run_by_a_test_of_its_page() -> None:
    tests = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    missing = [
        block.where
        for block in BLOCKS
        if block.mark and not any(block.page.split("/")[-1] in text and _names(text, block) for text in tests)
    ]
    assert missing == []


def _names(text: str, block: Block) -> bool:
    """Whether the text of a test takes blocks of this mark out of a page."""
    whole = f"{block.language} {block.mark}"
    return (
        f"```{whole}" in text
        or f'_blocks("{whole}")' in text
        or f'block("{block.language}", "{block.mark}")' in text
        or f'commands("{block.mark}"' in text
        or (block.mark.endswith((".py", ".yaml")) and f'"{block.mark}"' in text)
    )


def test_every_shell_block_is_understood_by_the_shell() -> None:
    """All in one shell, each as a function of its own, which a block that does not end cannot be."""
    shown = [f"block_{at}() {{\n{block.text}\n}} # {block.where}" for at, block in enumerate(_of(*SHELLS, "console"))]
    checked = subprocess.run(["bash", "-n"], input="\n".join(shown), text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_command_of_a_shell_block_could_be_run() -> None:
    wrong = [
        f"{block.where}: {' '.join(words)}: {problem}"
        for block in BLOCKS
        if block.language in (*SHELLS, "console") and block.key not in SHOWN
        for words in commands(block.text)
        if (problem := _problem(words)) is not None
    ]
    assert wrong == []


def test_no_command_is_excused_that_no_page_uses() -> None:
    used = {words[0] for block in BLOCKS if block.language in SHELLS for words in commands(block.text)}
    assert OTHERS.keys() - used == set()


def _problem(words: Sequence[str]) -> str | None:
    """Why a command cannot be run as it is written."""
    for word in words:
        if re.match(r"(kuberay|docs|serve_app|scripts)/[\w./-]+$", word) and not (ROOT / word).exists():
            return f"there is no {word}"
    match words[0]:
        case "aragora-cp":
            return _command_problem(words[1:])
        case "aragora-worker":
            return _worker_problem(words[1:])
        case "curl":
            return _call_problem(words[1:])
        case "make":
            targets = re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            return None if words[1] in targets else f"there is no target {words[1]}"
        case ".venv/bin/python":
            return None if importlib.util.find_spec(words[2]) else f"there is no module {words[2]}"
        case name:
            return None if name in OTHERS else "nothing is known of this command"


@cache
def _command_line() -> Any:
    return typer.main.get_command(app)


def _command_problem(words: Sequence[str]) -> str | None:
    if words[0] in ("--install-completion", "--show-completion"):
        return None  # to parse them is to do it
    command, given, parent = _command_line(), [*words], None
    while True:
        try:
            context = command.make_context(command.name, given, parent=parent, resilient_parsing=False)
        except typer.Exit:
            return None  # an option that says something and ends
        except UsageError as error:
            said = str(error.format_message())
            return None if said.endswith("does not exist.") else said  # a file that is the reader's
        if not hasattr(command, "get_command"):
            return None
        left = [*context._protected_args, *context.args]
        if not left:
            return None if command.invoke_without_command else "a command is missing"
        found = command.get_command(context, left[0])
        if found is None:
            return f"there is no command {left[0]}"
        command, given, parent = found, left[1:], context


def _worker_problem(words: Sequence[str]) -> str | None:
    try:
        worker_parser().parse_args(words)
    except SystemExit:
        return "aragora-worker does not take it"
    return None


_VALUED = ("-X", "-H", "-d", "--data-binary", "--data-urlencode", "-o")


def _call_problem(words: Sequence[str]) -> str | None:
    """Compares a call of curl with the routes, and its body with what the route takes."""
    url, given, at = "", dict[str, str](), 0
    while at < len(words):
        word = words[at]
        if word in _VALUED:
            given[word] = words[at + 1]
            at += 1
        elif not word.startswith("-"):
            url = word
        elif "G" in word and not word.startswith("--"):
            given["-X"] = "GET"
        at += 1
    if url.startswith("$"):
        return None
    path = re.sub(r"^(https?://)?[\w.:-]+", "", url).partition("?")[0]
    method = given.get("-X", "POST" if "-d" in given else "GET")
    operation = _operation(method, path)
    if operation is None:
        return f"there is no route {method} {path}"
    if "-d" not in given:
        return None
    return _body_problem(operation, given["-d"])


@cache
def _routes() -> list[tuple[str, Any, dict[str, Any]]]:
    paths = sorted(documented().document["paths"].items(), key=lambda item: item[0].count("{"))
    return [
        (method.upper(), compile_path(path)[0], operation)
        for path, operations in paths
        for method, operation in operations.items()
    ]


def _operation(method: str, path: str) -> dict[str, Any] | None:
    return next((operation for verb, pattern, operation in _routes() if verb == method and pattern.match(path)), None)


def _body_problem(operation: dict[str, Any], text: str) -> str | None:
    try:
        body = json.loads(text)
    except ValueError as error:
        return f"the body is not JSON: {error}"
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    error = next(documented()._compiled(schema).iter_errors(body), None)
    return None if error is None else f"{error.json_path}: {error.message}"


def test_every_json_block_is_json_and_bodies_are_what_their_routes_take() -> None:
    wrong, seen = {}, set()
    for block in _of("json"):
        try:
            values = [json.loads(block.text)]
        except ValueError:
            values = [json.loads(line) for line in block.text.splitlines()]  # lines of JSON, or no JSON
        kind = EXAMPLES.get(block.key)
        if kind is None:
            continue
        seen.add(block.key)
        if kind == "Error":
            problem = next(iter(documented().error.iter_errors(values[0])), None)
            wrong[block.where] = problem and problem.message
        else:
            method, _, path = kind.partition(" ")
            operation = _operation(method, f"/api/control-plane{path}")
            assert operation is not None, kind
            wrong[block.where] = _body_problem(operation, block.text)
    assert {where: problem for where, problem in wrong.items() if problem} == {}
    assert seen == EXAMPLES.keys()


def test_every_yaml_block_is_yaml() -> None:
    found = [list(yaml.safe_load_all(block.text)) for block in _of("yaml")]
    assert all(documents and documents[0] is not None for documents in found)


def test_every_dockerfile_builds_on_ours() -> None:
    for block in _of("dockerfile"):
        first, *steps = block.text.splitlines()
        assert first.startswith("FROM aragora/control-plane:")
        assert {step.split()[0] for step in steps} <= {"COPY", "ENV", "RUN", "USER"}


def _modules_of(page: str) -> set[str]:
    """The modules that blocks of a page are: they begin with their name."""
    texts = [block.text for block in BLOCKS if block.page == page and block.language == "python"]
    return {match[1] for text in texts if (match := re.match(r"# (\w+)\.py", text))}


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "python"], ids=lambda block: block.where
)
def test_every_python_block_compiles_and_imports_what_is_there(block: Block) -> None:
    compile(block.text, block.where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    shown = _modules_of(block.page)
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.module not in shown:
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
