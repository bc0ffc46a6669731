"""Code of users and their jobs name a few modules; these names stay, wherever the code lives."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec

import pytest

import cluster.in_cluster
import cluster.worker
from aragora_worker import worker
from cluster.agent_transports import python_agent
from tests.support.docs import ROOT


@pytest.mark.parametrize(("public", "home"), [(cluster.worker, worker), (cluster.in_cluster, python_agent)])
def test_a_public_name_is_the_object_of_its_module(public: object, home: object) -> None:
    names = public.__all__
    assert names
    assert all(getattr(public, name) is getattr(home, name) for name in names)


_PACKAGES = "aragora_worker|cluster|actors|regions|serve_app"


def test_every_module_that_the_docs_import_or_run_is_there() -> None:
    pages = "\n".join(page.read_text() for page in [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"])
    imported = re.findall(rf"^\s*from ((?:{_PACKAGES})[\w.]*) import (.+)$", pages, re.MULTILINE)
    run = re.findall(r"-m ((?:cluster|actors|regions|serve_app|bench|tests|scripts)[\w.]*)", pages)
    assert imported
    assert run
    assert [name for name in run if find_spec(name) is None] == []
    assert [(m, n) for m, names in imported for n in names.split(", ") if not hasattr(import_module(m), n)] == []


_OURS = r"(?:clients|cluster|actors|regions|serve_app|scripts|tests|bench|kuberay)"
_FILE = re.compile(rf"`({_OURS}/(?:[\w./-]+\.(?:py|sql|md|ya?ml|json|sh)|(?:[\w-]+/)*))`")


def test_every_file_of_ours_that_the_docs_name_is_there() -> None:
    for page in [*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        assert [path for path in _FILE.findall(page.read_text()) if not (ROOT / path).exists()] == [], page.name
