"""Which webhooks count: signed with a secret of the hook, whole, and of now."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from cluster.domain.base.errors import Unauthenticated
from cluster.domain.hooks.signature import TOLERANCE_S, check_time, signed
from tests.support.samples import NOW

KEY, OTHER = "whsec_" + "QUJD" * 10, "whsec_" + "WFla" * 10
BODY = b'{"text": "caf\xc3\xa9"}'


def headers(*keys: str, webhook_id: str = "msg_1", at: float = NOW, body: bytes = BODY) -> dict[str, list[str]]:
    moment = datetime.fromtimestamp(int(at), UTC)
    signatures = [Webhook(key).sign(webhook_id, moment, body.decode()) for key in keys]
    return {
        "webhook-id": [webhook_id],
        "webhook-timestamp": [str(int(at))],
        "webhook-signature": [" ".join(signatures)],
    }


def test_a_signature_of_any_of_the_secrets_counts() -> None:
    assert signed(headers(KEY)).counts_for([KEY], BODY)
    assert signed(headers(KEY)).counts_for([OTHER, KEY], BODY)
    assert signed(headers(OTHER, KEY)).counts_for([KEY], BODY), "a sender that rotates signs with both"
    assert signed(headers(KEY)).counts_for([KEY.removeprefix("whsec_")], BODY)


def test_the_library_takes_what_counts_here_and_nothing_else() -> None:
    """What we take and what the library's own verification takes, at the machine's time, which it reads."""
    now = time.time()
    given = headers(KEY, at=now)
    assert Webhook(KEY).verify(BODY, {name: value[0] for name, value in given.items()}) is not None
    assert signed(given).counts_for([KEY], BODY)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": ["msg_2"]},
        {"webhook-timestamp": [str(int(NOW) + 1)]},
        {"webhook-signature": ["v1,"]},
        {"webhook-signature": ["v1,AAAA v1a,AAAA v2,AAAA"]},
        {"webhook-signature": [""]},
        {"webhook-signature": ["v1,\xe9\u20ac"]},
        {"webhook-timestamp": ["99999999999"]},
        {"webhook-timestamp": ["0"]},
    ],
    ids=str,
)
def test_what_was_changed_on_the_way_does_not_count(change: dict[str, list[str]]) -> None:
    assert not signed(headers(KEY) | change).counts_for([KEY], BODY)


def test_another_body_another_secret_and_no_secret_do_not_count() -> None:
    webhook = signed(headers(KEY))
    assert not webhook.counts_for([KEY], BODY + b" ")
    assert not webhook.counts_for([KEY], b"\xff\xfe")
    assert not webhook.counts_for([OTHER], BODY)
    assert not webhook.counts_for([], BODY)


def test_a_signature_of_another_version_does_not_count() -> None:
    given = headers(KEY)
    given["webhook-signature"] = [given["webhook-signature"][0].replace("v1,", "v1a,")]
    assert not signed(given).counts_for([KEY], BODY)


@pytest.mark.parametrize(
    "change",
    [
        *({name: []} for name in ("webhook-id", "webhook-timestamp", "webhook-signature")),
        *({name: ["1", "1"]} for name in ("webhook-id", "webhook-timestamp", "webhook-signature")),
        *({"webhook-id": [text]} for text in ("", "a b", "a.b", "\xe9", "x" * 256, "a\n")),
        *({"webhook-timestamp": [text]} for text in ("", "-1", "1.5", "1e9", "01", " 1", "9" * 12, "NaN", "\u0661")),
    ],
    ids=str,
)
def test_headers_that_say_nothing_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        signed(headers(KEY) | change)


@pytest.mark.parametrize("apart", [-TOLERANCE_S, 0, TOLERANCE_S])
def test_a_webhook_of_now_counts(apart: int) -> None:
    check_time(signed(headers(KEY, at=NOW + apart)), float(int(NOW)))


@pytest.mark.parametrize("apart", [-TOLERANCE_S - 1, TOLERANCE_S + 1, -int(NOW)])
def test_an_old_webhook_and_one_of_the_future_are_refused(apart: int) -> None:
    with pytest.raises(Unauthenticated, match="sign it anew"):
        check_time(signed(headers(KEY, at=int(NOW) + apart)), float(int(NOW)))
