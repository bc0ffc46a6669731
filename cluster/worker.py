"""The name that workers' code imports: ``from cluster.worker import Job, Reject, Worker`` (docs/workers.md).

Code of users says it, so it stays where it is, wherever the worker kit itself lives.
"""

from cluster.client.worker import Job, Reject, Worker

__all__ = ["Job", "Reject", "Worker"]
