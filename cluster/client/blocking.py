"""The blocking client under the name that it had in this package; it is ``aragora_worker.blocking`` now."""

from aragora_worker.blocking import BlockingClient

__all__ = ["BlockingClient"]
