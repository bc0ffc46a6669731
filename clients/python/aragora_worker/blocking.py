"""The HTTP client for code without an event loop: scripts, notebooks, threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from aragora_worker.api import ControlPlaneClient, OutputEvent
from aragora_worker.blocking_governance import BlockingGovernanceCalls
from aragora_worker.tasks import ended
from aragora_worker.tls import ClientTls

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class BlockingClient(BlockingGovernanceCalls):
    """`ControlPlaneClient`, whose calls return when they are done. For one thread, which runs no event loop.

    Raises: `InvalidRequest` if the URL or the key cannot be used, or ``workspace`` is no id."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        tls: ClientTls | None = None,
        workspace: str | None = None,
        other_urls: Sequence[str] = (),
    ) -> None:
        self._client = ControlPlaneClient(base_url, api_key, timeout_s, tls, workspace, other_urls)
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run(self._client.__aexit__(kind, error, trace))
            self._run(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        """Runs a call to its end. (`asyncio.Runner` does, from Python 3.11 on.)"""
        task = self._loop.create_task(call)
        try:
            return self._loop.run_until_complete(task)
        finally:
            if not task.done():  # interrupted by Ctrl-C
                self._loop.run_until_complete(ended(task))

    def get(self, path: str, **params: Any) -> Any:
        """`ControlPlaneClient.get`. Raises: the same."""
        return self._run(self._client.get(path, **params))

    def post(self, path: str, body: Any = None, *, idempotency_key: str | None = None) -> Any:
        """`ControlPlaneClient.post`. Raises: the same."""
        return self._run(self._client.post(path, body, idempotency_key=idempotency_key))

    def set_credential(self, name: str, secret: str, origins: Sequence[str] = ()) -> Mapping[str, Any]:
        """`ControlPlaneClient.set_credential`. Raises: the same."""
        return self._run(self._client.set_credential(name, secret, origins))

    def rotate_credential(self, name: str, secret: str, *, overlap_s: float = 3600.0) -> Mapping[str, Any]:
        """`ControlPlaneClient.rotate_credential`. Raises: the same."""
        return self._run(self._client.rotate_credential(name, secret, overlap_s=overlap_s))

    def credentials(self) -> Sequence[Mapping[str, Any]]:
        """`ControlPlaneClient.credentials`. Raises: the same."""
        return self._run(self._client.credentials())

    def delete_credential(self, name: str) -> None:
        """`ControlPlaneClient.delete_credential`. Raises: the same."""
        self._run(self._client.delete_credential(name))

    def tasks(self, *where: str, **filters: Any) -> Iterator[Mapping[str, Any]]:
        """`ControlPlaneClient.tasks`. Raises: the same."""
        return self._each(self._client.tasks(*where, **filters))

    def deliberations(self, *where: str, **filters: Any) -> Iterator[Mapping[str, Any]]:
        """`ControlPlaneClient.deliberations`. Raises: the same."""
        return self._each(self._client.deliberations(*where, **filters))

    def result(self, task_id: str, *, timeout_s: float | None = None) -> Any:
        """`ControlPlaneClient.result`. Raises: the same."""
        return self._run(self._client.result(task_id, timeout_s=timeout_s))

    def questions(self) -> Iterator[Mapping[str, Any]]:
        """`ControlPlaneClient.questions`. Raises: the same."""
        return self._each(self._client.questions())

    def answer(self, task_id: str, value: Any) -> Mapping[str, Any]:
        """`ControlPlaneClient.answer`. Raises: the same."""
        return self._run(self._client.answer(task_id, value))

    def approve(self, task_id: str, value: Any = True) -> Mapping[str, Any]:
        """`ControlPlaneClient.approve`. Raises: the same."""
        return self._run(self._client.approve(task_id, value))

    def reject(self, task_id: str, reason: str | None = None) -> Mapping[str, Any]:
        """`ControlPlaneClient.reject`. Raises: the same."""
        return self._run(self._client.reject(task_id, reason))

    def apply_workflow(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """`ControlPlaneClient.apply_workflow`. Raises: the same."""
        return self._run(self._client.apply_workflow(document))

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
        return self._run(
            self._client.start_run(workflow, input, version=version, metadata=metadata, idempotency_key=idempotency_key)
        )

    def replay_run(
        self, run_id: str, from_step: str | None = None, *, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """`ControlPlaneClient.replay_run`. Raises: the same."""
        return self._run(self._client.replay_run(run_id, from_step, idempotency_key=idempotency_key))

    def signal_run(
        self, run_id: str, signal: str, value: Any = None, *, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """`ControlPlaneClient.signal_run`. Raises: the same."""
        return self._run(self._client.signal_run(run_id, signal, value, idempotency_key=idempotency_key))

    def run_result(self, run_id: str, *, timeout_s: float | None = None) -> Mapping[str, Any]:
        """`ControlPlaneClient.run_result`. Raises: the same."""
        return self._run(self._client.run_result(run_id, timeout_s=timeout_s))

    def output(self, task_id: str, *, after: str | None = None) -> Iterator[OutputEvent]:
        """`ControlPlaneClient.output`. Raises: the same."""
        return self._each(self._client.output(task_id, after=after))

    def _each(self, values: AsyncGenerator[T, None]) -> Iterator[T]:
        async def following() -> tuple[T, ...]:
            async for value in values:
                return (value,)
            return ()

        try:
            while found := self._run(following()):
                yield found[0]
        finally:
            self._run(values.aclose())
