"""The settings of the API: where it listens, whom it lets in, by what they show who they are, and which keys sign and seal."""

from __future__ import annotations

import base64
import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import AwareDatetime, SecretStr, field_validator
from pydantic_settings import BaseSettings

from cluster.domain.access.roles import ROLES
from cluster.domain.access.secret_quality import is_example, weakness
from cluster.domain.base.urls import LOOPBACK_HOSTS
from cluster.setting_fields import PROCESS, Words, is_private, split_words, url_problem, variable


def _is_origin(value: str) -> bool:
    """Whether a text is a scheme, a host and perhaps a port, and nothing else."""
    return re.fullmatch(r"[a-z][a-z0-9+.-]*://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?", value) is not None


class ApiSettings(BaseSettings):
    """The part of `Settings` about the API."""

    # fmt: off
    http_host: str = variable("127.0.0.1", "Address that the API and the metrics listen on.", group="API")
    http_port: int = variable(8080, "Port of the API.", group="API", ge=1, le=65_535)
    max_body_bytes: int = variable(1_048_576, "Largest request body.", group="API", unit="bytes", ge=1024)
    cors_origins: Words = variable(
        ("*",),
        "Allowed CORS origins. * never comes with credentials, and while authentication is off it admits no page.",
        group="API",
    )
    mcp_enabled: bool = variable(False, "Serve tools for language models (MCP) at /mcp; needs the extra `mcp`.", group="API")
    a2a_enabled: bool = variable(False, "Take tasks and deliberations from agents of others (A2A) at /a2a; needs the extra `a2a`.", group="API")
    rate_limit: int = variable(600_000, "Calls of one principal, all replicas together, without heartbeats and claims; the calls of ten seconds may come at once. 0: no limit.", group="API", unit="calls per minute", ge=0, le=6_000_000)
    rate_limit_heartbeats: int = variable(600_000, "Heartbeats of one principal. 0: no limit.", group="API", unit="calls per minute", ge=0, le=6_000_000)
    rate_limit_claims: int = variable(600_000, "Claims of one principal. 0: no limit.", group="API", unit="calls per minute", ge=0, le=6_000_000)

    # --- security ----------------------------------------------------------------------------------------------
    auth_enabled: bool = variable(True, "Require authentication. `aragora-cp up` turns it off if it runs its embedded stores on loopback and this is not set; while it is off, only loopback is listened on.", group="Security")
    jwt_secret: SecretStr | None = variable(None, "HS256 secret of tokens, at least 32 bytes. Unset, without ARAGORA_JWT_JWKS_URL: one is made and kept sealed in the database.", group="Security")
    jwt_secret_previous: SecretStr | None = variable(None, "The secret before a rotation; its tokens count until ARAGORA_JWT_SECRET_PREVIOUS_UNTIL.", group="Security")
    jwt_secret_previous_until: AwareDatetime | None = variable(None, "When the previous secret stops counting, such as 2026-03-01T12:00:00Z.", group="Security")
    jwt_expiry: float = variable(3600, "Longest life of a token, whoever issued it.", group="Security", unit="seconds", gt=0, le=2_592_000)
    jwt_jwks_url: str | None = variable(None, "Key set of another issuer, whose tokens (EdDSA, ES256, RS256) count too.", group="Security")
    jwt_issuer: str | None = variable(None, "What its tokens must have as `iss`.", group="Security", min_length=1, max_length=256)
    jwt_audience: str | None = variable(None, "What its tokens must have in `aud`.", group="Security", min_length=1, max_length=256)
    secrets_key: SecretStr | None = variable(None, "Key that seals secrets in the database: 32 bytes in base64. `aragora-cp up` makes one in the data directory.", group="Security")
    secrets_key_previous: SecretStr | None = variable(None, "The key before a rotation; `aragora-cp secrets rotate` seals anew what it has sealed.", group="Security")
    oauth_enabled: bool = variable(False, "Let people log in with an OIDC provider.", group="Security")
    oauth_provider: str = variable("google", "`google`, or the URL of an issuer, whose discovery document says the rest.", group="Security", max_length=256)
    oauth_client_id: str | None = variable(None, "Client id, as the provider shows it.", group="Security", max_length=256)
    oauth_client_secret: SecretStr | None = variable(None, "Client secret. Unset: the provider has none for this client.", group="Security")
    oauth_scopes: Words = variable(("openid", "email"), "Scopes that a login asks for, separated by commas. openid is always among them.", group="Security")
    oauth_groups_claim: str = variable("groups", "Claim of the ID token or userinfo with a person's groups. Each is a subject of role bindings, group:NAME.", group="Security", min_length=1, max_length=64)
    oauth_group_roles: Words = variable((), "Roles of groups in ARAGORA_WORKSPACE, GROUP=ROLE separated by commas.", group="Security")
    oauth_allowed_domains: Words = variable((), "Domains of the e-mail addresses that may log in, separated by commas. Unset: whoever the provider knows; from google only those that have a role.", group="Security")
    oauth_session_life: float = variable(28_800, "How long a login lasts.", group="Security", unit="seconds", ge=300, le=604_800)
    rbac_enabled: bool = variable(True, "Check roles. If false, whoever is authenticated may do everything in its workspaces.", group="Security")
    admin_users: Words = variable(
        (), "E-mail addresses of administrators of all workspaces, separated by commas. An issuer must have verified them.", group="Security"
    )
    rbac_default_role: str = variable("viewer", "Role, in ARAGORA_WORKSPACE, of users that have none.", group="Security")
    trusted_proxies: Words = variable((), "Networks (CIDR, separated by commas) of the proxies in front, such as an Ingress, whose X-Forwarded-For and X-Forwarded-Proto count. Unset: nobody's do.", group="Security")
    public_url: str | None = variable(None, "URL by which clients reach the API, such as https://control.example.com. Redirects and the API's description name it. Unset: they name paths only.", group="Security")
    tls_enabled: bool = variable(False, "Serve HTTPS and WSS, TLS 1.2 or newer, on ARAGORA_HTTP_PORT.", group="Security")
    tls_cert_file: Path | None = variable(None, "Certificate of the API as PEM, its own first, then those that issued it. A changed file is served within a second.", group="Security", role=PROCESS)
    tls_key_file: Path | None = variable(None, "Private key of that certificate.", group="Security", role=PROCESS)
    tls_ca_file: Path | None = variable(None, "Authorities of agents' certificates. With it, agents need one.", group="Security")
    tls_trust_domain: str = variable("aragora", "An agent's certificate names spiffe://TRUST_DOMAIN/agent/ID.", group="Security", pattern=r"^[a-z0-9._-]{1,255}$")
    receipt_signing_key: SecretStr | None = variable(
        None,
        "Ed25519 seed that signs receipts: 32 bytes in base64. Unset: one is made and kept in the database.",
        group="Security",
    )
    audit_signing_key: SecretStr | None = variable(
        None,
        "Ed25519 seed that signs checkpoints of the audit: 32 bytes in base64. Unset: the one that signs receipts.",
        group="Security",
    )
    # fmt: on

    _api_words = field_validator(
        "cors_origins",
        "admin_users",
        "trusted_proxies",
        "oauth_scopes",
        "oauth_group_roles",
        "oauth_allowed_domains",
        mode="before",
    )(split_words)

    @field_validator("tls_cert_file", "tls_key_file", "tls_ca_file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        """Ray's processes have another working directory than `up`."""
        return None if value is None else value.absolute()

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(ipaddress.ip_network(network).prefixlen == 0 for network in value):
            raise ValueError(
                "a network of all addresses would let every caller choose its own; name those of the proxies"
            )
        return value

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str | None) -> str | None:
        problem = None if value is None else url_problem(value, ("https", "http"))
        if problem is None and value is not None and not _is_origin(value.removesuffix("/")):
            problem = "it must be a scheme and a host, and a port if it needs one, without a path or a user"
        if problem is not None:
            raise ValueError(problem)
        return None if value is None else value.removesuffix("/")

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        origins = tuple(origin if origin == "*" else origin.removesuffix("/").lower() for origin in value)
        if not all(origin == "*" or _is_origin(origin) for origin in origins):
            raise ValueError(
                "each must be * or a scheme and a host, such as https://board.example:8443, as browsers send them"
            )
        return origins

    @field_validator("receipt_signing_key", "audit_signing_key", "secrets_key", "secrets_key_previous")
    @classmethod
    def _seed(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            fits = value is None or len(base64.b64decode(value.get_secret_value(), validate=True)) == 32
        except ValueError:
            fits = False
        if not fits:
            raise ValueError("it must be 32 bytes in base64, as `openssl rand -base64 32` prints them")
        return value

    @field_validator("jwt_secret", "jwt_secret_previous")
    @classmethod
    def _strong(cls, value: SecretStr | None) -> SecretStr | None:
        problem = None if value is None else weakness(value.get_secret_value())
        if problem is not None:
            raise ValueError(f"{problem}; make one with `aragora-cp secrets generate`")
        return value

    @field_validator("admin_users")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(address.count("@") == 1 for address in value):
            raise ValueError("it must be e-mail addresses, separated by commas")
        return tuple(address.lower() for address in value)

    @field_validator("rbac_default_role")
    @classmethod
    def _known_role(cls, value: str) -> str:
        if value not in ROLES:
            raise ValueError(f"it must be one of {', '.join(ROLES)}")
        return value

    @field_validator("jwt_jwks_url")
    @classmethod
    def _issuers_keys(cls, value: str | None) -> str | None:
        problem = None if value is None else url_problem(value, ("https", "http"))
        host = "" if value is None or problem else urlsplit(value).hostname or ""
        if problem is None and value is not None and value.startswith("http://") and host not in LOOPBACK_HOSTS:
            problem = "keys that came unencrypted could be anybody's; it must begin with https://"
        if problem is not None:
            raise ValueError(problem)
        return value

    @field_validator("oauth_provider")
    @classmethod
    def _provider(cls, value: str) -> str:
        problem = None if value == "google" else url_problem(value, ("https", "http"))
        if problem is not None:
            problem = f"{problem}; it is google or the URL of an issuer"
        elif not is_private(value):
            problem = "whoever is on the way could log in as anybody; it must begin with https://"
        elif not {"?", "#", "@"}.isdisjoint(value):
            problem = "an issuer has neither user, query nor fragment"
        if problem is not None:
            raise ValueError(problem)
        return value

    @field_validator("oauth_client_secret")
    @classmethod
    def _clients_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and is_example(value.get_secret_value()):
            raise ValueError("it is an example from some documentation; take the one that the provider shows")
        return value

    @field_validator("oauth_scopes")
    @classmethod
    def _scopes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"[!#-\[\]-~]+", scope) for scope in value):
            raise ValueError("each must be a scope, without spaces and quotes")
        return tuple(dict.fromkeys(("openid", *value)))

    @field_validator("oauth_group_roles")
    @classmethod
    def _roles_of_groups(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            group, _, role = entry.rpartition("=")
            if not group or role not in ROLES:
                raise ValueError(f"each must be GROUP=ROLE, with a role of {', '.join(ROLES)}")
        return value

    @field_validator("oauth_allowed_domains")
    @classmethod
    def _domains(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"[A-Za-z0-9.-]+", domain) for domain in value):
            raise ValueError("each must be a domain, such as example.com")
        return tuple(domain.lower() for domain in value)

    def listens_on_loopback(self) -> bool:
        """Whether only its own machine can reach the API."""
        try:
            return self.http_host == "localhost" or ipaddress.ip_address(self.http_host).is_loopback
        except ValueError:
            return False

    def public_origin(self) -> str:
        """The URL by which browsers reach the API: scheme, host and port."""
        scheme = "https" if self.tls_enabled else "http"
        return self.public_url or f"{scheme}://{self.http_host}:{self.http_port}"

    def sealing_keys(self) -> list[bytes]:
        """The keys of sealed secrets, the current one first."""
        keys = (self.secrets_key, self.secrets_key_previous)
        return [base64.b64decode(key.get_secret_value()) for key in keys if key is not None]


