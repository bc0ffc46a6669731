"""Passwords and private files of a data directory."""

from __future__ import annotations

import stat
from pathlib import Path

from cluster.embedded.layout import Layout
from cluster.embedded.secrets import store_secrets, write_private


def test_secrets_are_made_once_and_differ_between_systems(layout: Layout, tmp_path: Path) -> None:
    made = store_secrets(layout.secrets)
    assert store_secrets(layout.secrets) == made
    other = store_secrets(tmp_path / "other.json")
    assert len({made.postgres, made.redis, other.postgres, other.redis}) == 4


def test_a_private_file_replaces_one_that_was_open_to_others(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("old")
    file.chmod(0o644)
    (tmp_path / "f.new").write_text("left by a crash")
    write_private(file, "new")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o600)
