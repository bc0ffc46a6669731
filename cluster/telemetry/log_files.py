"""Where the processes of the control plane write their logs: files that several of them share, or stderr.

One file each for the API's replicas, for their requests, and for actors. Every record is one ``write`` to a file opened with
O_APPEND: the kernel puts it at the end as a whole, so that the records of two processes never mix, and one that is killed leaves
nothing unwritten. A file per process was rejected: actors restart, and each start would leave a file. One process that writes
for all was rejected too, since what was logged last before a crash is what people look for.

A file that is half of its bound is renamed (``api.log`` → ``api.1.log``, whose predecessor is deleted) by the process that fills
it. The others see at their next record that the name has another file, or none yet. A record that one of them writes meanwhile is
in the renamed file, where the readers look too. If that is deleted before the record is in it, because the writer was off the CPU
for as long as the others took to fill another half, the record is written again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from cluster.domain.base.urls import without_userinfos
from cluster.process.traces import trace
from cluster.telemetry.log_lines import written

#: The files of a run, without their suffix.
API: Final = "api"
REQUESTS: Final = "requests"
ACTORS: Final = "actors"
UP: Final = "up"
#: Those whose records `log_lines` reads.
OWN: Final = (UP, API, REQUESTS, ACTORS)

#: The logger of one line per request, in a file of its own: else a burst of requests would push the errors out of the bound.
REQUEST_LOGGER: Final = "serve_app.requests"
ROOMS: Final = ("actors", "cluster", "serve_app", "regions")
SHORTEST_SECRET: Final = 8

_LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


def older(file: Path) -> Path:
    """Where the older half of a log is."""
    return file.with_name(f"{file.stem}.1{file.suffix}")


class LogFile:
    """A file that several processes append to, of at most ``most_bytes``, its older half included. Mode 0600."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._half = most_bytes // 2
        #: The open file and its inode; (-1, 0) before the first record.
        self._open = (-1, 0)
        #: Whether only a part of the last record was written, because the disk is full.
        self._torn = False

    def append(self, text: str) -> None:
        """Appends a record. Raises: `OSError` if it cannot be written."""
        data = text.encode("utf-8", "backslashreplace")
        self._write(data)
        if os.fstat(self._open[0]).st_nlink == 0:
            self._write(data)

    def _write(self, data: bytes) -> None:
        size = self._current()
        if size and size + len(data) > self._half:
            self._rotate()
            self._current()
        if self._torn:
            data = b"\n" + data
        count = os.write(self._open[0], data)
        self._torn = count < len(data)
        if self._torn:
            raise OSError("the disk is full")

    def _current(self) -> int:
        """Opens the file that has the name now, if that is another one; returns its size."""
        descriptor, inode = self._open
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            found = None
        if found is None or found.st_ino != inode or descriptor < 0:
            self.close()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
            found = os.fstat(descriptor)
            self._open = (descriptor, found.st_ino)
        return found.st_size

    def _rotate(self) -> None:
        """Renames the file, unless another process does or has done so. It never waits: it may be in an event loop. So the
        others write on while the one that renames is off the CPU, and the bound is exceeded by as much."""
        descriptor, inode = self._open
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            with suppress(FileNotFoundError):  # renamed by another process, and nobody has made the next file yet
                if os.stat(self._path).st_ino == inode:
                    self._path.replace(older(self._path))
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        descriptor, _ = self._open
        self._open = (-1, 0)
        if descriptor >= 0:
            os.close(descriptor)


#: Credentials of callers, by their forms: an API key, a session, a token (JWT), and whatever a query has as its token or
#: ticket; and the user and password of a URL, such as an agent's endpoint. uvicorn logs the query of every WebSocket at level
#: info, HTTP clients log the URLs that they call, and errors may quote a header.
_CREDENTIALS = re.compile(
    r"(ar[as]_[0-9a-z]{10,40}_)[0-9a-z]+|()eyJ[\w-]+\.[\w-]+\.[\w-]+|([?&](?:token|ticket)=)[^&\s\"']+"
)
_MARKS = ("ara_", "ars_", "eyJ", "token=", "ticket=")


def without_credentials(text: str) -> str:
    """The text with the credentials of callers and URLs masked. The id of a key stays."""
    text = without_userinfos(text)
    if not any(mark in text for mark in _MARKS):
        return text
    return _CREDENTIALS.sub(lambda found: f"{found[1] or found[2] or found[3] or ''}***", text)


class RecordFormatter(logging.Formatter):
    """A record as `log_lines` has it, without the secrets of the settings and without credentials of callers: a driver's error
    may quote a URL."""

    def __init__(self, process: str, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._process = f"{process}:{os.getpid()}"
        self._secrets = sorted({secret for secret in secrets if len(secret) >= SHORTEST_SECRET}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        # Not `formatException`: it prints into a file, and Ray Serve replaces `print`, which makes one line of all.
        raised = record.exc_info[1] if record.exc_info else None
        error = "".join(traceback.format_exception(raised)).rstrip("\n") if raised is not None else ""
        return written(
            record.created,
            record.levelname,
            self._process,
            trace(),
            record.name,
            self._without_secrets(_message(record)),
            self._without_secrets(error),
        )

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "***")
        return without_credentials(text)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - a line whose arguments do not fit, or cannot be shown, is kept all the same
        return f"{record.msg} ({type(error).__name__} while its arguments were shown)"


class RecordHandler(logging.Handler):
    """Writes records to a file, or to stderr if there is none, or if the file cannot be written."""

    def __init__(self, file: LogFile | None, formatter: RecordFormatter) -> None:
        super().__init__()
        self._file = file
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if self._file is not None:
            with suppress(OSError):
                self._file.append(text)
                return
        with suppress(OSError, ValueError, AttributeError):  # the stream is closed, or there is none
            sys.stderr.write(text.encode("utf-8", "backslashreplace").decode())
            sys.stderr.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()


def begin_logging(
    process: str, stream: str, level: str, *, directory: Path | None, most_bytes: int, secrets: Sequence[str] = ()
) -> None:
    """Makes this process log as ``process``, to the file ``stream`` of the directory, or without one to stderr. Others' loggers
    log from WARNING on."""
    formatter = RecordFormatter(process, secrets)

    def handler(name: str) -> RecordHandler:
        file = LogFile(directory / f"{name}.log", most_bytes) if directory is not None else None
        return RecordHandler(file, formatter)

    _put(logging.getLogger(), handler(stream))
    for room in ROOMS:
        logging.getLogger(room).setLevel(_LEVELS[level])
    if directory is not None and stream == API:
        requests = logging.getLogger(REQUEST_LOGGER)
        _put(requests, handler(REQUESTS))
        requests.propagate = False


def end_logging() -> None:
    """Undoes `begin_logging`."""
    for name in (None, REQUEST_LOGGER):
        logger = logging.getLogger(name)
        _remove(logger)
        logger.propagate = True
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.NOTSET)


def _put(logger: logging.Logger, handler: RecordHandler) -> None:
    """Adds the handler in the place of an earlier one of ours."""
    _remove(logger)
    logger.addHandler(handler)


def _remove(logger: logging.Logger) -> None:
    for known in [known for known in logger.handlers if isinstance(known, RecordHandler)]:
        logger.removeHandler(known)
        known.close()
