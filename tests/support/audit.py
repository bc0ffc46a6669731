"""Rows of a log and checkpoints over them, made as commits and the sealer make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cluster.domain.audit.chain import GENESIS, row_leaf, rows_of_one_epoch
from cluster.domain.audit.checkpoint import NO_PREDECESSOR, Checkpoint, make_checkpoint
from cluster.domain.base.log import SECOND_FORM, LogRecord, LogRow, private_digest
from cluster.domain.base.signing import Signer
from tests.support.receipts import SIGNER
from tests.support.samples import NOW


def a_row(seq: int, entity: str = "", words: str | None = None, epoch: int = 1) -> LogRow:
    record = LogRecord(
        at=NOW + seq,
        workspace="w",
        kind="task.submitted",
        entity=entity or f"task_{seq}",
        data={"task_type": "echo"},
        private=None if words is None else {"summary": words},
    )
    text = record.private_text("00" * 16)
    hashed = None if text is None else private_digest(text)
    digest = record.digest(epoch=epoch, zone="z", data_json=record.data_json(), private_digest=hashed)
    return LogRow(
        seq=seq,
        at=record.at,
        workspace=record.workspace,
        kind=record.kind,
        entity=record.entity,
        attempt=None,
        principal=record.principal,
        data=record.data,
        digest=digest,
        data_json=record.data_json(),
        epoch=epoch,
        zone="z",
        private_json=text,
        private_digest=hashed,
        v=SECOND_FORM,
    )


def checkpoints_over(rows: Sequence[LogRow], *sizes: int, signer: Signer = SIGNER, **changes: Any) -> list[Checkpoint]:
    """Checkpoints of the given numbers of rows, the first over the first rows."""
    found: list[Checkpoint] = []
    for size in sizes:
        before = found[-1] if found else None
        first = 0 if before is None else before.last_seq
        options = {
            "zone": "z",
            "epoch": 1,
            "first_seq": first + 1,
            "leaves": [row_leaf(row.seq, row.at, row.v, row.digest) for row in rows[first : first + size]],
            "previous": GENESIS if before is None else before.chain,
            "predecessor": NO_PREDECESSOR if before is None else before.digest,
            "at": NOW,
            "self_signed": False,
            "begins_epoch": rows[0].epoch if before is None else None,
        }
        found.append(make_checkpoint(signer, **(options | changes)))
    return found


def forged(checkpoint: Checkpoint, **head: Any) -> Checkpoint:
    """The checkpoint with another head, and the old signature."""
    return replace(checkpoint, head={**checkpoint.head, **head})


def sealed_on(
    rows: Sequence[LogRow], checkpoints: Sequence[Checkpoint], *, epoch: int, most: int = 1000, signer: Signer = SIGNER
) -> list[Checkpoint]:
    """The checkpoints of a region's log with those that its sealer makes of the rows after them."""
    found = list(checkpoints)
    while (after := found[-1].last_seq if found else 0) < len(rows):
        new = rows[after : after + most]
        count, begins = rows_of_one_epoch(rows[after - 1].epoch if after else 0, [row.epoch for row in new])
        found.append(
            make_checkpoint(
                signer,
                zone="z",
                epoch=epoch,
                first_seq=after + 1,
                leaves=[row_leaf(row.seq, row.at, row.v, row.digest) for row in new[:count]],
                previous=found[-1].chain if found else GENESIS,
                predecessor=found[-1].digest if found else NO_PREDECESSOR,
                at=NOW,
                self_signed=False,
                begins_epoch=begins,
            )
        )
    return found
