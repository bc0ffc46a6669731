from __future__ import annotations

from scripts.audit_dependencies import found


def test_a_report_is_told_by_vulnerability_and_by_what_nobody_knew() -> None:
    """As pip-audit 2.10.1 writes it."""
    vulnerable = {"id": "PYSEC-2099-1", "fix_versions": ["1.1", "2.0"], "aliases": [], "description": "Too open."}
    report = {
        "dependencies": [
            {"name": "good", "version": "1.0", "vulns": []},
            {
                "name": "bad",
                "version": "1.0",
                "vulns": [vulnerable, {**vulnerable, "id": "GHSA-x", "fix_versions": []}],
            },
            {"name": "own", "skip_reason": "Dependency not found on PyPI and could not be audited: own (1.0)"},
        ],
        "fixes": [],
    }
    lines, packages, known = found(report)
    assert lines == ["bad 1.0: PYSEC-2099-1, mended in 1.1, 2.0", "bad 1.0: GHSA-x, mended in -"]
    assert (packages, known) == (3, 2)
