"""The HTTP client for code without an event loop: scripts, notebooks, threads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from cluster.client.api import ControlPlaneClient, OutputEvent
from cluster.client.tls import ClientTls


class BlockingClient:
    """`ControlPlaneClient`, whose calls return when they are done. For one thread, which runs no event loop.

    Raises: `InvalidRequest` if the URL or the key cannot be used, or ``workspace`` is no id."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        tls: ClientTls | None = None,
        workspace: str | None = None,
    ) -> None:
        self._client = ControlPlaneClient(base_url, api_key, timeout_s, tls, workspace)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._runner.run(self._client.__aexit__(kind, error, trace))
        finally:
            self._runner.close()

    def get(self, path: str, **params: Any) -> Any:
        """`ControlPlaneClient.get`. Raises: the same."""
        return self._runner.run(self._client.get(path, **params))

    def post(self, path: str, body: Any = None, *, idempotency_key: str | None = None) -> Any:
        """`ControlPlaneClient.post`. Raises: the same."""
        return self._runner.run(self._client.post(path, body, idempotency_key=idempotency_key))

    def tasks(self, *where: str, **filters: Any) -> Iterator[Mapping[str, Any]]:
        """`ControlPlaneClient.tasks`. Raises: the same."""
        tasks = self._client.tasks(*where, **filters)
        try:
            while True:
                try:
                    yield self._runner.run(anext(tasks))
                except StopAsyncIteration:
                    return
        finally:
            self._runner.run(tasks.aclose())

    def result(self, task_id: str, *, timeout_s: float | None = None) -> Any:
        """`ControlPlaneClient.result`. Raises: the same."""
        return self._runner.run(self._client.result(task_id, timeout_s=timeout_s))

    def apply_workflow(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """`ControlPlaneClient.apply_workflow`. Raises: the same."""
        return self._runner.run(self._client.apply_workflow(document))

    def start_run(
        self,
        workflow: str,
        input: Any = None,
        *,
        version: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Mapping[str, Any]:
        """`ControlPlaneClient.start_run`. Raises: the same."""
        return self._runner.run(
            self._client.start_run(workflow, input, version=version, metadata=metadata, idempotency_key=idempotency_key)
        )

    def run_result(self, run_id: str, *, timeout_s: float | None = None) -> Mapping[str, Any]:
        """`ControlPlaneClient.run_result`. Raises: the same."""
        return self._runner.run(self._client.run_result(run_id, timeout_s=timeout_s))

    def output(self, task_id: str, *, after: str | None = None) -> Iterator[OutputEvent]:
        """`ControlPlaneClient.output`. Raises: the same."""
        events = self._client.output(task_id, after=after)

        async def following() -> OutputEvent | None:
            return await anext(events, None)

        try:
            while (event := self._runner.run(following())) is not None:
                yield event
        finally:
            self._runner.run(events.aclose())
