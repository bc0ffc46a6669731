"""What the core needs from outside, as Protocols. One file per family; adapters live in
``cluster/postgres``, ``cluster/redis`` and ``cluster/agent_transports``.

A write of a batch is one round trip and one transaction, and returns one outcome per item, in order. A write
raises `Fenced` if the region's epoch or the shard's generation was replaced. Every method raises `StoreUnavailable` if the
store does not answer. The outcome of a write is then unknown: the caller repeats the same call, since every item can be
repeated.
"""
