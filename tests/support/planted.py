"""A secret for each setting that has one, of which everything that a system prints and writes is searched.

The settings are those of the model: a new secret is planted as soon as it exists.
"""

from __future__ import annotations

import base64
import hashlib
import json
from urllib.parse import quote

from cluster.settings import Settings, variable_name

SECRETS = sorted(name for name, info in Settings.model_fields.items() if "Secret" in str(info.annotation))
#: What planting another value would break: the stores' URLs, whose passwords are those of the running servers.
STORES = ("database_url", "redis_url")


def planted(field: str) -> str:
    """32 bytes in base64, which every setting takes that is no URL: a key, a seed and a secret of tokens are made so."""
    return base64.b64encode(hashlib.sha256(b"planted in " + field.encode()).digest()).decode()


def variable(field: str) -> str:
    """The variable of a setting."""
    return variable_name(field, Settings.model_fields[field])


def planted_variables() -> dict[str, str]:
    """The variables that plant every secret but the stores' URLs."""
    values = {variable(name): planted(name) for name in SECRETS if name not in STORES}
    return values | {"ARAGORA_JWT_SECRET_PREVIOUS_UNTIL": "2099-01-01T00:00:00Z"}


def written_forms(text: str) -> tuple[str, str, str]:
    """A secret as it is, in a URL, and in JSON."""
    return text, quote(text, safe=""), json.dumps(text)[1:-1]
