"""``python -m aragora_worker``."""

from aragora_worker.command import main

main()
