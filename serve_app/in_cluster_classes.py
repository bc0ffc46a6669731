"""Whether the class of an in-cluster agent exists: its source is read and never run, since importing it may block or end the
replica. What the source does not decide (a base class, a module in C) is left to the agent's first call."""

from __future__ import annotations

import ast
import functools
import gc
import importlib.util
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from cluster.domain.base.errors import InvalidRequest

_METHODS = ("answer", "work")
#: Calls that may bind any name.
_BIND_ANYTHING = ("exec(", "setattr(", "globals().")
_BLOCKS = (ast.If, ast.Try, ast.With, ast.For, ast.While)


def installed(package: str) -> bool:
    """Whether a package is installed. It is not imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def check_class(path: str) -> None:
    """Raises: `InvalidRequest` if there is no class ``module:name``, or it has neither an answer nor a work method."""
    module, _, name = path.partition(":")
    spec = _spec(module)
    if spec is None:
        raise InvalidRequest(
            f"There is no module {module} where the control plane runs; install it there.", "import_not_found"
        )
    if spec.origin is None or not spec.origin.endswith(".py"):
        return
    source = Path(spec.origin)
    try:
        tree = _parsed(source, source.stat().st_mtime_ns)
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidRequest(
            f"{module} cannot be read ({type(error).__name__}); correct it, then register again.", "import_not_found"
        ) from None
    _check_defined(tree, module, name)


def _spec(module: str) -> ModuleSpec | None:
    """Where the module is. `importlib.util.find_spec` would import the packages above it."""
    spec: ModuleSpec | None = None
    where: Sequence[str] | None = None
    full = ""
    for part in module.split("."):
        full = f"{full}.{part}" if full else part
        spec = PathFinder.find_spec(full, where)
        if spec is None:
            return None
        where = list(spec.submodule_search_locations or ())
    return spec


@functools.lru_cache(maxsize=64)
def _parsed(source: Path, changed_ns: int) -> ast.Module:
    """Without the collector: Python 3.11 fails a parse (`SystemError`) during which a finaliser parses something itself. That of
    asyncio's tasks does, when it logs the stack trace of an error that nobody has asked for."""
    text, collects = source.read_bytes(), gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        if collects:
            gc.enable()


def _check_defined(tree: ast.Module, module: str, name: str) -> None:
    found = [statement for statement in _statements(tree.body) if _binds(statement, name)]
    if not found:
        raise InvalidRequest(f"{module} has no class {name}; correct import_path.", "import_not_found")
    last = found[-1]
    if not isinstance(last, ast.ClassDef) or last.bases or last.keywords or last.decorator_list:
        return
    if not any(
        _binds(statement, method) for statement in _statements(last.body) for method in (*_METHODS, "__getattr__")
    ):
        raise InvalidRequest(
            f"{module}:{name} has neither an answer nor a work method; see docs/in-cluster-agents.md.",
            "import_not_found",
        )


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements of a block that run in its scope."""
    for statement in body:
        yield statement
        if isinstance(statement, _BLOCKS):
            for part in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(statement, part, ()))
            for handler in getattr(statement, "handlers", ()):
                yield from _statements(handler.body)


def _binds(statement: ast.stmt, name: str) -> bool:
    """Whether a statement binds the name, or may bind any."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return statement.name in (name, "__getattr__")
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return any(
            name == (alias.asname or alias.name.partition(".")[0]) or alias.name == "*" for alias in statement.names
        )
    if ast.unparse(statement).startswith("globals()["):
        return True
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return any(isinstance(node, ast.Name) and node.id == name for target in targets for node in ast.walk(target))
    return isinstance(statement, ast.Expr) and ast.unparse(statement).startswith(_BIND_ANYTHING)
