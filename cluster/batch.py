"""``python -m cluster.batch run IN.jsonl --out OUT.jsonl --resume``: a batch, run by a Ray job or any other process."""

from __future__ import annotations

from cluster.cli.commands.batch import app
from cluster.cli.exit_codes import guarded


def main() -> None:
    guarded(app)


if __name__ == "__main__":
    main()
