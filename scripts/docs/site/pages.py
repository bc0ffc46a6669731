"""Hooks of MkDocs, which reads pages that are written for a checkout as well.

Files outside of docs/ that pages link to are part of the site, below ``repository/``. Words behind a fence's language tell tests
how to run the block (```sh run); MkDocs would take such a fence for none."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[3]
_FENCE = re.compile(r"^(```[a-z]+) [a-z ]+$", re.MULTILINE)
_LINK = re.compile(r"(\]\()(\.\./[^)#\s]+)(#[^)]*)?(\))")
BELOW = "repository"


def on_files(files: Files, config: Any) -> Files:
    """Adds what pages link to outside."""
    for page in files.documentation_pages():
        for match in _LINK.finditer(page.content_string):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page.src_uri), match[2]))
            if not path.startswith("../"):
                continue
            name = f"{BELOW}/{path.removeprefix('../')}"
            if files.get_file_from_path(name) is None:
                content = (ROOT / path.removeprefix("../")).read_text()
                text = _without_links(content) if name.endswith(".md") else content
                files.append(File.generated(config, name, content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Leads links to the copies, and leaves out what fences tell tests."""
    here = posixpath.dirname(page.file.src_uri)

    def led(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(here, match[2]))
        if not path.startswith("../"):
            return match[0]
        target = posixpath.relpath(f"{BELOW}/{path.removeprefix('../')}", here or ".")
        return f"{match[1]}{target}{match[3] or ''}{match[4]}"

    return _FENCE.sub(r"\1", _LINK.sub(led, markdown))


def _without_links(text: str) -> str:
    """A page of the repository with the words of its links alone: they lead to where the site has nothing."""
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", text)
