"""Ids that clients choose (of which their own package has the rules), and ids that we make."""

from __future__ import annotations

import base64

from aragora_worker.base.ids import ID_PATTERN, ROUTE_WORDS, check_id, claim_id_of, path_segment, process_of

__all__ = ["ID_PATTERN", "ROUTE_WORDS", "check_id", "claim_id_of", "path_segment", "process_of", "sortable_id"]

_TO_CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghjkmnpqrstvwxyz")


def sortable_id(prefix: str, now: float, entropy: bytes) -> str:
    """``prefix_`` + 48 bits of milliseconds + 80 bits of entropy in Crockford base 32, 26 characters (ULID layout).

    Ids made later sort later, so a B-tree on them grows at its right edge.
    """
    assert len(entropy) == 10, "80 bits of entropy"
    # 130 bits are 26 digits; shifted to whole bytes, the standard base 32 has them first, in its own alphabet.
    number = ((int(now * 1000) << 80) | int.from_bytes(entropy, "big")) << 6
    digits = base64.b32encode(number.to_bytes(17, "big"))[:26].translate(_TO_CROCKFORD)
    return f"{prefix}_{digits.decode()}"
