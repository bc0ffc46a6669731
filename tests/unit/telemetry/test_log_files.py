"""Several processes write one log: no record is lost or mixed, and the log stays within its bound."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from cluster.process.traces import traced
from cluster.settings import load_settings
from cluster.telemetry.log_files import (
    ACTORS,
    API,
    REQUEST_LOGGER,
    REQUESTS,
    LogFile,
    RecordFormatter,
    begin_logging,
    end_logging,
    older,
)
from cluster.telemetry.log_reader import FollowedLog

#: Appends records of its own to a file that others append to.
_PROGRAM = """
import sys
from pathlib import Path
from cluster.telemetry.log_files import LogFile
from cluster.telemetry.log_lines import written

file = LogFile(Path(sys.argv[1]), int(sys.argv[2]))
for number in range(int(sys.argv[4])):
    file.append(written(1e9 + number, "INFO", sys.argv[3], "t", "test", str(number) * 20, "an error\\n" * (number % 7)))
"""


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    end_logging()


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def writers(path: Path, most_bytes: int, count: int, records: int) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", _PROGRAM, str(path), str(most_bytes), f"p{n}", str(records)])
        for n in range(count)
    ]
    assert [process.wait(60) for process in running] == [0] * count


def test_records_of_several_processes_neither_mix_nor_get_lost(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    writers(path, 1_000_000_000, count=3, records=300)
    found = FollowedLog(path).read()
    for n in range(3):
        own = [record.text for record in found if f" p{n} " in record.text.split("\n")[0]]
        assert [text.split("\n")[0].split(": ")[1] for text in own] == [str(number) * 20 for number in range(300)]
        assert [text.count("\n") for text in own] == [number % 7 for number in range(300)]


def test_a_log_that_several_processes_fill_stays_bounded_and_newest(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    writers(path, 100_000, count=4, records=1500)
    found = FollowedLog(path).read()
    assert sum(len(record.text) + 1 for record in found) == _bytes(path)
    for n in range(4):
        own = [record.text.split("\n")[0].split(": ")[1] for record in found if f" p{n} " in record.text.split("\n")[0]]
        last = [str(number) * 20 for number in range(1500)][-len(own) :] if own else []
        assert own == last
    # The bound is 100,000, which the others exceed while the one that renames is off the CPU. One alone keeps it.
    assert len(found) < 4 * 1500
    writers(path, 100_000, count=1, records=1500)
    assert _bytes(path) <= 100_000


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, older(path)))


class _Meanwhile:
    """Stands in front of a function of the system, and lets another process act just before its first call."""

    def __init__(self, patch: pytest.MonkeyPatch, function: str, act: Callable[[], None]) -> None:
        module, name = function.split(".")
        self._real = getattr(sys.modules[module], name)
        self._act: Callable[[], None] | None = act
        patch.setattr(function, self)

    def __call__(self, *arguments: Any) -> Any:
        act, self._act = self._act, None
        if act is not None:
            act()
        return self._real(*arguments)


def test_a_file_that_another_process_has_just_renamed_costs_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "api.log"
    file = LogFile(path, 100)
    file.append("x" * 30 + "\n")
    _Meanwhile(monkeypatch, "fcntl.flock", lambda: os.rename(path, older(path)))
    file.append("y" * 30 + "\n")
    assert (older(path).read_text(), path.read_text()) == ("x" * 30 + "\n", "y" * 30 + "\n")


def test_a_record_for_a_file_that_is_deleted_meanwhile_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "api.log"
    file = LogFile(path, 1000)
    file.append("first\n")
    _Meanwhile(monkeypatch, "os.write", path.unlink)
    file.append("second\n")
    assert path.read_text() == "second\n"


def test_a_log_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = LogFile(tmp_path / "api.log", 100)
        for _ in range(5):
            file.append("x" * 30 + "\n")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert {path.name for path in tmp_path.iterdir()} == {"api.log", "api.1.log"}


@examples(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_categories=(), exclude_characters="\n"), max_size=30), max_size=30))
def test_what_fits_the_bound_is_there_in_order(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("logs") / "api.log"
    file = LogFile(path, 400)
    lines = [f"{text}\n" for text in texts]
    for line in lines:
        file.append(line)
    kept = (older(path).read_bytes() if older(path).exists() else b"") + (path.read_bytes() if lines else b"")
    whole = "".join(lines).encode("utf-8", "backslashreplace")
    assert whole.endswith(kept)
    assert len(kept) == len(whole) or len(kept) > 400 // 2 - 200
    file.close()


def test_a_deleted_directory_costs_no_call_its_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The line goes to stderr instead."""
    begin_logging("api", API, "info", directory=tmp_path / "away", most_bytes=1000)
    logging.getLogger("serve_app").warning("still there")
    assert "serve_app: still there" in capfd.readouterr().err


