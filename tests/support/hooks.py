"""Hooks, and webhooks as another service sends them: signed by the library of Standard Webhooks."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import httpx
from standardwebhooks import Webhook

from cluster.domain.hooks.hook import WHOLE_BODY, Hook
from tests.support.api import Api
from tests.support.samples import NOW

ECHO = {"task": {"task_type": "echo"}}


def a_hook(**parts: Any) -> Hook:
    return Hook(
        **{
            "id": "hook_1",
            "workspace": "w",
            "name": "reviews",
            "starts": {"task": {}},
            "input": WHOLE_BODY,
            "rate_per_minute": 60.0,
            "created_at": NOW,
            "created_by": "user:tester",
            "changed_at": NOW,
            "changed_by": "user:tester",
            "secrets_id": "s1",
            "secrets_until": (None,),
            **parts,
        }
    )


def signed_headers(secret: str, body: bytes, webhook_id: str = "msg_1", at: float | None = None) -> dict[str, str]:
    """``at``: epoch seconds, now if they are left out."""
    at = time.time() if at is None else at
    signature = Webhook(secret).sign(webhook_id, datetime.fromtimestamp(int(at), UTC), body.decode())
    return {"webhook-id": webhook_id, "webhook-timestamp": str(int(at)), "webhook-signature": signature}


async def send(
    api: Api, hook: dict[str, Any], body: Any = None, webhook_id: str = "msg_1", **options: Any
) -> httpx.Response:
    """``hook``: the answer that has made it. ``secret``, ``at``: other ones than its own and now."""
    text = json.dumps({} if body is None else body).encode()
    headers = signed_headers(options.pop("secret", hook["secret"]), text, webhook_id, options.pop("at", None))
    return await api.client.post(hook["path"], content=text, headers=headers | options.pop("headers", {}), **options)
