"""What manifests, documents and the code say about the same things."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cluster.settings import CLIENT_NAMES, Settings, variable_name

ROOT = Path(__file__).resolve().parents[2]

#: Every environment variable that a process of ours or the released client reads.
VARIABLES = frozenset(
    {variable_name(name, info) for name, info in Settings.model_fields.items()} | {*CLIENT_NAMES, "ARAGORA_CONFIG_FILE"}
)


def manifests() -> list[Path]:
    return [ROOT / "ray-cluster.yaml", *sorted((ROOT / "kuberay").glob("*.yaml"))]


def region_manifests() -> list[Path]:
    """Those of several regions, and patches."""
    kuberay = ROOT / "kuberay"
    return [*sorted((kuberay / "regions").rglob("*.yaml")), *sorted((kuberay / "patches").glob("*.yaml"))]


def documents() -> list[Path]:
    """Everything that a user reads or applies."""
    pages = [*(ROOT / "docs").rglob("*"), *ROOT.glob("*.md"), ROOT / "Dockerfile", *manifests(), *region_manifests()]
    return [page for page in pages if page.is_file()]


def variables_named(text: str) -> Iterator[str]:
    """``ARAGORA_*`` is the family, not a variable."""
    return (found for found in re.findall(r"\bARAGORA_[A-Z][A-Z0-9_]*(?![A-Z0-9_*])", text) if not found.endswith("_"))
