"""``aragora-cp audit``: verifies the log, lets checkpoints leave the database, and exports.

`verify --export FILE --checkpoint FILE` reads two files and nothing else. Without ``--export``, and for the other commands but
``list``, run them where the control plane's database can be reached. Exit codes of ``verify``: 0 valid, 1 not valid.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer

from cluster.cli.calls import Json
from cluster.cli.commands import audit_entries
from cluster.cli.commands.receipts import trusted_keys
from cluster.cli.database import opened
from cluster.cli.exit_codes import REFUSED
from cluster.cli.output import console, counted, errors, plain
from cluster.cli.uniform import answered
from cluster.domain.base.errors import InvalidRequest, PeerError

if TYPE_CHECKING:  # the libraries of signatures and of the database are loaded by the commands that need them
    from cluster.domain.audit.checkpoint import Checkpoint
    from cluster.domain.audit.verify import AuditReport, Fault
    from cluster.domain.base.log import LogRow

app = typer.Typer(no_args_is_help=True, help="The audit: a sealed log, verified without trusting its database.")
checkpoint_app = typer.Typer(
    no_args_is_help=True, help="Checkpoints, which only protect once they have left the database."
)
app.add_typer(checkpoint_app, name="checkpoint")

PUSH_TIMEOUT_S = 60.0
#: No row has a greater number, so there are no more checkpoints either.
_LAST_SEQ: Final = 2**63 - 1
#: How files are read that somebody may have changed: a byte that is no text becomes a character that nothing of ours can have, so
#: that its line is named.
_CHANGED_BYTES: Final = "surrogateescape"


class Format(StrEnum):
    JSON = "json"
    CSV = "csv"
    SYSLOG = "syslog"


# --- list -------------------------------------------------------------------------------------------------------------


app.command("list")(audit_entries.list_entries)
app.command()(audit_entries.entry)
app.command()(audit_entries.stats)
app.command()(audit_entries.check)

# --- verify -----------------------------------------------------------------------------------------------------------


@app.command()
def verify(
    checkpoint: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Checkpoints that were pushed to a file.")
    ] = None,
    export_file: Annotated[
        Path | None,
        typer.Option("--export", exists=True, dir_okay=False, help="Read the rows from an export in JSON, offline."),
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option(help="A key to trust: hex digits, or a file (hex, PEM, `receipts keys`).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify the log. Exits 0 if it is what its checkpoints say, 1 if not; names the first bad row.

    \f
    Raises: `BadParameter` if --key holds no key, `InvalidRequest` if a file is not what it should be, `Exit` always.
    """
    from cluster.domain.audit.verify import first_fault

    trusted = trusted_keys(key)
    kept = None if checkpoint is None else _read_checkpoints(checkpoint)
    if export_file is None:
        reports, damage = asyncio.run(_verify_database(kept, trusted))
    else:
        reports, damage = _verify_export(export_file, kept, trusted), None
    fault = first_fault(damage, *(report.fault for report in reports))
    report = reports[0]
    shown = {
        "valid": fault is None,
        "first_bad_seq": None if fault is None else fault.seq,
        "reason": None if fault is None else fault.reason,
        "checked_from": report.checked_from,
        "checked_through": reports[-1].checked_through,
        "covered_from": report.covered_from,
        "uncovered_from": report.uncovered_from,
        "forks": [asdict(fork) for fork in report.forks],
        "against": "the database's own checkpoints" if kept is None else str(checkpoint),
        "self_signed": report.self_signed,
        "key_ids": list(report.key_ids),
        "erased": report.erased,
    }
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
    else:
        _print(shown, external=kept is not None)
    raise typer.Exit(0 if fault is None else REFUSED)


def _print(shown: dict[str, Any], *, external: bool) -> None:
    if not shown["valid"]:
        console.print(f"[red]Not valid: row {shown['first_bad_seq']}: {plain(shown['reason'])}.[/]")
        return
    console.print(
        f"Valid: {shown['checked_through']} is the last row that was checked, against {plain(shown['against'])}."
    )
    for fork in shown["forks"]:
        console.print(
            f"[yellow]fork declared at seq {fork['seq']} by epoch {fork['epoch']}:[/] the rows after it up to "
            f"{fork['dropped_through']}, which checkpoints cover, are no part of the log any more. Compare that with the "
            "failovers that you know of."
        )
    console.print(f"Rows from {shown['uncovered_from']} on are not covered by these checkpoints.")
    if shown["checked_from"] > 1:
        console.print(
            f"Rows before {shown['checked_from']} have gone from the database or are no part of what was given, and were not "
            "checked: ARAGORA_LOG_ARCHIVE_DIR names the directory of their archives."
        )
    if shown["covered_from"] > 1:
        console.print(f"Rows before {shown['covered_from']} are not covered either.")
    if shown["self_signed"]:
        console.print("[yellow]self-signed:[/] the key that signs is kept in the database that it guards.")
    if not external:
        console.print(
            "[yellow]note:[/] whoever could write to the database could have rewritten these checkpoints too; verify against "
            "a file of `audit checkpoint push` with --checkpoint."
        )
    if shown["erased"]:
        console.print(f"{shown['erased']} rows have no words any more: they were deleted, and the rows still fit.")


