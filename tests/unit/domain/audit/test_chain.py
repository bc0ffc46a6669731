"""The chain's hashes are fixed for ever: checkpoints that have left are compared with them."""

from __future__ import annotations

import hashlib
import math
import struct

from cluster.domain.audit.chain import GENESIS, entry_hash, row_leaf


def test_hashes_are_those_of_the_description() -> None:
    digest = hashlib.sha256(b"row").digest()
    canonical = b"aragora audit row, version 1\0" + struct.pack(">q", 7) + struct.pack(">h", 2) + struct.pack(">d", 1.5)
    leaf = hashlib.sha256(b"\0" + canonical + digest).digest()
    assert row_leaf(7, 1.5, 2, digest) == leaf
    assert entry_hash(GENESIS, leaf) == hashlib.sha256(b"aragora audit entry, version 1\0" + bytes(32) + leaf).digest()


def test_a_leaf_binds_all_that_it_is_made_of() -> None:
    at = 1_700_000_000.0
    given = (7, at, 2, bytes(32))
    changed = [
        (8, at, 2, bytes(32)),
        (7, math.nextafter(at, 2 * at), 2, bytes(32)),
        (7, at, 1, bytes(32)),
        (7, at, 2, bytes(31) + b"\1"),
    ]
    assert row_leaf(*given) not in {row_leaf(*values) for values in changed}