def api_does_not_fit(found: ApiSettings) -> str | None:
    """What is wrong with settings of the API that are valid one by one."""
    if found.secrets_key is None and found.secrets_key_previous is not None:
        return "ARAGORA_SECRETS_KEY_PREVIOUS is set without ARAGORA_SECRETS_KEY; set the current key too."
    if (found.jwt_secret_previous is None) != (found.jwt_secret_previous_until is None):
        return "ARAGORA_JWT_SECRET_PREVIOUS and ARAGORA_JWT_SECRET_PREVIOUS_UNTIL go together; set both or none."
    issuer = (found.jwt_jwks_url, found.jwt_issuer, found.jwt_audience)
    if any(issuer) and not all(issuer):
        return (
            "ARAGORA_JWT_JWKS_URL, ARAGORA_JWT_ISSUER and ARAGORA_JWT_AUDIENCE go together; a key set alone would let in "
            "tokens that its issuer made for others."
        )
    return _tls_does_not_fit(found) or _oauth_does_not_fit(found)


def _oauth_does_not_fit(found: ApiSettings) -> str | None:
    if not found.oauth_enabled:
        return None
    if found.oauth_client_id is None:
        return (
            "ARAGORA_OAUTH_ENABLED is true, but ARAGORA_OAUTH_CLIENT_ID is not set; set the id that the provider shows."
        )
    if not found.auth_enabled and "auth_enabled" in found.model_fields_set:
        return "ARAGORA_OAUTH_ENABLED is true, but ARAGORA_AUTH_ENABLED is false, so nobody would log in; unset one."
    if found.public_url is None and not found.listens_on_loopback():
        return (
            "ARAGORA_OAUTH_ENABLED is true, but ARAGORA_PUBLIC_URL is not set; set the URL to which the provider leads browsers "
            "back, such as https://control.example.com."
        )
    if not is_private(found.public_origin()):
        return "ARAGORA_OAUTH_ENABLED is true, but ARAGORA_PUBLIC_URL is not https, so sessions could be read on the way; use https."
    return None


def _tls_does_not_fit(found: ApiSettings) -> str | None:
    files = {
        "ARAGORA_TLS_CERT_FILE": found.tls_cert_file,
        "ARAGORA_TLS_KEY_FILE": found.tls_key_file,
        "ARAGORA_TLS_CA_FILE": found.tls_ca_file,
    }
    given = [name for name, file in files.items() if file is not None]
    if given and not found.tls_enabled:
        return f"{given[0]} is set, but ARAGORA_TLS_ENABLED is not true, so calls would not be encrypted; set both or none."
    missing = [name for name in list(files)[:2] if found.tls_enabled and name not in given]
    if missing:
        return f"{missing[0]} is not set, but ARAGORA_TLS_ENABLED is true; name the certificate and its key."
    if found.tls_ca_file is not None and not found.auth_enabled and "auth_enabled" in found.model_fields_set:
        return "ARAGORA_TLS_CA_FILE is set, but ARAGORA_AUTH_ENABLED is false, so nobody would need a certificate; unset one."
    return None
