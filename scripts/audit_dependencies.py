"""Asks for the known vulnerabilities of every pinned package, by pip-audit: ``python -m scripts.audit_dependencies LOCK``.

Nobody may answer: a machine may have no way out, and an index of its own may know no vulnerabilities. Then it says so, and that
is no failure: a package is not vulnerable because nobody could be asked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PIP_AUDIT = "pip-audit==2.10.1"
WITHIN_S = 300.0


def found(report: dict[str, Any]) -> tuple[list[str], int, int]:
    """(a line for each vulnerability, how many packages there are, how many of them somebody knew) of a report of pip-audit."""
    packages: Sequence[dict[str, Any]] = report["dependencies"]
    known = [package for package in packages if "vulns" in package]
    lines = [
        f"{package['name']} {package['version']}: {known_one['id']}, mended in {', '.join(known_one['fix_versions']) or '-'}"
        for package in known
        for known_one in package["vulns"]
    ]
    return lines, len(packages), len(known)


def _report(lock: Path) -> dict[str, Any] | None:
    """None if there is none."""
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "tool", "run", "--from", PIP_AUDIT, "pip-audit", "--disable-pip", "--require-hashes"]
    try:
        ran = subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off", "-r", str(lock)],
            capture_output=True,
            text=True,
            check=False,
            timeout=WITHIN_S,
        )
        report: dict[str, Any] = json.loads(ran.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    return report


def main() -> None:
    """Raises: `SystemExit` with 1 if a package is known to be vulnerable."""
    report = _report(Path(sys.argv[1]))
    if report is None:
        print("Vulnerabilities of packages: pip-audit gave no report here, so nothing was audited.")
        return
    lines, packages, known = found(report)
    print(
        f"Vulnerabilities of packages: {len(lines)} in {known} packages; nobody answered for {packages - known} others."
    )
    if lines:
        raise SystemExit("\n".join(lines))


if __name__ == "__main__":
    main()
