"""``aragora-cp receipts``: fetch, verify, redact, prove and show receipts. Only ``get`` and ``keys`` need a server.

Exit codes of ``verify``: 0 every check passes, 1 one does not (the file is no receipt, a check fails, or the decision is
different when it is recomputed), 2 wrong usage, 6 the receipt is valid but holds no votes for ``--recompute``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.calls import path_segment
from cluster.cli.connection import client, client_settings
from cluster.cli.exit_codes import NOT_RECOMPUTABLE, REFUSED
from cluster.cli.output import console, errors, listing, plain
from cluster.cli.uniform import answered, echo_json
from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.errors import CallerError, InvalidRequest

if TYPE_CHECKING:  # the signature's library is loaded by the commands that need it
    from cluster.domain.receipts.recompute import Recomputation
    from cluster.domain.receipts.verify import VerificationReport

app = typer.Typer(no_args_is_help=True, help="Receipts of deliberations: signed, and checked without a server.")

File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A receipt, or a proof of one event.")]
Out = Annotated[Path | None, typer.Option(help="Write here instead of printing.")]
Event = Annotated[int, typer.Option("--event", min=0, help="Number of the event.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_MARKS = {"passed": "[green]ok[/]", "failed": "[red]FAILED[/]", "not_checked": "[yellow]not checked[/]"}


def _fetch(path: str) -> Any:
    async def work() -> Any:
        async with client(client_settings()) as api:
            return await api.get(path)

    return asyncio.run(work())


def _write(document: Mapping[str, Any], out: Path | None) -> None:
    """Writes a document in canonical form, so that equal receipts are equal files."""
    content = canonical_bytes(document) + b"\n"
    if out is None:
        echo_json(content.decode().removesuffix("\n"))
        return
    temporary = out.with_name(out.name + ".new")
    temporary.write_bytes(content)
    temporary.replace(out)
    answered({"written": str(out)})
    errors.print(f"Written to {plain(str(out))}.")


def _read(file: Path) -> Any:
    from cluster.domain.receipts.verify import parse

    return parse(file.read_bytes())


def _valid(file: Path) -> Any:
    """The receipt in a file, if it is valid: commands that make another document of a receipt refuse an invalid one."""
    from cluster.domain.receipts.verify import verify

    receipt = _read(file)
    report = verify(receipt)
    if not report.valid:
        raise InvalidRequest(f"{file} is not a valid receipt: {report.checks[0].detail or ', '.join(report.failed)}.")
    return receipt


def trusted_keys(words: list[str] | None) -> frozenset[bytes] | None:
    """The public keys of ``--key``; None if it was not given. Raises: `BadParameter` if it holds no key."""
    try:
        return None if not words else frozenset(key for word in words for key in _keys(word))
    except CallerError as error:
        raise typer.BadParameter(str(error), param_hint="--key") from None


def _keys(word: str) -> list[bytes]:
    """The public keys in ``word``: hex digits, or a file with hex digits, PEM or the output of ``receipts keys``."""
    from cluster.domain.base.signing import public_key_of

    file = Path(word)
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else word
    if text.lstrip().startswith("{"):
        try:
            return [public_key_of(key["public_key"]) for key in json.loads(text)["keys"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InvalidRequest(f"{word} holds no keys; give the output of `aragora-cp receipts keys`.") from None
    return [public_key_of(text)]


@app.command()
def get(request_id: str, out: Out = None) -> None:
    """Fetch the receipt of an ended deliberation."""
    _write(_fetch(f"/deliberations/{path_segment(request_id)}/receipt"), out)


@app.command()
def keys(out: Out = None) -> None:
    """Fetch the public keys of a control plane: keep the file, and verify with --key FILE."""
    _write(_fetch("/receipts/keys"), out)


@app.command()
def verify(
    file: File,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute the decision again from the signed votes.")
    ] = False,
    key: Annotated[
        list[str] | None, typer.Option(help="A key to trust: hex digits, or a file (hex, PEM, `receipts keys`).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a receipt, offline. Exits 0 if every check passes, 1 if not, 6 if the decision cannot be recomputed.

    \f
    Raises: `BadParameter` if --key holds no key, `Exit` always.
    """
    from cluster.domain.receipts import recompute as again
    from cluster.domain.receipts import verify as checks

    document, report = checks.verify_file(file.read_bytes(), trusted_keys(key))
    computed = None
    if recompute:
        whole = report.valid and not checks.is_proof(document)
        computed = again.recompute(document) if whole else again.UNCHECKED
    if as_json:
        typer.echo(json.dumps(_as_json(report, computed), indent=2, ensure_ascii=False))
    else:
        _print(report, computed)
    raise typer.Exit(_exit_code(report, computed))


def _exit_code(report: VerificationReport, computed: Recomputation | None) -> int:
    if not report.valid or (computed is not None and computed.verdict.value == "different"):
        return REFUSED
    return NOT_RECOMPUTABLE if computed is not None and computed.verdict.value == "not_recomputable" else 0


