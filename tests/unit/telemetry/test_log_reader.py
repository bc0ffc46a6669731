"""Logs are read as one, in order of time, while they grow and are renamed: each record once, none left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.telemetry.log_files import LogFile, older
from cluster.telemetry.log_lines import written
from cluster.telemetry.log_reader import FollowedLog, MergedLogs

AT = 1_800_000_000.0


def record(n: int, trace: str = "t", error: str = "") -> str:
    return written(AT + n, "INFO", "api:1", trace, "test", f"record {n}", error)


def numbers(records: object) -> list[int]:
    return [int(found.text.split("\n")[0].rpartition(" ")[2]) for found in records]  # type: ignore[attr-defined]


@given(st.lists(st.sampled_from(["write", "read", "write many"]), max_size=60))
def test_each_record_is_read_once_across_renames(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """A reader that looks at least once per rename misses nothing, however the log is cut into files."""
    path = tmp_path_factory.mktemp("logs") / "api.log"
    file, followed, read, count = LogFile(path, 1200), FollowedLog(path), [], 0
    for step in [*steps, "read"]:
        for _ in range({"write": 1, "write many": 5, "read": 0}[step]):
            file.append(record(count))
            count += 1
        read += numbers(followed.read())
    assert read == list(range(count))
    file.close()
    followed.close()


def test_a_record_that_a_writer_puts_into_the_renamed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    late, followed = LogFile(path, 10_000), FollowedLog(path)
    late.append(record(0))
    assert numbers(followed.read()) == [0]
    path.rename(older(path))
    LogFile(path, 10_000).append(record(2))
    assert numbers(followed.read()) == [2]
    with older(path).open("a") as renamed:
        renamed.write(record(1))
    assert numbers(followed.read()) == [1]
    late.append(record(3))  # it sees that the name has another file now
    assert "record 3" in path.read_text()
    assert numbers(followed.read()) == [3]


@pytest.mark.parametrize("cut", range(1, 180, 7))
def test_half_a_line_waits_for_its_rest(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "api.log"
    data = (record(0) + record(1, error="an error\nof two lines") + record(2)).encode()
    path.write_bytes(data[:cut])
    followed = FollowedLog(path)
    found = followed.read()
    with path.open("ab") as rest:
        rest.write(data[cut:])
    found += followed.read()
    assert "".join(f"{part.text}\n" for part in found).encode() == data
    assert all(part.trace == "t" for part in found)


def test_logs_are_one_in_order_of_time_and_of_one_trace(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.log" for name in ("api", "actors", "requests")]
    for n in range(30):
        LogFile(paths[n % 3], 10_000).append(record(n, f"t{n % 2}", "why" if n == 7 else ""))
    merged = MergedLogs()
    merged.add([*paths, tmp_path / "not there yet.log"])
    merged.add(paths)
    assert numbers(merged.read()) == list(range(30))
    assert merged.read() == []
    again = MergedLogs()
    again.add(paths)
    found = again.read("t1")
    assert numbers(found) == list(range(1, 30, 2))
    assert [part.text.endswith("\n    why") for part in found] == [n == 7 for n in range(1, 30, 2)]


def test_bytes_that_are_no_text_are_shown_escaped(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    path.write_bytes(record(0).encode() + b"torn \xff\x1b[31m\n")
    (found,) = FollowedLog(path).read()
    assert found.text.endswith("\ntorn \\xff\\x1b[31m")