def _read_checkpoints(file: Path) -> list[Checkpoint]:
    from cluster.domain.audit.checkpoint import parse_checkpoint

    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors=_CHANGED_BYTES).splitlines(), 1):
        try:
            found.append(parse_checkpoint(line))
        except InvalidRequest as error:
            raise InvalidRequest(f"Line {number} of {file}: {error.message}", error.code) from error
    if not found:
        raise InvalidRequest(f"{file} holds no checkpoint; make it with `aragora-cp audit checkpoint push`.")
    return found


def _verify_export(file: Path, kept: list[Checkpoint] | None, trusted: frozenset[bytes] | None) -> list[AuditReport]:
    from cluster.domain.audit.export import read_export
    from cluster.domain.audit.verify import verifiers

    with file.open(encoding="utf-8", errors=_CHANGED_BYTES) as lines:
        export = read_export(lines)
        checking = verifiers(kept, export.checkpoints, trusted, export.after)
        for row in export.rows:
            for verifier in checking:
                verifier.add(row)
        return [verifier.report() for verifier in checking]


async def _verify_database(
    kept: list[Checkpoint] | None, trusted: frozenset[bytes] | None
) -> tuple[list[AuditReport], Fault | None]:
    """The reports, and where a checkpoint of the database has lost its form."""
    from cluster.domain.audit.verify import Fault, first_fault, verifiers
    from cluster.log.archives import archived_rows, joined
    from cluster.log.audit import stored_checkpoints

    async with opened() as database:
        own, damage = await stored_checkpoints(database.seals, 0, _LAST_SEQ, _LAST_SEQ)
        base, directory = await database.seals.base(), database.settings.log_archive_dir
        archives = joined(await database.segments.archives(), directory, base.seq)
        checking = verifiers(kept, own, trusted, archives[0].first_seq - 1 if archives else base.seq)
        for found in archived_rows(directory or Path(), archives, base.seq):
            if isinstance(found, Fault):
                damage = first_fault(damage, found)
                break
            for verifier in checking:
                verifier.add(found)
        else:
            async for row in database.rows(base.seq, await database.log.head()):
                for verifier in checking:
                    verifier.add(row)
        return [verifier.report() for verifier in checking], damage


# --- checkpoints ------------------------------------------------------------------------------------------------------


@checkpoint_app.command()
def push(
    target: Annotated[str, typer.Argument(help="A file, to which new checkpoints are appended, or an http(s) URL.")],
    after: Annotated[int, typer.Option(min=0, help="To a URL: only checkpoints of later rows.")] = 0,
) -> None:
    """Let checkpoints leave the database. Keep the file where nobody who can write to the database can change it.

    \f
    Raises: `InvalidRequest` if the file holds something else, or the checkpoints do not follow those in it; `PeerError` if the
    URL does not take them.
    """
    if target.startswith(("http://", "https://")):
        new = asyncio.run(_new_checkpoints(after))
        if new:
            asyncio.run(_post(target, _lines(new)))
    else:
        new, after = _append(Path(target))
    pushed = "1 checkpoint" if len(new) == 1 else f"{len(new)} checkpoints"
    last = new[-1].last_seq if new else after
    answered({"target": target, "pushed": len(new), "covered_through": last})
    console.print(f"{pushed} pushed to {plain(target)}, which covers the rows up to {last}.")


def _append(file: Path) -> tuple[list[Checkpoint], int]:
    """Appends the checkpoints that the file lacks, and waits until the disk has them. Returns them, and the last row that the
    file covered before."""
    from cluster.domain.audit.checkpoint import Coverage
    from cluster.domain.audit.verify import checkpoints_fault

    before = _read_checkpoints(file) if file.exists() and file.stat().st_size else []
    covered = Coverage(before).through
    new = asyncio.run(_continuation(before))
    if before and new and checkpoints_fault([*before, *new]) is not None:
        raise InvalidRequest(
            f"The database's checkpoints do not follow those in {file}: the log was changed or restored. Keep the file, and see "
            f"`aragora-cp audit verify --checkpoint {file}`.",
            "forked",
        )
    with file.open("a") as lines:
        lines.write(_lines(new))
        lines.flush()
        os.fsync(lines.fileno())
    # A new file is only found after a crash of the machine if its directory is written too.
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return new, covered


