"""The worker kit under the name that it had in this package; it is ``aragora_worker.worker`` now."""

from aragora_worker.worker import Job, Reject, Worker

__all__ = ["Job", "Reject", "Worker"]
