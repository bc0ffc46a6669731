"""What the MCP server answers: its tools, its resources, and errors in the words of the API."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextContent,
    TextResourceContents,
    Tool,
    ToolAnnotations,
)
from starlette.requests import Request
from starlette.types import ASGIApp

from cluster.domain.base.errors import NotFound
from cluster.domain.base.json_values import shown_text
from cluster.version import VERSION
from serve_app.http.errors import response_to
from serve_app.http.route_calls import Refused, Routes
from serve_app.mcp.schemas import whole
from serve_app.mcp.tools import TOOLS, OurTool, deliberation_path

_JSON: Final = "application/json"
#: Deliberations of one page of the list, and characters of a question in it.
_PAGE: Final = 50
_TITLE: Final = 100
_INSTRUCTIONS: Final = (
    "This is a control plane for AI agents. Put a question to several agents with deliberate, or give work to one with "
    "submit_task. Both return an id: follow it with task_status, and get the outcome with task_result. If a task does not run, "
    "explain says why. An error says in one sentence what to do; give its trace_id to the operators if you cannot."
)
_DELIBERATIONS: Final = "aragora://deliberations/"
_RECEIPTS: Final = "aragora://receipts/"
_RESOURCE = re.compile(f"({_DELIBERATIONS}|{_RECEIPTS})(.+)")
_TEMPLATES: Final = [
    ResourceTemplate(
        uri_template=_DELIBERATIONS + "{deliberation_id}",
        name="deliberation",
        title="A deliberation",
        description="The question, the status and, once it has ended, the decision of a deliberation.",
        mime_type=_JSON,
    ),
    ResourceTemplate(
        uri_template=_RECEIPTS + "{deliberation_id}",
        name="receipt",
        title="The receipt of a deliberation",
        description="The signed receipt of a deliberation that has ended, byte for byte as it was signed.",
        mime_type=_JSON,
    ),
]

Context = ServerRequestContext[Any, Any]


def make_server(app: ASGIApp) -> Server[Any]:
    """``app``: what is inside of the layer of the MCP server."""
    tools = [_declared(tool) for tool in TOOLS.values()]
    inputs = {tool.name: tool.input_schema for tool in tools}

    async def list_tools(context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=tools)

    async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult:
        """Raises: `MCPError` if there is no such tool. Whatever the tool refuses is a result, which a model gets to see."""
        tool = TOOLS.get(params.name)
        if tool is None:
            raise MCPError(
                INVALID_PARAMS, f"There is no tool {shown_text(params.name, 64)}; use one of {', '.join(TOOLS)}."
            )
        request = _request(context)
        try:
            outcome = await tool(Routes(app, request), params.arguments or {})
        except Exception as error:  # noqa: BLE001 - it becomes the tool's answer, as of any route
            return _result(_error(request, error)[1], is_error=True)
        return _result(outcome)

    async def list_resources(context: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
        """Raises: `MCPError` if they cannot be read."""
        return await _page(app, _request(context), None if params is None else params.cursor)

    async def list_templates(context: Context, params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult(resource_templates=_TEMPLATES)

    async def read_resource(context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        """Raises: `MCPError` if it cannot be read."""
        request, uri = _request(context), str(params.uri)
        try:
            text = await Routes(app, request).text("GET", _resource_path(uri))
        except Exception as error:  # noqa: BLE001 - it becomes the tool's answer, as of any route
            raise _protocol_error(request, error) from None
        return ReadResourceResult(contents=[TextResourceContents(uri=params.uri, mime_type=_JSON, text=text)])

    server: Server[Any] = Server(
        "aragora",
        version=VERSION,
        title="Aragora control plane",
        instructions=_INSTRUCTIONS,
        get_tool_input_schema=inputs.get,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )
    # It makes spans for OpenTelemetry. Calls are observed where those of the API are.
    server.middleware.clear()
    return server


async def _page(app: ASGIApp, request: Request, cursor: str | None) -> ListResourcesResult:
    """A page of the deliberations, newest first; none for whoever may not read them.

    Raises: `MCPError` if they cannot be read."""
    query = {"limit": _PAGE} | ({} if cursor is None else {"cursor": cursor})
    try:
        page = await Routes(app, request).get("/deliberations", query)
    except Exception as error:  # noqa: BLE001 - it becomes the answer, as of any route
        if isinstance(error, Refused) and error.status == 403:
            return ListResourcesResult(resources=[])
        raise _protocol_error(request, error) from None
    return ListResourcesResult(
        resources=[_listed(record) for record in page["deliberations"]], next_cursor=page["next_cursor"]
    )


def _listed(record: Mapping[str, Any]) -> Resource:
    """A deliberation in the list. Its question is there for whoever may read it."""
    question = record.get("question")
    return Resource(
        uri=_DELIBERATIONS + record["request_id"],
        name=record["request_id"],
        title=shown_text(question, _TITLE) if isinstance(question, str) else None,
        description=f"A deliberation: {record['status']}.",
        mime_type=_JSON,
    )


def _declared(tool: OurTool) -> Tool:
    return Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema(),
        output_schema=whole(tool.output),
        annotations=ToolAnnotations(
            read_only_hint=not tool.changes, destructive_hint=tool.ends, idempotent_hint=not tool.changes or tool.ends
        ),
    )


def _request(context: Context) -> Request:
    request = context.request
    assert isinstance(request, Request), "every call comes by HTTP"
    return request


def _resource_path(uri: str) -> str:
    """The path of the route that has a resource. Raises: `NotFound` or `InvalidRequest` if the URI is none of ours."""
    found = _RESOURCE.fullmatch(uri)
    if found is None:
        raise NotFound(
            f"There is no resource {shown_text(uri, 128)}; read {_DELIBERATIONS}ID or {_RECEIPTS}ID.",
            "resource_not_found",
        )
    kind, deliberation_id = found.groups()
    return deliberation_path(deliberation_id) + ("/receipt" if kind == _RECEIPTS else "")


def _error(request: Request, error: Exception) -> tuple[int, Mapping[str, Any]]:
    """The status and the JSON with which the API would answer an error."""
    if isinstance(error, Refused):
        return error.status, error.error
    response = response_to(request, error)
    answer: dict[str, Any] = json.loads(bytes(response.body))
    return response.status_code, answer


def _protocol_error(request: Request, error: Exception) -> MCPError:
    status, answer = _error(request, error)
    code = INTERNAL_ERROR if status >= 500 else INVALID_PARAMS
    return MCPError(code, str(answer["error"]), {name: answer[name] for name in ("code", "trace_id")})


def _result(value: Mapping[str, Any] | str, *, is_error: bool = False) -> CallToolResult:
    """The value as structured content, and as a text for models whose client shows that alone. A text of JSON stays as it is:
    what is signed verifies in all its digits."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=json.loads(text), is_error=is_error
    )
