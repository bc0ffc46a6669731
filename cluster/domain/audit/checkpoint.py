"""A checkpoint: what a sealer signs about the rows ``first_seq`` to ``last_seq`` of a zone's log.

It carries the entry hash of each row that it covers, so that whoever holds it can name the first row that was changed, and needs
nothing else for that but the rows.

With the first row of an epoch a checkpoint begins, and says so (``fork``): from there on another primary wrote the log, and rows
that its predecessor had written after that point are no part of it. Entry hashes are the same in each region as far as the rows
are, so one chain spans regions although each makes its own checkpoints.
"""

from __future__ import annotations

import base64
import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.domain.audit.chain import GENESIS, HASH_BYTES, entry_hash
from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.merkle import tree_root
from cluster.domain.base.signing import ALGORITHM, Signer, is_signature, key_id

SCHEMA_VERSION = "aragora-audit-checkpoint/2"
#: The form of earlier builds, which has no ``fork``: its checkpoints do not say where an epoch begins.
FIRST_SCHEMA_VERSION = "aragora-audit-checkpoint/1"
#: The predecessor of a zone's first checkpoint.
NO_PREDECESSOR = ""
_HEAD: Mapping[str, type | tuple[type, ...]] = {
    "schema_version": str,
    "zone": str,
    "epoch": int,
    "first_seq": int,
    "last_seq": int,
    "previous": str,
    "chain": str,
    "root": str,
    "entries_hash": str,
    "predecessor": str,
    "at": (int, float),
    "key_id": str,
    "self_signed": bool,
    "fork": (dict, type(None)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkDeclaration:
    """The rows after ``seq``, until another declaration, are of the primary of ``epoch``."""

    seq: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """``head`` is what is signed. ``entries``: the entry hashes of the rows, one after the other."""

    head: Mapping[str, Any]
    public_key: bytes
    signature: bytes
    entries: bytes

    @property
    def first_seq(self) -> int:
        return int(self.head["first_seq"])

    @property
    def last_seq(self) -> int:
        return int(self.head["last_seq"])

    @property
    def previous(self) -> bytes:
        """The entry hash before the first row."""
        return bytes.fromhex(self.head["previous"])

    @property
    def chain(self) -> bytes:
        """The entry hash of the last row."""
        return bytes.fromhex(self.head["chain"])

    @property
    def epoch(self) -> int:
        """Under which it was sealed: that of its rows, or a later one."""
        return int(self.head["epoch"])

    @property
    def fork(self) -> ForkDeclaration | None:
        """What it declares, if its first row is the first one of an epoch."""
        declared = self.head.get("fork")
        return None if declared is None else ForkDeclaration(**declared)

    @property
    def declares_epochs(self) -> bool:
        """Whether it would say that an epoch begins in it."""
        return bool(self.head["schema_version"] != FIRST_SCHEMA_VERSION)

    @property
    def digest(self) -> str:
        """By which the next checkpoint names this one."""
        return hashlib.sha256(canonical_bytes(self.head)).hexdigest()

    def entry(self, seq: int) -> bytes:
        """The entry hash of a row that the checkpoint covers."""
        assert self.first_seq <= seq <= self.last_seq
        start = (seq - self.first_seq) * HASH_BYTES
        return self.entries[start : start + HASH_BYTES]

    def before(self, seq: int) -> bytes:
        """The entry hash before a row that the checkpoint covers."""
        return self.previous if seq == self.first_seq else self.entry(seq - 1)

    def is_signed(self) -> bool:
        """Whether the head is what its own key signed, and the entry hashes are those of the head. Whose key it is, is for the
        caller to say."""
        return (
            key_id(self.public_key) == self.head["key_id"]
            and hashlib.sha256(self.entries).hexdigest() == self.head["entries_hash"]
            and is_signature(self.public_key, self.signature, canonical_bytes(self.head))
        )

    def text(self) -> str:
        """The stored and exported form: one line of JSON."""
        document = {
            "head": dict(self.head),
            "signature": {
                "algorithm": ALGORITHM,
                "public_key": self.public_key.hex(),
                "value": self.signature.hex(),
            },
            "entries": base64.b64encode(self.entries).decode(),
        }
        return canonical_bytes(document).decode()


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows up to ``last`` that one checkpoint covers, after the part before."""

    last: int
    checkpoint: Checkpoint


class Coverage:
    """Which of several checkpoints covers a row. A later one adds the rows that those before do not cover; after a fork that it
    declares, those of earlier epochs cover nothing."""

    def __init__(self, checkpoints: Iterable[Checkpoint] = ()) -> None:
        self._parts: list[_Part] = []
        for checkpoint in checkpoints:
            self.add(checkpoint)

    @property
    def through(self) -> int:
        """The last row that is covered; 0 if none is."""
        return self._parts[-1].last if self._parts else 0

    def add(self, checkpoint: Checkpoint) -> None:
        if checkpoint.fork is not None and self.is_left_by(checkpoint):
            self.cut(checkpoint.fork.seq)
        if checkpoint.last_seq > self.through:
            self._parts.append(_Part(checkpoint.last_seq, checkpoint))

    def cut(self, seq: int) -> None:
        """Rows after ``seq`` are covered no more."""
        while self._parts and self._parts[-1].checkpoint.first_seq > seq:
            self._parts.pop()
        if self._parts and self._parts[-1].last > seq:
            self._parts[-1] = _Part(seq, self._parts[-1].checkpoint)

    def is_left_by(self, checkpoint: Checkpoint) -> bool:
        """Whether the checkpoint declares that rows which are covered are no part of the log any more. Checkpoints of its epoch
        or a later one are not left: either they have the same rows, or they contradict it."""
        fork = checkpoint.fork
        if fork is None or fork.seq >= self.through:
            return False
        return all(part.checkpoint.epoch < fork.epoch for part in self._parts if part.last > fork.seq)

    def of(self, seq: int) -> Checkpoint | None:
        index = bisect_left(self._parts, seq, key=lambda part: part.last)
        if index == len(self._parts) or self._parts[index].checkpoint.first_seq > seq:
            return None
        return self._parts[index].checkpoint

    def entry(self, seq: int) -> bytes | None:
        """The entry hash of a row, ``GENESIS`` for 0; None if the checkpoints do not say it."""
        if seq == 0:
            return GENESIS
        covering = self.of(seq)
        if covering is not None:
            return covering.entry(seq)
        following = self.of(seq + 1)
        return None if following is None else following.before(seq + 1)


class DamagedCheckpoint(InvalidRequest):
    """A stored checkpoint has lost its form. ``first_seq``: the first row that it is stored for."""

    default_code = "invalid_checkpoint"

    def __init__(self, message: str, first_seq: int) -> None:
        super().__init__(message)
        self.args = (message, first_seq)  # what pickle calls the class with
        self.first_seq = first_seq


def make_checkpoint(
    signer: Signer,
    *,
    zone: str,
    epoch: int,
    first_seq: int,
    leaves: Sequence[bytes],
    previous: bytes,
    predecessor: str,
    at: float,
    self_signed: bool,
    begins_epoch: int | None = None,
) -> Checkpoint:
    """The checkpoint over rows from ``first_seq`` on, of which ``leaves`` are given, after the entry hash ``previous``.
    ``self_signed``: whether the key is kept in the database of the rows. ``begins_epoch``: the epoch whose first row is the first
    one."""
    assert leaves
    entries, last = bytearray(), previous
    for leaf in leaves:
        last = entry_hash(last, leaf)
        entries += last
    head = {
        "schema_version": SCHEMA_VERSION,
        "zone": zone,
        "epoch": epoch,
        "first_seq": first_seq,
        "last_seq": first_seq + len(leaves) - 1,
        "previous": previous.hex(),
        "chain": last.hex(),
        "root": tree_root(leaves).hex(),
        "entries_hash": hashlib.sha256(entries).hexdigest(),
        "predecessor": predecessor,
        "at": at,
        "key_id": signer.key_id,
        "self_signed": self_signed,
        "fork": None if begins_epoch is None else {"seq": first_seq - 1, "epoch": begins_epoch},
    }
    return Checkpoint(
        head=head,
        public_key=signer.public_key,
        signature=signer.sign(canonical_bytes(head)),
        entries=bytes(entries),
    )


def parse_checkpoint(text: str | bytes) -> Checkpoint:
    """Reads a checkpoint in its exported form. Raises: `InvalidRequest` if it has not exactly that form."""
    try:
        document = json.loads(text)
        signature = document["signature"]
        if set(document) != {"head", "signature", "entries"} or signature["algorithm"] != ALGORITHM:
            raise ValueError("it must have head, signature and entries")
        parts = (bytes.fromhex(signature["public_key"]), bytes.fromhex(signature["value"]))
        entries = base64.b64decode(document["entries"], validate=True)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _no_checkpoint(error) from error
    return checked(document["head"], *parts, entries)


def checked(head: Any, public_key: bytes, signature: bytes, entries: bytes) -> Checkpoint:
    """A checkpoint of these parts. Raises: `InvalidRequest` if they are none."""
    try:
        _check_head(head)
        canonical_bytes(head)  # as which it was signed, and which not every JSON has
        found = Checkpoint(head=head, public_key=public_key, signature=signature, entries=entries)
        rows = found.last_seq - found.first_seq + 1
        if found.first_seq < 1 or rows < 1 or len(entries) != rows * HASH_BYTES:
            raise ValueError("its numbers do not fit its entry hashes")
        if found.entry(found.last_seq) != found.chain:
            raise ValueError("its last entry hash is not its chain")
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_checkpoint(error) from error
    return found


def _no_checkpoint(error: Exception) -> InvalidRequest:
    return InvalidRequest(f"This is not an audit checkpoint: {error}.", "invalid_checkpoint")


def _check_head(head: Any) -> None:
    form = head.get("schema_version") if isinstance(head, dict) else None
    if form not in (SCHEMA_VERSION, FIRST_SCHEMA_VERSION):
        raise ValueError(f"head.schema_version must be {SCHEMA_VERSION} or {FIRST_SCHEMA_VERSION}")
    columns = {name: kind for name, kind in _HEAD.items() if name != "fork" or form == SCHEMA_VERSION}
    if set(head) != set(columns):
        raise ValueError(f"head must have exactly {', '.join(columns)}")
    for name, kind in columns.items():
        if not isinstance(head[name], kind) or (isinstance(head[name], bool) and kind is not bool):
            raise ValueError(f"head.{name} has the wrong type")
    for name in ("previous", "chain", "root", "entries_hash"):
        if len(bytes.fromhex(head[name])) != HASH_BYTES:
            raise ValueError(f"head.{name} must be {HASH_BYTES} bytes in hex")
    if head.get("fork") is not None:
        _check_fork(head["fork"], head)


def _check_fork(fork: dict[str, Any], head: dict[str, Any]) -> None:
    if set(fork) != {"seq", "epoch"} or not all(type(value) is int for value in fork.values()):
        raise ValueError("head.fork must have exactly seq and epoch, which are integers")
    if fork["seq"] != head["first_seq"] - 1 or not 0 < fork["epoch"] <= head["epoch"]:
        raise ValueError("head.fork must be the row before the first one, and an epoch up to the checkpoint's own")