async def _new_checkpoints(after: int) -> list[Checkpoint]:
    async with opened() as database:
        return await database.checkpoints(after)


async def _continuation(before: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The database's checkpoints that follow those of the file, whichever region they are of."""
    from cluster.domain.audit.verify import continuation

    async with opened() as database:
        last = await database.seals.checkpoints(before[-1].last_seq - 1, 1) if before else []
        if last and last[0].digest == before[-1].digest:
            return await database.checkpoints(before[-1].last_seq)
        return continuation(before, await database.checkpoints(0))


def _lines(checkpoints: Iterable[Checkpoint]) -> str:
    return "".join(f"{checkpoint.text()}\n" for checkpoint in checkpoints)


async def _post(url: str, lines: str) -> None:
    import httpx

    try:
        async with httpx.AsyncClient(timeout=PUSH_TIMEOUT_S) as client:
            answer = await client.post(url, content=lines, headers={"Content-Type": "application/x-ndjson"})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PeerError(f"The checkpoints could not be pushed: {error}.") from error
    if not answer.is_success:
        raise PeerError(f"The checkpoints were refused with status {answer.status_code}.")


# --- export -----------------------------------------------------------------------------------------------------------


@app.command()
def export(
    out: Annotated[Path | None, typer.Option(help="Write here instead of printing.")] = None,
    format: Annotated[
        Format, typer.Option(help="json can be verified; csv and syslog are for other tools.")
    ] = Format.JSON,
    after: Annotated[int, typer.Option(min=0, help="Only rows after this one.")] = 0,
    without_words: Annotated[
        bool, typer.Option("--without-words", help="Leave out what somebody wrote; the rows still verify.")
    ] = False,
) -> None:
    """Export the log: every row of every workspace, with the checkpoints in JSON.

    \f
    Raises: `StoreUnavailable` if the database does not answer.
    """
    if out is None:
        asyncio.run(_export(typer.get_text_stream("stdout"), format, after, not without_words))
        return
    with _whole_file(out) as lines:
        count = asyncio.run(_export(lines, format, after, not without_words))
    errors.print(f"{counted(count, 'row')} written to {plain(str(out))}.")


def _private(path: str, flags: int) -> int:
    """The log holds what people wrote: nobody else reads a new file of it."""
    return os.open(path, flags | os.O_EXCL, 0o600)


@contextmanager
def _whole_file(file: Path) -> Iterator[TextIO]:
    """A file to write, which takes the place of the one that is there when all of it is written: an export that fails leaves
    the last one as it was, and none that looks like a short log. Pipes and devices are written as they are."""
    if file.exists() and not file.is_file():
        with file.open("w", encoding="utf-8", newline="") as lines:
            yield lines
        return
    target = file.resolve()
    part = target.with_name(f"{target.name}.part")
    try:
        part.unlink(missing_ok=True)  # of an export that was killed, with whatever mode
        with open(part, "w", encoding="utf-8", newline="", opener=_private) as lines:
            if target.exists():
                shutil.copymode(target, part)
            yield lines
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


async def _export(out: TextIO, format: Format, after: int, words: bool) -> int:
    from cluster.domain.audit import export as exports
    from cluster.domain.audit.checkpoint import Coverage

    count = 0
    async with opened() as database:
        after = max(after, (await database.seals.base()).seq)
        through = await database.log.head()
        checkpoints = [found for found in await database.checkpoints(after) if found.last_seq <= through]
        sealed = Coverage(checkpoints)

        def lines_of(row: LogRow) -> str:
            entry = _hex(sealed.entry(row.seq))
            if format is Format.JSON:
                return exports.row_line(row, words)
            if format is Format.SYSLOG:
                return exports.syslog_line(row, words, entry)
            previous = _hex(sealed.entry(row.seq - 1)) if row.seq > 1 else None
            return exports.csv_line(exports.csv_cells(row, words, previous, entry))

        if format is Format.JSON:
            out.write(exports.head_line(database.zone, after, time.time()) + "\n")
            out.writelines(exports.checkpoint_line(checkpoint) + "\n" for checkpoint in checkpoints)
        elif format is Format.CSV:
            out.write(exports.csv_line(exports.CSV_COLUMNS) + "\n")
        async for row in database.rows(after, through):
            out.write(lines_of(row) + "\n")
            count += 1
    return count


def _hex(entry: bytes | None) -> str | None:
    return None if entry is None else entry.hex()
