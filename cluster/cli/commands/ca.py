"""``aragora-cp ca``: an authority for development, and the end of a certificate that must not count any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.calls import usage
from cluster.cli.checks.stores import stores_settings
from cluster.cli.commands.tokens import store_revocation
from cluster.cli.connection import settings
from cluster.cli.output import console, plain
from cluster.cli.uniform import answered
from cluster.domain.base.ids import check_id
from cluster.embedded.layout import Layout
from cluster.ports.access import Revocation

if TYPE_CHECKING:  # the other commands load no cryptography
    from cluster.embedded.authority import CertificateFiles, DevelopmentAuthority

app = typer.Typer(no_args_is_help=True, help="Certificates for development, in the data directory; and a deny list.")

#: The longest life of an agent's certificate here; a denial lasts as long.
MOST_DAYS = 400


@app.command()
def init() -> None:
    """Make an authority in the data directory."""
    authority = _authority()
    authority.create(datetime.now(UTC))
    _print({"ARAGORA_TLS_CA_FILE": authority.file, "ARAGORA_CLIENT_CA_FILE": authority.file})


@app.command()
def issue(
    agent: Annotated[str | None, typer.Option(help="The id of an agent.")] = None,
    server: Annotated[str | None, typer.Option(help="Addresses and names of the API, separated by commas.")] = None,
    hours: Annotated[int, typer.Option(help="Its life.", min=1, max=MOST_DAYS * 24)] = 24,
) -> None:
    """Issue a certificate for an agent or for the API, and print the settings that name its files.

    \f
    Raises: `BadParameter` unless one of both is named.
    """
    if (agent is None) == (server is None):
        raise typer.BadParameter("Name either an agent with --agent, or the API's addresses with --server.")
    now, life = datetime.now(UTC), timedelta(hours=hours)
    if agent is not None:
        with usage():
            check_id(agent, "--agent")
        files = _authority().issue_agent(agent, settings().tls_trust_domain, now, life)
        _print(_named("ARAGORA_CLIENT", files))
    elif server is not None:
        hosts = [host.strip() for host in server.split(",") if host.strip()]
        if not hosts:
            raise typer.BadParameter(
                "--server names nothing; give the addresses and names of the API, as in --server 127.0.0.1."
            )
        files = _authority().issue_server(hosts, now, life)
        _print({"ARAGORA_TLS_ENABLED": "true"} | _named("ARAGORA_TLS", files))


@app.command()
def renew(name: Annotated[str, typer.Argument(help="An agent's id, or server.")]) -> None:
    """Issue a certificate again, with a new key, into the same files. Whoever has them open takes the new ones."""
    files = _authority().renew(name, datetime.now(UTC))
    answered({"name": name, "certificate": str(files.certificate), "key": str(files.key)})
    console.print(f"Renewed {plain(str(files.certificate))}.")


@app.command()
def deny(serial: Annotated[str, typer.Argument(help="As `openssl x509 -noout -serial -in FILE` prints it.")]) -> None:
    """End an agent's certificate, in every replica within seconds. It is stored, for as long as any certificate may live.

    \f
    Raises: `BadParameter` if it is no serial number.
    """
    from cluster.domain.access.agent_certificates import DENIED, canonical_serial

    with usage():
        number = canonical_serial(serial.removeprefix("serial="))
    now = time.time()
    until = now + MOST_DAYS * 86_400
    asyncio.run(
        store_revocation(
            stores_settings(settings()), Revocation(subject=f"jti:{DENIED}{number}", not_before=now, until=until)
        )
    )
    answered({"denied": number})
    console.print(f"Denied {number}.")


def _authority() -> DevelopmentAuthority:
    from cluster.embedded.authority import DevelopmentAuthority

    return DevelopmentAuthority(Layout.of(settings().data_dir).data_dir / "ca")


def _named(prefix: str, files: CertificateFiles) -> dict[str, object]:
    return {f"{prefix}_CERT_FILE": files.certificate, f"{prefix}_KEY_FILE": files.key}


def _print(found: Mapping[str, object]) -> None:
    answered({name: str(value) for name, value in found.items()})
    for name, value in found.items():
        typer.echo(f"export {name}={value}")
