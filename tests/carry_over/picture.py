"""A stored picture of an earlier build, and how it becomes a database that this build may go on with."""

from __future__ import annotations

import functools
import gzip
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.embedded.postgres import _binaries

HERE = Path(__file__).parent
SCHEMA = "aragora"


@dataclass(frozen=True)
class Picture:
    """The files of one build."""

    path: Path

    @property
    def database(self) -> Path:
        return self.path / "database.sql.gz"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets.json"

    @property
    def sealing_key(self) -> Path:
        """What seals secrets in its database; builds before 0.8.0 sealed none."""
        return self.path / "secrets-key"

    @property
    def batch_in(self) -> Path:
        return self.path / "batch-in.jsonl"

    @property
    def batch_out(self) -> Path:
        return self.path / "batch-out.jsonl"

    @property
    def receipts(self) -> Path:
        return self.path / "receipts"

    @property
    def facts_file(self) -> Path:
        return self.path / "facts.json"

    @property
    def dump(self) -> str:
        return gzip.decompress(self.database.read_bytes()).decode()

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        return dict(json.loads(self.facts_file.read_text()))


def stored() -> list[Picture]:
    """The earliest build first."""
    paths = [file.parent for file in HERE.glob("*/facts.json")]
    return [Picture(path) for path in sorted(paths, key=lambda path: tuple(map(int, path.name.split("."))))]


def psql(url: str, script: str) -> str:
    """What the script prints. psql, because a dump is written for it."""
    command = [
        str(_binaries() / "psql"),
        "-d",
        url,
        "--no-psqlrc",
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        "-At",
        "-f",
        "-",
    ]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def log_facts(url: str) -> dict[str, Any]:
    """How long the log is, and a hash over the digests of its rows."""
    whole = "encode(sha256(string_agg(digest, ''::bytea order by seq)), 'hex')"
    rows, digest = psql(url, f"select count(*), {whole} from {SCHEMA}.log;").split("|")
    return {"rows": int(rows), "digest": digest}
