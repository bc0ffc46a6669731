"""``aragora-cp tokens``: makes and revokes tokens on the host, with the settings of the control plane and its database.

It asks no API: whoever has the secret and the database needs no permission, and the first access is made before anybody has one.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import Annotated

import typer

from cluster.cli.checks.stores import stores_settings
from cluster.cli.connection import settings
from cluster.cli.output import console
from cluster.cli.uniform import answered
from cluster.domain.access.principal import ISSUERS_SUBJECT, user_name
from cluster.domain.base.log import LOCAL_ADMIN, Origin
from cluster.ports.access import Revocation
from cluster.ports.secrets import JWT_SECRET, JWT_SECRET_BYTES
from cluster.settings import Settings, SettingsError

app = typer.Typer(no_args_is_help=True, help="Tokens (JWT), made and revoked where the control plane's settings are.")

_SUBJECT = re.compile(r"(user|agent):[^\s:/]{1,250}")
#: Whom only another issuer's tokens and logins name. Ours are made for nobody else's subjects.
_ISSUERS = re.compile(rf"user:{ISSUERS_SUBJECT}\S{{1,500}}")
_TIME = re.compile(r"([0-9]{1,9})([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}

Subject = Annotated[str, typer.Option("--subject", help="Whom it names: user:E-MAIL or agent:ID.")]


@app.command()
def create(
    subject: Subject,
    expires: Annotated[str | None, typer.Option(help="Its life, such as 30m; at most ARAGORA_JWT_EXPIRY.")] = None,
    workspace: Annotated[str | None, typer.Option(help="The only workspace in which it counts.")] = None,
    role: Annotated[str | None, typer.Option(help="A role that it brings there; needs --workspace.")] = None,
) -> None:
    """Print a new token. What it may do is what its subject may: by ARAGORA_ADMIN_USERS or by roles.

    \f
    Raises: `BadParameter` if the token would not count.
    """
    from cluster.domain.access.tokens import Claims, make_token  # loads cryptography, which few commands need

    ours = stores_settings(settings())
    life_s = ours.jwt_expiry if expires is None else _seconds(expires, ours.jwt_expiry)
    if role is not None and workspace is None:
        raise typer.BadParameter("A role counts in one workspace; name it with --workspace.")
    now = time.time()
    claims = Claims(
        subject=_checked(subject),
        issued_at=now,
        expires_at=int(now) + life_s,
        jti=secrets.token_hex(16),
        workspaces=() if workspace is None else (workspace,),
        grants=() if role is None else (role,),
    )
    token = make_token(claims, asyncio.run(_secret(ours)))
    answered({"token": token, "subject": claims.subject, "expires_at": claims.expires_at, "jti": claims.jti})
    typer.echo(token)


@app.command()
def revoke(
    jti: Annotated[str | None, typer.Argument(help="The jti of one token.")] = None,
    subject: Annotated[str | None, typer.Option(help="A principal, whose tokens of before now end.")] = None,
) -> None:
    """Revoke one token, or all tokens and sessions of a principal that were issued until now. It counts in every replica
    within seconds.

    \f
    Raises: `BadParameter` unless one of both is named.
    """
    if (jti is None) == (subject is None):
        raise typer.BadParameter("Name either the jti of a token or a principal with --subject.")
    ours = stores_settings(settings())
    now = time.time()
    name = f"jti:{jti}" if subject is None else _checked(subject, or_of_issuer=True)
    longest_s = max(ours.jwt_expiry, ours.oauth_session_life)  # a principal's sessions end with its tokens
    asyncio.run(store_revocation(ours, Revocation(subject=name, not_before=now, until=now + longest_s + 60)))
    answered({"revoked": name})
    console.print("Revoked.")


def _checked(subject: str, *, or_of_issuer: bool = False) -> str:
    if _SUBJECT.fullmatch(subject) is None and not (or_of_issuer and _ISSUERS.fullmatch(subject)):
        issuers = f", user:{ISSUERS_SUBJECT}HOST/SUB" if or_of_issuer else ""
        raise typer.BadParameter(f"--subject must be user:E-MAIL{issuers} or agent:ID.")
    kind, _, name = subject.partition(":")
    return f"user:{user_name(name)}" if kind == "user" else subject


def _seconds(text: str, most: float) -> float:
    match = _TIME.fullmatch(text)
    found = int(match[1]) * _SECONDS[match[2]] if match is not None else 0
    if not 0 < found <= most:
        raise typer.BadParameter(
            f"--expires must be a time such as 30m, at most {most:g} seconds (ARAGORA_JWT_EXPIRY)."
        )
    return found


async def _secret(ours: Settings) -> bytes:
    if ours.jwt_secret is not None:
        return ours.jwt_secret.get_secret_value().encode()
    keys = ours.sealing_keys()
    if ours.database_url is None or not keys or ours.jwt_jwks_url is not None:
        raise SettingsError(
            "Neither ARAGORA_JWT_SECRET nor ARAGORA_DATABASE_URL with ARAGORA_SECRETS_KEY is set; run this where the control "
            "plane's settings are. Tokens of ARAGORA_JWT_JWKS_URL come from their issuer."
        )
    from cluster.domain.access.sealing import Sealer
    from cluster.postgres.pool import connect  # the other commands load no driver
    from cluster.postgres.secrets import PostgresSecrets

    url = ours.database_url.get_secret_value()
    pool = await connect(url, ours.database_schema, max_size=1, application="aragora-cp")
    try:
        return await PostgresSecrets(pool, Sealer(keys)).own(JWT_SECRET, secrets.token_bytes(JWT_SECRET_BYTES))
    finally:
        await pool.close()


async def store_revocation(ours: Settings, revocation: Revocation) -> None:
    """Stores what must not count any more. Raises: `SettingsError` without a database, `StoreUnavailable` if it is away."""
    from cluster.postgres.stores import open_stores

    if ours.database_url is None:
        raise SettingsError("ARAGORA_DATABASE_URL must be set; run this where the control plane's settings are.")
    url = ours.database_url.get_secret_value()
    stores = await open_stores(
        url,
        ours.database_schema,
        ours.zone,
        max_connections=1,
        application="aragora-cp",
        alone=not ours.has_peers,
    )
    try:
        origin = Origin(workspace=ours.workspace, principal=LOCAL_ADMIN, cause=secrets.token_hex(8))
        await stores.access.revoke(origin, revocation)
    finally:
        await stores.close()
