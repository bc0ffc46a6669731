"""Files and folders of any kind are searched to their end, or named as not searched."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pytest

from regions.links.messages import Greeting, MessageKind, packed
from regions.scanner.__main__ import programs
from regions.scanner.markers import Marker
from regions.scanner.scan import PART, Report, Scan
from regions.scanner.search import Needlework

SECRET = "what nobody outside of the zone may read"
LINE = json.dumps({"at": 1, "private": {"text": SECRET}}).encode() + b"\n"
OTHER = Marker(id="m2", text="another text that is nowhere")
FILLER = b"".join(b"%d: nothing to see here\n" % n for n in range(2000))


def scan(*paths: Path) -> Report:
    it = Scan(Needlework([Marker(id="m1", text=SECRET), OTHER]), programs())
    for path in paths:
        it.path(path)
    return it.report


def where(report: Report) -> dict[str, str]:
    """Name of the file → the streams within it, of what was found."""
    assert {marker for _, _, marker in report.found} <= {"m1"}
    return {Path(file).name: inside for file, inside, _ in report.found}


def tar_of(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


PACKED = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout,
    "lz4": lambda data: subprocess.run(["lz4", "-qc"], input=data, capture_output=True, check=True).stdout,
}


@pytest.mark.parametrize("form", PACKED)
def test_packed_files_are_unpacked(tmp_path: Path, form: str) -> None:
    if form in ("zstd", "lz4") and shutil.which(form) is None:
        pytest.skip(f"{form} is not installed")
    (tmp_path / "archive").write_bytes(PACKED[form](FILLER + LINE + FILLER))
    (tmp_path / "other").write_bytes(PACKED[form](FILLER))
    report = scan(tmp_path)
    found = {(Path(file).name, inside) for file, inside, _ in report.found}
    # What LZ4 does not compress is in the packed file as it is.
    assert {("archive", form)} <= found <= {("archive", form), ("archive", "")}
    assert report.unread == []


def test_two_gzip_members_one_after_the_other_are_both_read(tmp_path: Path) -> None:
    (tmp_path / "log.gz").write_bytes(gzip.compress(FILLER) + gzip.compress(LINE) + bytes(512))
    assert where(scan(tmp_path)) == {"log.gz": "gzip"}


def test_an_archive_in_an_archive_names_the_way_to_the_bytes(tmp_path: Path) -> None:
    inner = gzip.compress(tar_of(one=FILLER, two=gzip.compress(LINE)))
    (tmp_path / "backup.tar").write_bytes(tar_of(first=FILLER * 40, base=inner, last=FILLER))
    assert where(scan(tmp_path)) == {"backup.tar": "base > gzip > two > gzip"}


def test_streams_within_a_file_are_undone(tmp_path: Path) -> None:
    """As in a capture of what travels between two parts: frames, and answers of HTTP."""
    (tmp_path / "capture").write_bytes(FILLER + zlib.compress(LINE) + FILLER * 30 + b"x" + gzip.compress(LINE) + FILLER)
    report = scan(tmp_path)
    assert where(report) == {"capture": "compressed stream"}
    assert report.hits == 2


def test_a_captured_frame_of_a_link_is_undone(tmp_path: Path) -> None:
    body = packed(MessageKind.GREETING, Greeting(region=SECRET, zone="z", oldest=1, newest=1, release="r"))
    assert SECRET.encode() not in body
    (tmp_path / "capture").write_bytes(b"\1\0\0\0\7" + len(body).to_bytes(4, "big") + body)
    assert where(scan(tmp_path)) == {"capture": "compressed stream"}


@pytest.mark.parametrize("before", [PART - 10, PART, 3 * PART - len(LINE) // 2, 0])
def test_what_lies_across_two_reads_is_found(tmp_path: Path, before: int) -> None:
    (tmp_path / "log").write_bytes(b"." * before + LINE + b"." * PART)
    (found,) = scan(tmp_path).found.values()
    assert (found.offset, found.times) == (before + LINE.index(SECRET.encode()), 1)


MEASURED = """
import runpy, sys
try:
    runpy.run_module("regions.scanner", run_name="__main__")
finally:
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(peak.split()[1], file=sys.stderr)
"""


def test_huge_files_are_searched_within_bounded_memory(tmp_path: Path) -> None:
    """A sparse file of 80 MB, and a packed one that is as long when it is undone, both with one line at their end."""
    size = 80 * 2**20
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(size)
        file.write(LINE)
    with gzip.open(tmp_path / "zeros.gz", "wb", compresslevel=1) as packed_file:
        for _ in range(size // 2**20):
            packed_file.write(bytes(2**20))
        packed_file.write(LINE)
    asked = {"markers": [{"id": "m1", "text": SECRET}], "paths": [str(tmp_path)]}
    command = [sys.executable, "-c", MEASURED]
    ran = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stderr
    offset = size + LINE.index(SECRET.encode())
    found = {(Path(each["file"]).name, each["offset"]) for each in json.loads(ran.stdout)["found"]}
    assert found == {("sparse", offset), ("zeros.gz", offset)}
    assert int(ran.stderr.split()[-1]) < 150 * 1024, "KB"


CLOSED = {
    "cut.gz": gzip.compress(FILLER)[:-20],
    "broken.xz": lzma.compress(FILLER)[:40] + b"!" * 40,
    "broken.zst": b"\x28\xb5\x2f\xfd" + b"!" * 100,
    "dump": b"PGDMP" + b"!" * 100,
    "papers.zip": b"PK\x03\x04" + b"!" * 100,
    "sealed.age": b"age-encryption.org/v1\n" + b"!" * 100,
    "cut.tar": tar_of(one=FILLER)[:3000],
}


@pytest.mark.parametrize("name", CLOSED)
def test_a_file_that_is_not_read_to_its_end_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CLOSED[name])
    report = scan(tmp_path)
    assert [Path(file.split(" > ")[0]).name for file, _ in report.unread] == [name]
    assert not report.is_clean


def test_its_bytes_are_searched_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(CLOSED["cut.gz"] + LINE)
    assert "" in where(scan(tmp_path)).values()


def test_a_program_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"!" * 100)
    monkeypatch.setenv("PATH", str(tmp_path))
    ((_, why),) = scan(tmp_path).unread
    assert "zstd, which is not installed" in why


def test_what_cannot_be_opened_is_named_and_the_rest_searched(tmp_path: Path) -> None:
    (tmp_path / "b").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a").symlink_to(tmp_path)
    odd = os.fsencode(tmp_path) + b"/\xff\xfe"
    with open(odd, "wb") as file:
        file.write(LINE)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        report = scan(tmp_path, tmp_path / "missing")
    assert [Path(file).name for file, _ in report.unread] == ["b", "missing"]
    assert report.others == 1
    assert [file for file, _, _ in report.found] == [f"{tmp_path}/\\xff\\xfe"]


def test_folders_behind_links_are_searched_once(tmp_path: Path) -> None:
    (tmp_path / "tablespace").mkdir()
    (tmp_path / "tablespace" / "16384").write_bytes(LINE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pg_tblspc").symlink_to(tmp_path / "tablespace")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    report = scan(tmp_path / "data")
    assert (report.files, report.hits) == (1, 1)
