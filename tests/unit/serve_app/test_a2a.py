"""Who does not serve A2A needs not have its package, and who does says by which URL it is called; reading calls."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import pytest
from a2a.utils.errors import A2AError
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.a2a.making import A2AMissing, serve_a2a
from serve_app.a2a.mapping import MAX_WHOLE
from serve_app.a2a.messages import answer_of, check_message, exact_numbers, work_of
from serve_app.a2a.rpc import METHODS, Unreadable, read_call
from tests.support.api import api_settings
from tests.support.stores import StoreUrls

URLS = StoreUrls(database="postgresql://h/d", redis="redis://h")


def test_an_application_that_lacks_the_package_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a2a", None)  # as where nobody has installed it
    with pytest.raises(A2AMissing, match=r"pip install 'aragora-control-plane\[a2a\]'"):
        serve_a2a(None, api_settings(URLS, "s", a2a_enabled=True))  # type: ignore[arg-type]


def test_an_application_that_others_reach_has_to_know_its_url() -> None:
    with pytest.raises(A2AMissing, match="needs ARAGORA_PUBLIC_URL"):
        serve_a2a(None, api_settings(URLS, "s", a2a_enabled=True, http_host="0.0.0.0"))  # type: ignore[arg-type]


_NAMES = st.sampled_from(
    [
        *(
            "message",
            "messageId",
            "role",
            "parts",
            "text",
            "data",
            "raw",
            "url",
            "metadata",
            "aragora",
            "skill",
            "verdict",
        ),
        *("task_type", "configuration", "contextId", "taskId", "context", "evidence", "tenant", "id", "pageToken"),
        *("statusTimestampAfter", "status", "pageSize", "taskPushNotificationConfig"),
    ]
)
_PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["ROLE_USER", "submit_task", "deliberate", "1"])
)
_VALUES = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES | st.text(max_size=3), inner, max_size=4),
    max_leaves=15,
)
_OBJECTS = st.dictionaries(_NAMES, _VALUES, max_size=4)
_GOOD: dict[str, Any] = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]}


@settings(max_examples=400, deadline=None)
@given(method=st.sampled_from([*METHODS, "ping"]), params=_VALUES, message=_OBJECTS, ours=_VALUES)
def test_a_call_is_read_or_refused_in_words_of_the_protocol(method: str, params: Any, message: Any, ours: Any) -> None:
    spiced = {"message": {**_GOOD, "metadata": {"aragora": ours}, **message}}
    for each in (params, spiced, {**spiced, **params} if isinstance(params, dict) else spiced):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": each}).encode()
        with contextlib.suppress(Unreadable, A2AError):
            call = read_call(body, "1.0")
            if "Send" in method:
                check_message(call)
                for body_of in (lambda call: work_of(call).body, answer_of):
                    with contextlib.suppress(A2AError):
                        json.dumps(body_of(call))


@given(_VALUES)
def test_exact_numbers_are_those_that_were_sent(value: Any) -> None:
    try:
        exact = exact_numbers(value, "It")
    except A2AError:
        return
    assert exact == value
    assert all(
        abs(number) <= MAX_WHOLE and not (isinstance(number, float) and number.is_integer())
        for number in _numbers(exact)
    )


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []
