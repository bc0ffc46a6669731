"""Reads calls: JSON-RPC 2.0 around the messages of the protocol.

The package's own dispatcher was rejected: it reads numbers as doubles before anybody can look at them, its streams have no ids to
resume by, and its errors hold the texts of exceptions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from a2a.types import (
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
)
from a2a.utils.errors import (
    A2AError,
    InvalidParamsError,
    InvalidRequestError,
    JSONParseError,
    MethodNotFoundError,
    VersionNotSupportedError,
)
from a2a.utils.proto_utils import validate_proto_required_fields
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import NotJson, read_json, shown_text
from serve_app.a2a.failures import RpcId

#: Method → what its params are.
METHODS: Final[Mapping[str, Any]] = {
    "SendMessage": SendMessageRequest,
    "SendStreamingMessage": SendMessageRequest,
    "GetTask": GetTaskRequest,
    "ListTasks": ListTasksRequest,
    "CancelTask": CancelTaskRequest,
    "SubscribeToTask": SubscribeToTaskRequest,
    "CreateTaskPushNotificationConfig": TaskPushNotificationConfig,
    "GetTaskPushNotificationConfig": GetTaskPushNotificationConfigRequest,
    "ListTaskPushNotificationConfigs": ListTaskPushNotificationConfigsRequest,
    "DeleteTaskPushNotificationConfig": DeleteTaskPushNotificationConfigRequest,
    "GetExtendedAgentCard": GetExtendedAgentCardRequest,
}
VERSION_HEADER: Final = "a2a-version"
_VERSION = re.compile(r"1(\.[0-9]{1,4}){0,2}")
#: Who names no version means this one.
_UNNAMED: Final = "0.3"


class Unreadable(Exception):
    """The body is no call. ``rpc_id``: that of the call, if it can be read; ``error``: what to answer."""

    def __init__(self, rpc_id: RpcId, error: A2AError) -> None:
        super().__init__(error.message)
        self.rpc_id = rpc_id
        self.error = error


@dataclass(frozen=True, slots=True)
class Call:
    """``params`` is a message of the protocol, of the type that the method takes; ``raw`` is the JSON that it was read from,
    in which whole numbers are still whole."""

    rpc_id: RpcId
    method: str
    params: Any
    raw: Mapping[str, Any]


def read_call(body: bytes, version: str | None) -> Call:
    """The call of a body. ``version``: what the call names as that of the protocol.

    Raises: `Unreadable` if it is none."""
    try:
        message = read_json(body, "The body")
    except NotJson as error:
        raise Unreadable(None, JSONParseError(error.message)) from None
    except InvalidRequest as error:
        raise Unreadable(None, InvalidRequestError(error.message)) from None
    rpc_id = message.get("id") if isinstance(message, dict) else None
    if not isinstance(rpc_id, str | int) or isinstance(rpc_id, bool):
        raise Unreadable(
            None,
            InvalidRequestError("The body is not one request of JSON-RPC 2.0 with a text or a whole number as id."),
        )
    try:
        return _call(rpc_id, message, version)
    except A2AError as error:
        raise Unreadable(rpc_id, error) from None


def _call(rpc_id: RpcId, message: Mapping[str, Any], version: str | None) -> Call:
    method, raw = message.get("method"), message.get("params", {})
    if message.get("jsonrpc") != "2.0" or not isinstance(method, str):
        raise InvalidRequestError('The body is not a request of JSON-RPC 2.0; send "jsonrpc": "2.0" and a method.')
    if _VERSION.fullmatch(version or _UNNAMED) is None:
        raise VersionNotSupportedError(
            f"Version {shown_text(version or _UNNAMED, 32)} of the protocol is not served; send the header A2A-Version: 1.0."
        )
    kind = METHODS.get(method)
    if kind is None:
        raise MethodNotFoundError(f"There is no method {shown_text(method, 64)}; use one of {', '.join(METHODS)}.")
    if not isinstance(raw, dict):
        raise InvalidParamsError("params must be an object.")
    return Call(rpc_id, method, _params(kind(), raw), raw)


def _params(into: Any, raw: Mapping[str, Any]) -> Any:
    """Raises: `InvalidParamsError` if the params do not fit the type."""
    name = into.DESCRIPTOR.name
    _check_objects(into.DESCRIPTOR, raw, "")
    try:
        ParseDict(raw, into, ignore_unknown_fields=True)
    except Exception:  # noqa: BLE001 - the parser lets through what its parts raise; the text of it is for nobody's eyes
        raise InvalidParamsError(f"params is no {name} of A2A 1.0; compare it with the specification.") from None
    try:
        validate_proto_required_fields(into)
    except InvalidParamsError as error:
        missing = [str(each["field"]) for each in (error.data or {}).get("errors", [])]
        raise InvalidParamsError(f"{_camel(missing[0])} is required.") from None
    return into


def _check_objects(kind: Any, raw: Mapping[str, Any], where: str) -> None:
    """Checks that objects are where the protocol has them: the parser takes a text or a list for an object without fields.

    Raises: `InvalidParamsError`."""
    for field in kind.fields:
        inner = field.message_type
        if inner is None or inner.GetOptions().map_entry or inner.full_name.startswith("google.protobuf."):
            continue
        for name in {field.name, field.json_name} & raw.keys():
            value, path = raw[name], f"{where}{field.json_name}"
            if value is None:
                continue
            if field.is_repeated and not isinstance(value, list):
                raise InvalidParamsError(f"{path} must be a list.")
            for each in value if field.is_repeated else [value]:
                if not isinstance(each, dict):
                    raise InvalidParamsError(
                        f"{path} must be {'a list of objects' if field.is_repeated else 'an object'}."
                    )
                _check_objects(inner, each, f"{path}.")


def _camel(field: str) -> str:
    """The name of a field as JSON has it."""
    return re.sub("_([a-z])", lambda found: found.group(1).upper(), field)
