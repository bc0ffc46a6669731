"""The generated pages are what their generators write now, and say what matters."""

from __future__ import annotations

import re
import tomllib

import pytest
from fastapi.routing import APIRoute

from cluster.cli import exit_codes
from cluster.domain.consensus.rule import Mode
from cluster.domain.deliberation.config import CONFIG_NAMES
from cluster.domain.deliberation.state import Terminal
from cluster.setting_fields import LATER
from cluster.settings import Settings, role_of, variable_name
from scripts.docs import alerts_manifest, api_page, cli_page, deliberations_page, settings_page
from scripts.docs.deliberation_words import MODES, TERMINALS
from scripts.docs.released_client import methods
from tests.support.docs import ROOT

PAGES = {
    "configuration.md": settings_page.page,
    "api.md": api_page.page,
    "cli.md": cli_page.page,
    "deliberations.md": deliberations_page.page,
}


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_the_generated_one(name: str) -> None:
    committed = (ROOT / "docs" / name).read_text()
    assert committed == PAGES[name](), f"docs/{name} is stale: run `make docs` and commit it"


def test_the_committed_alerts_manifest_is_the_generated_one() -> None:
    assert (ROOT / "kuberay" / "alerts.yaml").read_text() == alerts_manifest.page(), "run `make docs` and commit it"


def test_every_setting_is_on_the_page_and_those_without_effect_say_so() -> None:
    rows = {line.split("`")[1]: line for line in settings_page.page().splitlines() if line.startswith("| `")}
    for name, info in Settings.model_fields.items():
        row = rows[variable_name(name, info)]
        assert ("No effect yet" in row) == (role_of(info) == LATER)
    assert len(rows) == len(Settings.model_fields)


def test_every_route_is_on_the_page_with_its_permission() -> None:
    text = api_page.page()
    routes = list(api_page._routes())
    assert len(routes) > 30
    for path, route in routes:
        assert isinstance(route, APIRoute)
        for method in route.methods or ():
            assert f"### `{method} {path}`\n\nPermission `{route.endpoint.permission}`." in text


def test_every_method_of_the_released_client_has_a_route_or_is_listed() -> None:
    routes = {
        (method, re.sub(r"{\w+}", "{}", path)) for path, route in api_page._routes() for method in route.methods or ()
    }
    section = api_page.page().partition("## The released client")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    found = list(methods())
    assert len(found) == 50
    for method in found:
        assert ((method.verb, re.sub(r"{\w+}", "{}", method.path)) in routes) != (method.name in listed), method


def test_no_secret_has_a_default_on_the_page() -> None:
    for line in settings_page.page().splitlines():
        assert "Secret." not in line or "| unset |" in line


def test_every_exit_code_is_on_the_page() -> None:
    codes = {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}
    assert {0, *codes} == {int(code) for code in re.findall(r"^\| (\d+) \|", cli_page.page(), re.MULTILINE)}


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in _links(page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken


def _links(text: str) -> list[str]:
    found = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    return [target for target in found if "://" not in target]


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = [
        *project["project"]["dependencies"],
        *(requirement for extra in project["project"]["optional-dependencies"].values() for requirement in extra),
        *(requirement for group in project["dependency-groups"].values() for requirement in group),
    ]
    section = (ROOT / "docs" / "architecture.md").read_text().partition("## Dependencies")[2]
    assert not [requirement for requirement in named if re.split(r"[<>=[]", requirement)[0] not in section]


def test_the_page_of_deliberations_names_every_mode_and_end() -> None:
    assert set(MODES) == set(Mode)
    assert set(TERMINALS) == set(Terminal)


def test_the_page_of_deliberations_names_every_setting() -> None:
    described = {name.strip() for names, *_ in deliberations_page.CONFIG for name in names.split(",")}
    assert described | {"budget_tokens", "budget_usd"} == CONFIG_NAMES
