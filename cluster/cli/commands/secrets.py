"""``aragora-cp secrets``: makes good secrets, and seals those in the database anew after a change of the key."""

from __future__ import annotations

import asyncio
import base64
import secrets

import typer

from cluster.cli.checks.stores import stores_settings
from cluster.cli.connection import settings
from cluster.cli.output import console
from cluster.cli.uniform import answered
from cluster.settings import Settings, SettingsError

app = typer.Typer(no_args_is_help=True, help="Secrets of the deployment.")

JWT_BYTES = 48


@app.command()
def generate() -> None:
    """Print new secrets, as lines for an environment file."""
    from cluster.domain.access.sealing import KEY_BYTES

    found = {
        "ARAGORA_JWT_SECRET": secrets.token_urlsafe(JWT_BYTES),
        "ARAGORA_SECRETS_KEY": base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode(),
    }
    answered(found)
    for name, value in found.items():
        typer.echo(f"{name}={value}")


@app.command()
def rotate() -> None:
    """Seal the secrets in the database with ARAGORA_SECRETS_KEY that ARAGORA_SECRETS_KEY_PREVIOUS has sealed."""
    count = asyncio.run(_rotate(stores_settings(settings())))
    answered({"sealed_anew": count})
    console.print("1 secret was sealed anew." if count == 1 else f"{count} secrets were sealed anew.")


async def _rotate(ours: Settings) -> int:
    from cluster.domain.access.sealing import Sealer
    from cluster.postgres.pool import connect  # the other commands load no driver
    from cluster.postgres.secrets import PostgresSecrets

    keys = ours.sealing_keys()
    if ours.database_url is None or not keys:
        raise SettingsError(
            "ARAGORA_DATABASE_URL and ARAGORA_SECRETS_KEY must be set; run this where the control plane's settings are."
        )
    pool = await connect(
        ours.database_url.get_secret_value(), ours.database_schema, max_size=1, application="aragora-cp"
    )
    try:
        return await PostgresSecrets(pool, Sealer(keys)).reseal()
    finally:
        await pool.close()
