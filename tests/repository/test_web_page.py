"""The committed web page is what its source gives, and no lock file of npm names a host."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.node_packages import NotInstalled
from scripts.web_page import SOURCE, build, checkout, types
from serve_app.ui.bundle import BUNDLE
from tests.support.docs import ROOT

LOCKS = sorted(path for path in ROOT.rglob("package-lock.json") if not {"node_modules", ".venv"} & set(path.parts))


@pytest.fixture(scope="module")
def source() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield checkout(Path(folder))
        except NotInstalled as error:
            pytest.skip(f"Vite cannot be installed from an npm registry: {error}")


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_committed_page_is_what_its_source_gives(source: Path, tmp_path: Path) -> None:
    build(source, tmp_path / "built")
    found, committed = _files(tmp_path / "built"), _files(BUNDLE)
    assert found.keys() == committed.keys(), "the page is stale: run `make page` and commit it"
    assert found == committed, "the page is stale: run `make page` and commit it"


def test_the_compiler_finds_nothing_in_the_page(source: Path) -> None:
    assert types(source) == ""


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_lock_file_names_a_host(lock: Path) -> None:
    assert SOURCE / "package-lock.json" in LOCKS
    assert '"resolved"' not in lock.read_text()
