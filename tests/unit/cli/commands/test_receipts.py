"""``aragora-cp receipts`` without any server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.cli.main import app
from cluster.domain.base.canonical import canonical_bytes
from tests.support.receipts import OTHER, SIGNER, played, receipt_of

RUNNER = CliRunner()
DOCS = Path(__file__).parents[4] / "docs" / "receipts.md"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "receipt.json"
    path.write_bytes(canonical_bytes(receipt_of(played())) + b"\n")
    return path


def run(*words: Any) -> Any:
    return RUNNER.invoke(app, ["receipts", *map(str, words)])


def test_verify_says_what_was_checked_and_that_the_key_was_not(file: Path) -> None:
    result = run("verify", file)
    assert result.exit_code == 0
    assert "not checked" in result.output
    assert SIGNER.key_id in result.output


@pytest.mark.parametrize("form", ["hex", "hex file", "published"])
def test_verify_with_the_key_one_trusts(file: Path, tmp_path: Path, form: str) -> None:
    def words(public: bytes) -> str:
        if form == "hex":
            return public.hex()
        path = tmp_path / f"{public.hex()[:8]}.txt"
        listed = {"keys": [{"key_id": "k", "public_key": public.hex()}]}
        path.write_text(public.hex() + "\n" if form == "hex file" else json.dumps(listed))
        return str(path)

    good = run("verify", file, "--json", "--key", words(SIGNER.public_key))
    assert good.exit_code == 0
    assert json.loads(good.output)["trusted"] is True
    bad = run("verify", file, "--json", "--key", words(OTHER.public_key))
    assert bad.exit_code == 1
    assert json.loads(bad.output)["valid"] is False


def test_a_wrong_key_is_wrong_usage(file: Path) -> None:
    assert run("verify", file, "--key", "abc").exit_code == 2


def test_a_changed_file_is_refused_by_every_command(file: Path, tmp_path: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"boring", b"exotic"))
    assert run("verify", file).exit_code == 1
    out = tmp_path / "out.json"
    for words in (("redact", file, "--event", 3, "--out", out), ("prove", file, "--event", 3), ("show", file)):
        result = run(*words)
        assert "is not a valid receipt" in str(result.exception)
    assert not out.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a":1,"a":1}'])
def test_a_file_that_is_no_receipt_does_not_verify(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    result = run("verify", file, "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["checks"][0]["name"] == "format"


def test_words_are_withheld_and_events_proven(file: Path, tmp_path: Path) -> None:
    out, proof = tmp_path / "withheld.json", tmp_path / "proof.json"
    vote = next(e["n"] for e in json.loads(file.read_text())["events"] if e["data"].get("agent") == "bob")
    result = run("redact", file, "--event", vote, "--event", 0, "--out", out)
    assert result.exit_code == 0
    assert f"words of event {vote} can still be read in event" in re.sub(r"\s+", " ", result.output)
    report = json.loads(run("verify", out, "--json", "--key", SIGNER.public_key.hex()).output)
    assert report["trusted"] is True
    assert report["redacted"] == [0, vote]
    assert run("prove", out, "--event", vote, "--out", proof).exit_code == 0
    assert run("verify", proof).exit_code == 0
    assert "withheld" in run("show", out).output


def test_verify_loads_neither_ray_nor_a_store(file: Path) -> None:
    code = (
        "import sys\nfrom cluster.cli.main import app\n"
        f"app(['receipts', 'verify', {str(file)!r}], standalone_mode=False)\n"
        "assert not {'ray', 'asyncpg', 'redis'} & set(sys.modules), 'too much was loaded'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_the_verifier_of_the_docs_tells_good_from_bad(file: Path, tmp_path: Path) -> None:
    script = tmp_path / "check.py"
    found = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    script.write_text(found.group(1))

    def check() -> int:
        words = [sys.executable, str(script), str(file), SIGNER.public_key.hex()]
        return subprocess.run(words, capture_output=True, timeout=60, check=False).returncode

    assert check() == 0
    good = file.read_bytes()
    run("redact", file, "--event", 3, "--out", file)
    assert check() == 0
    for old, new in (
        (b"boring", b"exotic"),
        (b'"choice":"Redis"', b'"choice":"Nedis"'),
        (b'"DECIDED"', b'"CANCELLED"'),
    ):
        assert old in good
        file.write_bytes(good.replace(old, new))
        assert check() != 0
