"""Names of attributes of calls to agents: semantic conventions for generative AI of OpenTelemetry, as of version 1.37.0.

They are kept here because the package opentelemetry-semantic-conventions marks each of its own as moved to another repository,
which has no release. A collector that knows a later version maps them by the version, which every span states.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = "1.37.0"
SCHEMA_URL: Final = f"https://opentelemetry.io/schemas/{VERSION}"

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
AGENT_ID: Final = "gen_ai.agent.id"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"

#: Values of ``OPERATION``.
CHAT: Final = "chat"
INVOKE_AGENT: Final = "invoke_agent"
