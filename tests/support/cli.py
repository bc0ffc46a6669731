"""The command line against an API of a test."""

from __future__ import annotations

from typer.testing import CliRunner

from cluster.cli.main import app
from tests.support.api import Api, in_thread


async def command(api: Api, *words: str, code: int = 0) -> str:
    """What a command prints on stdout; it must end with ``code``."""
    environment = {"ARAGORA_API_URL": api.url, "COLUMNS": "200"}
    result = await in_thread(CliRunner().invoke, app, list(words), env=environment)
    assert result.exit_code == code, result.output
    return str(result.stdout)
