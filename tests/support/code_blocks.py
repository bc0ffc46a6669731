"""The fenced blocks of the documents, and what is known of those that nobody can run as they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.docs import ROOT

_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```[^\S\n]*$", re.MULTILINE | re.DOTALL)
SHELLS = ("bash", "sh")


@dataclass(frozen=True, slots=True)
class Block:
    """``language`` and ``mark``: the words behind the fence. A mark says that a test of this page runs it."""

    page: str
    line: int
    language: str
    mark: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def key(self) -> tuple[str, str]:
        """What the table below calls it: the page, and how it begins."""
        return self.page, self.text.strip().splitlines()[0].strip()[:40]


def blocks() -> list[Block]:
    found = []
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        page, text = str(path.relative_to(ROOT)), path.read_text()
        for match in _FENCE.finditer(text):
            language, _, mark = match[2].strip().partition(" ")
            line = text[: match.start()].count("\n") + 1
            body = "\n".join(each.removeprefix(match[1]) for each in match[3].splitlines())
            found.append(Block(page, line, language, mark, body))
    return found


#: Blocks that are shown and are no code that could be run, parsed or compared: (page, beginning) → what they are.
SHOWN = {
    ("docs/receipts.md", "commitment = SHA-256(salt ‖ JCS(text))"): "formulas",
    ("docs/regions-on-kubernetes.md", "other regions ── 7443 ──▶ Service aragor"): "a diagram",
    ("docs/streaming.md", "id: 1.0"): "events of a stream, with ids shortened",
    ("docs/streams.md", ": connected"): "events of a stream, with ids shortened",
    ("docs/weights.md", "POST /api/control-plane/outcomes/batch"): "a route and its body",
    ("docs/tasks.md", 'POST /tasks/{id}/complete   {"lease_toke'): "routes and what their bodies hold",
    ("docs/tasks.md", 'POST /tasks/{id}/extend   {"lease_token"'): "a route and what its body holds",
}

#: Blocks of JSON that are the body of a route, or of an error: (page, beginning) → the route.
EXAMPLES = {
    ("docs/api.md", '{"error": "There is no task task_x.", "c'): "Error",
    ("docs/deliberations.md", '{"content": "Which database should we us'): "POST /deliberations",
    ("docs/tasks.md", '{"task_type": "invoice", "retry": {"atte'): "POST /tasks",
}

#: Commands of blocks that are ours neither to run nor to parse: → why. Their files that are ours are there all the same.
OTHERS = {
    "cd": "the shell's",
    "command": "the shell's",
    "date": "the time of the reader's machine",
    "docker": "builds an image, which takes a registry",
    "etcdctl": "a member of a group of etcd",
    "eval": "the shell's, around a command that is parsed",
    "export": "the shell's; its variables are compared with the settings",
    "kubectl": "a cluster; the files that it is given are there",
    "od": "reads bytes as hexadecimal",
    "openssl": "OpenSSL's",
    "pip": "installs; tests/repository and the pipeline do so",
    "ray": "a machine's own cluster; the files that it is given are there",
    "serve": "a running cluster; the files that it is given are there",
    "source": "the shell's",
    "tr": "deletes spaces",
    "ulimit": "the shell's",
    "pkill": "kills what the reader has started",
    "pass": "the reader's store of passwords",
    "$EDITOR": "the reader's editor",
    "for": "the shell's",
    "done": "the shell's",
    "do": "the shell's",
    "if": "the shell's",
    "then": "the shell's",
    "fi": "the shell's",
    "return": "the shell's",
    "echo": "the shell's",
    "printf": "the shell's",
    "}": "the shell's",
    "region()": "a function of the block",
    "region": "a function of the block, around aragora-cp region",
    "etcdctl()": "a function of the block",
    "python": "a script that the page shows above it",
    "python3": "reads a number out of JSON",
}

_ASSIGNED = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_NESTED = r"(?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*"
#: What a shell's text is made of, as far as our pages use it. The first that fits counts.
_PARTS = re.compile(
    rf"""(?P<skip>\\\n|[ \t\r]+)
    |(?P<comment>\#[^\n]*)
    |(?P<end>&&|\|\||[\n;|&(])
    |(?P<redirects>[0-9]?>&[0-9]|[0-9]?>>?|<)
    |(?P<word>(?:\$\({_NESTED}\)|'[^']*'|"(?:\$\([^()]*\)|\\.|[^"\\])*"|\\.|[^\s'"\\;|&<>])+)""",
    re.VERBOSE | re.DOTALL,
)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each simple command of a shell script, without assignments, redirections and comments; what stands in a
    substitution first. It reads what our pages use of the shell's grammar."""
    words: list[str] = []
    skip = False
    for kind, part in _parts(text):
        if kind == "end":
            if words:
                yield words
            words, skip = [], False
        elif kind == "redirects":
            skip = ">&" not in part
        elif skip:
            skip = False
        else:
            for inner in re.findall(rf"\$\(({_NESTED})\)", part):
                yield from commands(inner)
            if words or not _ASSIGNED.fullmatch(part):
                words.append(
                    "".join(shlex.split(part)) if part[0] in "\"'" or "=" not in part else part.replace("'", "")
                )
    if words:
        yield words


def _parts(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        found = _PARTS.match(text, at)
        assert found is not None, f"the shell's text is not understood: {text[at : at + 40]!r}"
        at = found.end()
        if found.lastgroup not in ("skip", "comment"):
            yield str(found.lastgroup), found[0]
