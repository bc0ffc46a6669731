"""The layout of a data directory: private, and with socket paths that are short enough."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cluster.embedded.layout import EmbeddedError, Layout
from cluster.embedded.secrets import store_secrets, write_private


def test_directories_and_files_are_private(layout: Layout) -> None:
    store_secrets(layout.secrets)
    write_private(layout.ray_token, "token")
    for directory in (layout.data_dir, layout.logs, layout.sockets):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for file in (layout.secrets, layout.ray_token):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_socket_paths_are_short_private_and_of_one_data_directory(layout: Layout, tmp_path: Path) -> None:
    assert len(os.fsencode(layout.sockets)) + len("/ray/session_latest/sockets/plasma_store") < 107
    assert Layout.of(layout.data_dir / ".." / layout.data_dir.name).sockets == layout.sockets
    assert Layout.of(tmp_path / "other").sockets != layout.sockets
    link = tmp_path / "link"
    link.symlink_to(layout.data_dir)
    assert Layout.of(link) == layout


def test_a_socket_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    made = Layout(tmp_path / "data", tmp_path / "sockets")
    (tmp_path / "elsewhere").mkdir()
    made.sockets.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EmbeddedError, match="belongs to somebody else"):
        made.create()