def test_levels_rooms_and_requests_have_their_files(tmp_path: Path) -> None:
    begin_logging("api", API, "info", directory=tmp_path, most_bytes=100_000)
    with traced("5f3c"):
        logging.getLogger("serve_app").info("of the request")
        logging.getLogger(REQUEST_LOGGER).info("GET /x answered 404")
    with traced("#17"):
        logging.getLogger("actors.scheduler").debug("too quiet")
        logging.getLogger("somebody.else").info("too quiet too")
        logging.getLogger("somebody.else").warning("loud")
    text = text_of(tmp_path / f"{API}.log")
    assert f" INFO api:{os.getpid()} 5f3c serve_app: of the request\n" in text
    assert f" WARNING api:{os.getpid()} - somebody.else: loud\n" in text
    assert "quiet" not in text
    assert " 5f3c serve_app.requests: GET /x answered 404\n" in text_of(tmp_path / f"{REQUESTS}.log")
    assert "answered" not in text
    end_logging()
    logging.getLogger("serve_app").warning("no more")
    assert text_of(tmp_path / f"{API}.log") == text


def test_an_error_stays_with_its_record(tmp_path: Path) -> None:
    begin_logging("scheduler-0", ACTORS, "debug", directory=tmp_path, most_bytes=100_000)
    logger = logging.getLogger("actors")
    try:
        raise ValueError("first line\n2026-03-01T12:00:00.000000Z ERROR api:1 theirs x: forged")
    except ValueError:
        logger.exception("it failed")
    (found,) = FollowedLog(tmp_path / f"{ACTORS}.log").read()
    assert found.text.endswith("\n    2026-03-01T12:00:00.000000Z ERROR api:1 theirs x: forged")
    assert "ValueError: first line" in found.text


class _Mute:
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(("message", "argument"), [("a number: %d", "x"), ("%s", _Mute()), ("%s %s", 1), ("%z", 1)])
def test_a_message_whose_arguments_do_not_fit_is_a_line(message: str, argument: object) -> None:
    record = logging.LogRecord("x", logging.ERROR, "f", 1, message, (argument,), None)
    assert RecordFormatter("api").format(record).count("\n") == 1


@pytest.mark.parametrize("said", ["postgresql://u:s3cr%40t-word@host/d", "password is s3cr@t-word", "key sk-abcdefgh"])
def test_secrets_of_the_settings_are_not_written(tmp_path: Path, said: str) -> None:
    settings = load_settings(
        {
            "ARAGORA_DATABASE_URL": "postgresql://u:s3cr%40t-word@host/d",
            "OPENAI_API_KEY": "sk-abcdefgh",
        }
    )
    formatter = RecordFormatter("api", settings.secrets())
    try:
        raise ValueError(said)
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "said: %s", (said,), (ValueError, error, None))
    text = formatter.format(record)
    assert "***" in text
    assert not any(secret in text for secret in ("s3cr", "sk-abc"))


_KEY = "ara_0123456789abcdefghjk_" + "s" * 32
_TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"Bearer {_KEY} x", "Bearer ara_0123456789abcdefghjk_*** x"),
        (f"Bearer {_TOKEN} x", "Bearer *** x"),
        ('"WebSocket /ws?a=1&token=p%20q&b=2" [accepted]', '"WebSocket /ws?a=1&token=***&b=2" [accepted]'),
        ("GET http://u:p@h:1/x and https://t@h", "GET http://***@h:1/x and https://***@h"),
        ("see http://h/x?to=a@b and a@b", "see http://h/x?to=a@b and a@b"),
        ("used 5 tokens, token=5 is no query, eyJ neither", "used 5 tokens, token=5 is no query, eyJ neither"),
    ],
)
def test_credentials_of_callers_are_not_written(said: str, shown: str) -> None:
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "said: %s", (said,), None)
    assert RecordFormatter("api").format(record).endswith(f"said: {shown}\n")


def test_where_logs_go_replaces_no_actor() -> None:
    names = {"ARAGORA_LOG_DIR": "/somewhere", "ARAGORA_LOG_MAX_BYTES": "70000"}
    assert load_settings(names).fingerprint() == load_settings({}).fingerprint()


def test_a_stack_trace_keeps_its_lines_though_print_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Serve replaces it by one that writes a line of the log."""
    monkeypatch.setattr("builtins.print", lambda *words, **options: options["file"].write(repr(words)))
    try:
        raise ValueError("it broke")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "it failed", (), sys.exc_info())
    lines = RecordFormatter("api").format(record).splitlines()
    assert [line.strip() for line in (lines[1], lines[-1])] == [
        "Traceback (most recent call last):",
        "ValueError: it broke",
    ]
