"""Writes the generated part of docs/tasks.md."""

from __future__ import annotations

import sys
from pathlib import Path

from cluster.domain.tasks.table import with_table

if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_table(page.read_text()))
