"""The audit of the log: a hash chain over its rows, and signed checkpoints that commit to it.

    canonical bytes of a row  label, seq, form, time as a double, digest
      → leaf                  SHA-256(0x00 ‖ canonical bytes), a leaf of RFC 6962
      → entry hash            SHA-256(label ‖ previous entry hash ‖ leaf); the first row's previous one is 32 zero bytes
    checkpoint                rows first to last: chain before and after them, root of their leaves, hash of their entry hashes,
                              digest of the checkpoint before; signed

The row's digest covers all else of it, and the words of its private part by their salted hash alone, so that words can be deleted
and the chain stays whole. The chain has no key and no time of its own: whoever has the rows computes the same one, in any region,
whatever the checkpoints' bounds are.
"""
