"""The directories of one system on one machine: the data directory, and a short private one for sockets."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cluster.domain.base.errors import ControlPlaneError

#: How many bytes the path above the socket directory may have. HAProxy accepts socket paths of at most 97 bytes, and
#: Serve's node id and file name need 66 of them.
LONGEST_BASE = 16


class EmbeddedError(ControlPlaneError):
    """This machine cannot do what was asked; the sentence says what to do."""

    default_code = "embedded_failed"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one system. ``data_dir`` is absolute and has no links; ``sockets`` is short, private and named by its hash."""

    data_dir: Path
    sockets: Path

    @classmethod
    def of(cls, data_dir: Path) -> Layout:
        """The layout of a data directory."""
        real = data_dir.expanduser().resolve()
        name = f"aragora-{hashlib.sha256(os.fsencode(real)).hexdigest()[:10]}"
        base = Path(tempfile.gettempdir())
        if len(os.fsencode(base)) > LONGEST_BASE:
            base = Path("/tmp")  # nosec B108
        return cls(real, base / name)

    def create(self) -> None:
        """Makes both directories, private ones. Raises: `EmbeddedError` if the socket directory belongs to another user."""
        for directory in (self.data_dir, self.logs):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        found = self.sockets.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise EmbeddedError(
                f"{self.sockets} belongs to somebody else; remove it, or choose another data directory."
            )
        self.sockets.chmod(0o700)

    @property
    def logs(self) -> Path:
        return self.data_dir / "logs"

    @property
    def log_archive(self) -> Path:
        """Where the oldest rows of the audit's log go."""
        return self.data_dir / "log-archive"

    @property
    def region_socket(self) -> Path:
        """Where operators reach the region's leader, if the region has peers."""
        return self.sockets / "region-leader.sock"

    @property
    def postgres(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def redis(self) -> Path:
        return self.data_dir / "redis"

    @property
    def secrets(self) -> Path:
        return self.data_dir / "secrets.json"

    @property
    def sealing_key(self) -> Path:
        return self.data_dir / "secrets-key"

    @property
    def config_file(self) -> Path:
        return self.data_dir / "config.json"

    @property
    def run_file(self) -> Path:
        return self.data_dir / "run.json"

    @property
    def lock_file(self) -> Path:
        return self.data_dir / "up.lock"

    @property
    def ray(self) -> Path:
        return self.sockets / "ray"

    @property
    def ray_token(self) -> Path:
        return self.data_dir / "ray-token"
