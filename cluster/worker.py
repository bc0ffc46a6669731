"""The worker kit under the name that users import: ``from cluster.worker import Job, Reject, Worker`` (docs/workers.md).

Users' code contains this name, so it stays, wherever the worker kit itself lives.
"""

from aragora_worker.worker import Job, Reject, Worker

__all__ = ["Job", "Reject", "Worker"]