def _as_json(report: VerificationReport, computed: Recomputation | None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "valid": report.valid,
        "trusted": report.trusted,
        "key_id": report.key_id,
        "redacted": list(report.redacted),
        "checks": [
            {"name": check.name, "status": check.status.value, "detail": check.detail} for check in report.checks
        ],
    }
    if computed is not None:
        shown["recompute"] = {
            "verdict": computed.verdict.value,
            "reason": computed.reason,
            "differences": list(computed.differences),
            "result": computed.result,
        }
    return shown


def _print(report: VerificationReport, computed: Recomputation | None) -> None:
    for check in report.checks:
        console.print(
            f"{_MARKS[check.status.value]:<12} {check.name}{f': {plain(check.detail)}' if check.detail else ''}"
        )
    if report.redacted:
        words = [f"event {n}" if n else "the contract" for n in report.redacted]
        console.print(f"Withheld, but still covered by the signature: {', '.join(words)}")
    if computed is not None:
        detail = computed.reason or ", ".join(computed.differences)
        verdict = computed.verdict.value.replace("_", " ")
        console.print(f"Decision computed from the signed votes: {verdict}{f' ({plain(detail)})' if detail else ''}")
    if not report.valid:
        console.print("[red]This is not what was signed.[/]")
    elif report.trusted:
        console.print(f"Valid, signed by trusted key {report.key_id}.")
    else:
        console.print(
            f"Valid, signed by key {report.key_id}, which was not checked; give the key you trust with --key."
        )


@app.command()
def redact(
    file: File,
    event: Annotated[list[int], typer.Option("--event", min=0, help="Number of an event; 0 is the contract.")],
    out: Annotated[Path, typer.Option(help="File for the receipt without those words.")],
) -> None:
    """Withhold the words of events. Everything else stays, and the signature still holds.

    \f
    Raises: `InvalidRequest` if the file is not a valid receipt, `NotFound` if it has no such event.
    """
    from cluster.domain.receipts import document

    before = after = _valid(file)
    for n in event:
        after = document.redact(after, n)
    _write(after, out)
    for n in event:
        echoes = [event for event in document.echoes(before, n) if event not in document.redacted_events(after)]
        if echoes:
            where = ", ".join(f"event {event}" if event else "the contract (0)" for event in echoes)
            errors.print(f"[yellow]note:[/] words of event {n} can still be read in {where}.")


@app.command()
def prove(file: File, event: Event, out: Out = None) -> None:
    """Write one event with the proof that it is part of the signed receipt; `verify` checks such a proof.

    \f
    Raises: `InvalidRequest` if the file is not a valid receipt, `NotFound` if it has no such event.
    """
    from cluster.domain.receipts import document

    _write(document.prove(_valid(file), event), out)


@app.command()
def show(file: File) -> None:
    """Print a receipt for people to read.

    \f
    Raises: `InvalidRequest` if the file is not a valid receipt, or proves one event only.
    """
    from cluster.domain.receipts.verify import is_proof

    receipt = _read(file)
    if is_proof(receipt):
        raise InvalidRequest(f"{file} proves one event only; check it with `aragora-cp receipts verify`.")
    receipt, head = _valid(file), receipt["head"]
    answered(receipt)
    proof = receipt["consensus_proof"]
    for name, value in (
        ("Receipt", receipt["receipt_id"]),
        ("Deliberation", receipt["request_id"]),
        ("Question", receipt["input_summary"] or "(withheld)"),
        ("Outcome", f"{head['outcome']} ({receipt['verdict']})"),
        ("Confidence", receipt["confidence"]),
        ("Supported by", ", ".join(proof["supporting_agents"]) or "nobody"),
        ("Dissent", "; ".join(receipt["dissenting_views"]) or "none"),
        *_person_rows(receipt),
        ("Ended", receipt["timestamp"]),
        ("Root", head["root"]),
        ("Key", head["key_id"]),
    ):
        console.print(f"[bold]{name}:[/] {plain(str(value))}")
    listing(("event", "kind", "agent", "words"), map(_event_row, receipt["events"]))


def _person_rows(receipt: dict[str, Any]) -> list[tuple[str, str]]:
    """Who was asked at the end, and what came of it; nothing if nobody was."""
    from cluster.domain.receipts.document import event_data

    person = (event_data(receipt["events"][-1]).get("outcome") or {}).get("person")
    if person is None:
        return []
    agents = person["agents"]["terminal"]
    if person["verdict"] is None:
        return [("Person", f"gave no answer ({person['ended_as'] or 'cancelled'}); the agents ended {agents}")]
    at = datetime.fromtimestamp(person["answered_at"], UTC).isoformat(timespec="seconds")
    return [("Person", f"{person['verdict']} by {person['answered_by']} at {at}; the agents ended {agents}")]


def _event_row(event: dict[str, Any]) -> tuple[Any, ...]:
    from cluster.domain.receipts.content import ERASED
    from cluster.domain.receipts.document import strings

    if ERASED in event:
        return event["n"], "", None, "erased"
    words = "withheld" if "redacted" in event else " | ".join(strings(event["text"]))[:100]
    return event["n"], event["kind"], event["data"].get("agent"), words
