"""What the core needs from outside, as Protocols. One file per family; adapters live in
``cluster/postgres``, ``cluster/redis`` and ``cluster/agent_transports``.

Every write method takes a batch and is one round trip and one transaction; outcomes come back per item, in order. A
write raises ``Fenced`` when the region's epoch, the shard's generation or a worker's fence was replaced, and
``StoreUnavailable`` when the store does not answer: the outcome is then unknown, and the caller repeats the same call
(every item can be repeated).
"""
