"""What threads and loops put in is sent, one run at a time, while there is something to send."""

from __future__ import annotations

import asyncio

from aragora_worker.sending import Sender


class Values:
    """Takes what was put in, and goes on when it is let to."""

    def __init__(self) -> None:
        self.pending: list[int] = []
        self.sent: list[int] = []
        self.may_go_on = asyncio.Event()
        self.sender = Sender(self._send, lambda: bool(self.pending))

    async def _send(self) -> None:
        while self.pending:
            value = self.pending.pop(0)
            await self.may_go_on.wait()
            self.sent.append(value)


async def test_all_is_sent_in_order_by_one_run() -> None:
    values = Values()
    for value in range(3):
        values.pending.append(value)
        assert values.sender.wake()
    assert not await values.sender.settle(0.0)
    values.may_go_on.set()
    assert await values.sender.settle(30.0)
    assert values.sent == [0, 1, 2]
    values.pending.append(3)
    assert values.sender.wake()
    assert await values.sender.settle(30.0)
    assert values.sent == [0, 1, 2, 3]


async def test_a_run_that_hangs_is_stopped() -> None:
    values = Values()
    values.pending.append(1)
    assert not await values.sender.settle(0.0)
    await values.sender.stop()
    assert values.sent == []
    assert await values.sender.settle(0.0)


async def test_a_session_that_has_ended_sends_no_more() -> None:
    found: list[Sender] = []

    async def session() -> None:
        found.append(Values().sender)

    await asyncio.to_thread(lambda: asyncio.run(session()))
    assert not found[0].wake()
