"""The agent card: who we are, by which URL agents call, and what they may ask for. It is public, and signed with the key that
signs receipts.

It tells nothing of a workspace: which agents and capabilities there are is for those who may list them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, Final

from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, HTTPAuthSecurityScheme
from a2a.utils.signing import create_agent_card_signer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

from cluster.domain.base.signing import Signer
from cluster.version import VERSION

CARD_PATH: Final = "/.well-known/agent-card.json"
RPC_PATH: Final = "/a2a"
KEYS_PATH: Final = "/a2a/keys"
_ALGORITHM: Final = "EdDSA"
_TEXT: Final = "text/plain"
_JSON: Final = "application/json"

DELIBERATE: Final = "deliberate"
SUBMIT: Final = "submit_task"
_SKILLS: Final = (
    AgentSkill(
        id=DELIBERATE,
        name="Ask several agents and decide",
        description="Puts the text of a message to several agents, which debate it if they disagree. The artifact is "
        "their decision, with its confidence and the dissent. If it asks a person it is input-required; a message with its "
        "taskId answers. This is the skill of a message that names none.",
        tags=["deliberation", "decision"],
        examples=["Which store fits a queue of ten million rows?"],
        input_modes=[_TEXT, _JSON],
        output_modes=[_TEXT, _JSON],
    ),
    AgentSkill(
        id=SUBMIT,
        name="Give work to an agent",
        description="Submits a task of the type that metadata.aragora.task_type names, with the data of a message as "
        "its payload. The artifact is its result. A task that asks a person is input-required; a message with its taskId "
        "answers.",
        tags=["task"],
        examples=['{"aragora": {"skill": "submit_task", "task_type": "sum"}} as metadata, and a data part'],
        input_modes=[_JSON, _TEXT],
        output_modes=[_JSON, _TEXT],
    ),
)


def make_card(url: str, *, auth: bool) -> AgentCard:
    """``url``: that of the API. ``auth``: callers need a key."""
    card = AgentCard(
        name="Aragora control plane",
        description="Durable tasks and deliberations of a fleet of agents.",
        version=VERSION,
        supported_interfaces=[AgentInterface(url=url + RPC_PATH, protocol_binding="JSONRPC", protocol_version="1.0")],
        capabilities=AgentCapabilities(streaming=True, push_notifications=True, extended_agent_card=False),
        default_input_modes=[_TEXT, _JSON],
        default_output_modes=[_TEXT, _JSON],
        skills=_SKILLS,
    )
    if auth:
        scheme = HTTPAuthSecurityScheme(
            scheme="Bearer", description="A key of the control plane, or a token of a login."
        )
        card.security_schemes["bearer"].http_auth_security_scheme.CopyFrom(scheme)
        card.security_requirements.add().schemes["bearer"].SetInParent()
    return card


class SignedCard:
    """The card as it is sent, made once for each key."""

    def __init__(self, url: str, *, auth: bool) -> None:
        self._url = url
        self._auth = auth
        self._content: tuple[str, bytes] | None = None

    def content(self, signer: Signer) -> bytes:
        if self._content is None or self._content[0] != signer.key_id:
            self._content = (signer.key_id, self._signed(signer))
        return self._content[1]

    def _signed(self, signer: Signer) -> bytes:
        """Only the fields of version 1.0: with those of older ones, which the package would add, no signature would fit the
        JSON."""
        header: Any = {"alg": _ALGORITHM, "kid": signer.key_id, "jku": self._url + KEYS_PATH, "typ": "JOSE"}
        sign = create_agent_card_signer(Ed25519PrivateKey.from_private_bytes(signer.seed), header)  # type: ignore[arg-type]
        card = sign(make_card(self._url, auth=self._auth))
        return json.dumps(MessageToDict(card), separators=(",", ":")).encode()


def key_set(signer: Signer) -> dict[str, Any]:
    """The key that verifies the card, as a JWK set (RFC 7517, RFC 8037)."""
    public = base64.urlsafe_b64encode(signer.public_key).rstrip(b"=").decode()
    return {
        "keys": [{"kty": "OKP", "crv": "Ed25519", "x": public, "kid": signer.key_id, "alg": _ALGORITHM, "use": "sig"}]
    }


def etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'
