"""Classes of in-cluster agents are found in their source, which is not run."""

from __future__ import annotations

import ast
import gc
import sys
from pathlib import Path

import pytest

from cluster.domain.base.errors import InvalidRequest
from serve_app.in_cluster_classes import check_class, installed

_AGENT = "class A:\n    async def answer(self, question): ...\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The source of ``pack.inner.agents``. Whoever runs a module of the packages ends the process."""
    inner = tmp_path / "pack" / "inner"
    inner.mkdir(parents=True)
    for package in (inner, inner.parent):
        (package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return inner / "agents.py"


@pytest.mark.parametrize(
    "source",
    [
        _AGENT,
        "class A:\n    def work(self, task): ...\n",
        "class A:\n    answer = work = None\n",
        "class A(Base): ...",
        "@made\nclass A: ...",
        "class A:\n    def __getattr__(self, name): ...\n",
        "from elsewhere import A",
        "from elsewhere import B as A",
        "from elsewhere import *",
        "A = make()",
        "A: type = make()",
        "A, B = make()",
        "def A(): ...",
        "def __getattr__(name): ...",
        "globals()['A'] = make()",
        "exec(code)",
        "try:\n    import fast as A\nexcept ImportError:\n    A = None",
        "if True:\n    pass\nelse:\n    class A:\n        def work(self): ...",
    ],
)
def test_a_class_that_may_exist_is_accepted(module: Path, source: str) -> None:
    module.write_text(source)
    check_class("pack.inner.agents:A")


class _ParsesAtItsEnd:
    """In a cycle, so that the collector ends it."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        ast.parse("f(a)")


def test_a_finaliser_that_parses_meanwhile_fails_no_look(module: Path) -> None:
    module.write_text(_AGENT + "".join(f"x{n} = [a + b for a in y if (b := a)]\n" for n in range(2000)))
    thresholds = gc.get_threshold()
    for _ in range(3000):
        _ParsesAtItsEnd()
    gc.set_threshold(50)
    try:
        check_class("pack.inner.agents:A")
    finally:
        gc.set_threshold(*thresholds)
    assert gc.isenabled()


@pytest.mark.parametrize(
    "source",
    ["", "class B: ...", "class A: ...", "class A:\n    def answers(self): ...", "def f():\n    class A: ...",
     "print('A')", "import a.A", "class A(:", "\0", "if True:\n    class A: ..."],
)  # fmt: skip
def test_a_class_that_cannot_be_an_agent_is_refused(module: Path, source: str) -> None:
    module.write_text(source)
    with pytest.raises(InvalidRequest) as refused:
        check_class("pack.inner.agents:A")
    assert refused.value.code == "import_not_found"
    assert refused.value.message.endswith(".")


@pytest.mark.parametrize(
    "path", ["pack.inner.none:A", "pack.none.agents:A", "none_such:A", "pack.inner.agents.A:A", "pack..inner:A"]
)
def test_a_module_that_does_not_exist_is_refused(module: Path, path: str) -> None:
    module.write_text(_AGENT)
    with pytest.raises(InvalidRequest, match="no module"):
        check_class(path)


def test_a_source_that_changed_is_read_again(module: Path) -> None:
    module.write_text("")
    with pytest.raises(InvalidRequest):
        check_class("pack.inner.agents:A")
    module.write_text(_AGENT)
    check_class("pack.inner.agents:A")


def test_a_missing_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed("json")
    assert not installed("none_such")
    monkeypatch.setitem(sys.modules, "a2a", None)
    assert not installed("a2a")
