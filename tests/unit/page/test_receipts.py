"""The page's verifier of receipts says what ours says: of every rule, of each changed byte, of what is withheld.

All receipts of a test go through one Node, so they are drawn from a seed and not by Hypothesis.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.consensus.aggregate import Aggregation, aggregate
from cluster.domain.consensus.ballots import (
    Ballot,
    Denominator,
    Electorate,
    abstain,
    approval,
    choice,
    ranking,
    scored,
)
from cluster.domain.consensus.calibration import IsotonicMap, Tilt
from cluster.domain.consensus.result import Judgement
from cluster.domain.consensus.rule import ConsensusRule, Mode, TieBreak
from cluster.domain.consensus.snapshot import Gate, Kinds, KindWeights, WeightSnapshot
from cluster.domain.receipts.document import prove, redact
from cluster.domain.receipts.recompute import recompute
from cluster.domain.receipts.verify import verify, verify_file, verify_proof
from tests.support.deliberations import Journal, Vote, decided
from tests.support.page_source import page_calls, page_reports
from tests.support.panels import World, contract, members, says
from tests.support.receipts import OTHER, SIGNER, played, receipt_of, with_events

#: Beyond the first plane, so that an order by UTF-16 code units is another than one by code points.
AGENTS = ("ada", "bob", "cyd", "\uff5edan", "\U0001f600eve")
ARRAY = ("Postgres", "Redis", "SQLite", "\uff5ewide", "\U0001f600face", "__proto__")
KEY = SIGNER.public_key.hex()


def _map(draw: random.Random) -> IsotonicMap:
    if draw.random() < 0.25:  # half of the sixth decimal, exactly: it is rounded to an even digit
        return IsotonicMap(knots=(0.5,), values=(draw.choice([0.0078125, 0.0234375]),), outcomes=80)
    knots = sorted(round(draw.random(), 9) for _ in range(4))
    values = sorted(round(draw.random(), 9) for _ in range(4))
    return IsotonicMap(knots=tuple(knots), values=tuple(values), trust=round(draw.random(), 9), outcomes=80)


def _snapshot(draw: random.Random) -> WeightSnapshot:
    known = [agent for agent in AGENTS if draw.random() < 0.8]
    names = ("share", "weighted", "learned", "agree_k")
    kind = KindWeights(
        learned={agent: draw.random() for agent in known},
        earned=draw.random() < 0.5,
        outcomes=60,
        gain=0.1,
        gain_se=0.01,
        likelihood=0.2,
        tilts={"learned": Tilt(slope=1.25, shift=-0.5)},
    )
    kinds = Kinds(
        ridge=1.0,
        gain=0.1,
        gain_se=0.01,
        by_kind={"law": kind},
        calibration={name: _map(draw) for name in ("learned", "agree_k")},
    )
    choice_ = draw.choice([Mode.LEARNED, Mode.WEIGHTED, Mode.PLURALITY])
    return WeightSnapshot(
        learned={agent: draw.random() * 2 for agent in known},
        log_odds={agent: draw.random() * 3 for agent in known},
        accuracy=dict.fromkeys(known, 0.7),
        gate=Gate(choice=choice_, plurality=0.6, weighted=0.65, learned=0.7, gain=0.1, gain_se=0.02),
        owner_cap=draw.choice([None, 0.4, 0.25]),
        ridge=1.0,
        outcomes=200,
        outcomes_digest="00" * 32,
        calibration={name: _map(draw) for name in names if draw.random() < 0.9},
        kinds=draw.choice([None, kinds]),
        schema_version=2,
    )


def _ballot(draw: random.Random) -> Ballot:
    some = draw.sample(ARRAY, draw.randint(1, 4))
    kind = draw.randrange(6)
    if kind < 2:
        return choice(some[0], strength=draw.choice([1.0, 0.5, 1 / 3]))
    made: Mapping[int, Any] = {2: approval(*some), 3: ranking(*some), 4: abstain("declined")}
    return made.get(kind) or scored({option: draw.choice([-1.0, 0.0, 0.1, 0.2, 3.0]) for option in some})


def _asked(draw: random.Random, mode: Mode) -> Aggregation:
    rule = ConsensusRule(
        mode=mode,
        denominator=draw.choice(list(Denominator)),
        q=draw.choice([2 / 3, 0.75, 0.51]),
        k=draw.randint(1, 3),
        escalate_to=draw.choice([Mode.LEARNED, Mode.WEIGHTED, Mode.MAJORITY]),
        tie_break=draw.choice(list(TieBreak)),
        seed=f"seed {draw.randrange(99)}",
    )
    electorate = Electorate(
        eligible=AGENTS,
        options=draw.choice([(), ARRAY]),
        asked=draw.choice([None, AGENTS[:3]]),
        owners={agent: draw.choice(["one", "\uff5etwo", "\U0001f600three"]) for agent in AGENTS if draw.random() < 0.6},
        weights={agent: draw.choice([0.0, 0.1, 0.3, 2.5]) for agent in AGENTS if draw.random() < 0.4},
        min_votes=draw.randint(1, 3),
        quorum_ratio=draw.choice([0.0, 0.5, 0.67]),
    )
    verdict = draw.choice(ARRAY)
    judgement = Judgement(judge="judge", verdicts=(verdict, draw.choice([verdict, verdict, "Redis"])))
    return Aggregation(
        rule=rule,
        electorate=electorate,
        ballots={agent: _ballot(draw) for agent in AGENTS if draw.random() < 0.9},
        judgement=judgement if mode is Mode.JUDGE and draw.random() < 0.8 else None,
        accepted={option: draw.randint(0, 2) for option in ARRAY} if draw.random() < 0.3 else {},
        kind=draw.choice([None, "law", "art"]),
    )


def _decided(draw: random.Random, mode: Mode) -> Journal:
    """A journal whose end states all that an aggregation gives."""
    asked, snapshot = _asked(draw, mode), draw.choice([None, _snapshot(draw), _snapshot(draw)])
    result = aggregate(asked, snapshot)
    stated = {name: value for name, value in asdict(result).items() if name not in ("dissent", "abstained")}
    outcome = {
        **stated,
        "option": result.leader,
        "answer": result.leader,
        "confidence": result.uncalibrated_share if result.confidence is None else result.confidence,
        "confidence_calibrated": result.confidence is not None,
        "supporters": [],
        "dissent": [{"agent": each.agent, "answer": each.options[0]} for each in result.dissent if each.options],
        "abstained": [{"agent": agent, "reason": "timeout"} for agent in result.abstained],
    }
    outcome["dissent"] = [
        {"agent": each.agent, "answer": each.options[0] if each.options else ""} for each in result.dissent
    ]
    journal = Journal(contract={"question": "Which? " * 40, "mode": mode.value, "seed": "s"})
    journal.add("panel", members=list(AGENTS), **({"snapshot": snapshot.document()} if snapshot else {}))
    terminal = "DECIDED" if result.reached else "NO_CONSENSUS"
    journal.add("ended", terminal=terminal, outcome=outcome, aggregation=asked.document())
    return journal


@pytest.mark.parametrize("mode", list(Mode))
def test_every_rule_gives_the_same_decision_in_the_browser(mode: Mode) -> None:
    draw = random.Random(mode.value)
    receipts = [receipt_of(_decided(draw, mode)) for _ in range(60)]
    ours = [recompute(receipt) for receipt in receipts]
    assert {found.verdict for found in ours} == {"equal"}
    for found, receipt in zip(page_reports(_texts(receipts), [KEY]), receipts, strict=True):
        assert [each for each in found["checks"] if each["status"] != "passed"] == []
        assert found["recomputed"] == {"verdict": "equal", "reason": "", "differences": []}, receipt["events"][-1]


def test_an_outcome_that_does_not_follow_is_named_alike() -> None:
    draw = random.Random(7)
    receipts = []
    for mode in (Mode.PLURALITY, Mode.WEIGHTED, Mode.BORDA, Mode.AGREE_K) * 5:
        journal = _decided(draw, mode)
        last = journal.events[-1]
        outcome = dict(last.data["outcome"])
        name = draw.choice(["confidence", "tally", "dissent", "abstained", "cast", "quorum", "tie_path", "support"])
        outcome[name] = {"confidence": 0.123, "tally": {"Redis": 9.0}, "cast": 77, "quorum": 77, "support": 2.0}.get(
            name, [{"agent": "zed", "answer": "x"}] if name != "tie_path" else ["drawn"]
        )
        data = {**last.data, "outcome": outcome}
        receipts.append(receipt_of(with_events(journal, [*journal.events[:-1], replace(last, data=data)]), OTHER))
    pages = page_reports(_texts(receipts), [OTHER.public_key.hex()])
    for found, receipt in zip(pages, receipts, strict=True):
        ours = recompute(receipt)
        assert ours.verdict == "different"
        assert found["recomputed"] == {"verdict": "different", "reason": "", "differences": list(ours.differences)}


def test_a_journal_of_free_texts_and_forged_ballots_is_judged_alike() -> None:
    voices = {
        name: says(text) for name, text in zip("abcd", ("use one", "use two", "use two", "use three"), strict=True)
    }
    world = World.of(contract(rounds=0, consensus="plurality"), voices).start(members(*"abcd")).run()
    texts = Journal(contract=world.state.contract.to_json(), request_id="r", events=world.journal)
    honest = played()
    votes = [Vote("ada", choice("Postgres")), Vote("bob", choice("Redis")), Vote("cyd", choice("Redis"))]
    turned = with_events(honest, [*honest.events[:-1], decided(votes).events[-1]])
    old = played(recorded=False)
    receipts = [receipt_of(each) for each in (texts, honest, turned, old)]
    receipts.append(redact(receipts[1], 3))
    receipts.append(redact(receipts[0], 0))
    verdicts = []
    for found, receipt in zip(page_reports(_texts(receipts), [KEY]), receipts, strict=True):
        ours, verified = recompute(receipt), verify(receipt, [SIGNER.public_key])
        assert _statuses(found) == {check.name: check.status for check in verified.checks}
        assert found["redacted"] == list(verified.redacted)
        assert (found["recomputed"]["verdict"], found["recomputed"]["differences"]) == (
            ours.verdict,
            list(ours.differences),
        )
        verdicts.append(ours.verdict)
    assert verdicts == ["equal", "equal", "different", "not_recomputable", "equal", "equal"]


def test_a_changed_byte_fails_the_same_checks_as_ours() -> None:
    draw = random.Random(3)
    content = canonical_bytes(receipt_of(played()))
    changed = []
    while len(changed) < 400:
        at = draw.randrange(len(content))
        made = content[:at] + bytes([draw.choice(b'09afz"{}[],:. \\')]) + content[at + 1 :]
        try:
            made.decode()
        except UnicodeDecodeError:
            continue  # the page is given text; a file that is none is refused where it is read
        if made != content:
            changed.append(made)
    for found, made in zip(page_reports((each.decode() for each in changed), [KEY]), changed, strict=True):
        _, ours = verify_file(made, [SIGNER.public_key])
        assert not ours.valid
        assert _statuses(found) == {check.name: check.status for check in ours.checks}, made
        assert found["recomputed"] is None


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ('{"a": 1, "a": 1}', 'line 1, column 10: the name "a" occurs twice in one object'),
        ('{"a":\n  1.00000000000000000001}', "line 2, column 3: the number 1.00000000000000000001 cannot be held"),
        ('{"a": 9007199254740993}', "the number 9007199254740993 cannot be held"),
        ('{"a": "\\ud800"}', "line 1, column 7: half of a surrogate pair"),
        ('{"a": NaN}', "line 1, column 7: there is no value here"),
        ("[" * 5_000, "nested too deep"),
        ("{} {}", "line 1, column 4: something follows its end"),
        ('{"head": {}}', "it is the signed head alone"),
        ("", "there is no value here"),
        ("null", "a receipt must have exactly"),
    ],
)
def test_what_is_no_receipt_is_told_with_where(broken: str, says: str) -> None:
    ((check,),) = [found["checks"] for found in page_reports([broken])]
    assert (check["name"], check["status"]) == ("format", "failed")
    assert says in check["detail"]


def test_a_proof_of_one_event_is_verified_as_ours_does_it() -> None:
    receipt = receipt_of(played())
    proofs = [prove(receipt, event["n"]) for event in receipt["events"]]
    proofs.append(prove(redact(receipt, 3), 3))
    first = proofs[0]
    proofs.append({**first, "path": first["path"][:-1]})
    proofs.append({**first, "path": [*first["path"], first["path"][0]]})
    proofs.append({**first, "event": {**first["event"], "n": 2}})
    proofs.append({**first, "event": {**first["event"], "n": 0}})
    proofs.append({**first, "path": ["00"]})
    proofs.append({**first, "more": 1})
    proofs.append({**first, "head": {**first["head"], "tree_size": 3}})
    found = page_reports(_texts(proofs), [KEY])
    ours = [verify_proof(proof, [SIGNER.public_key]) for proof in proofs]
    assert [report.valid for report in ours].count(True) == len(receipt["events"]) + 1
    for page, report in zip(found, ours, strict=True):
        assert _statuses(page) == {check.name: check.status for check in report.checks}
        assert page["recomputed"] is None
        if report.key_id is not None:
            assert page["redacted"] == list(report.redacted)


def test_a_key_that_nobody_trusts_fails_and_none_is_not_checked() -> None:
    (text,) = _texts([receipt_of(played(), OTHER)])
    (trusting,) = page_reports([text], [KEY])
    assert _statuses(trusting)["key"] == "failed"
    (asking,) = page_reports([text])
    assert _statuses(asking)["key"] == "not_checked"
    assert asking["recomputed"]["verdict"] == "equal"


def test_a_difference_is_found_where_it_is_in_the_file() -> None:
    (text,) = _texts([receipt_of(played())])
    changed = text.replace('"Redis"', '"Rodis"', 1).replace("Postgres", "postgres", 1)
    read, signed = [answer["value"] for answer in page_calls("receipts/json", "parse", [[changed], [text]])]
    (answer,) = page_calls("receipts/compare", "differencesBetween", [[read, signed, 9]])
    differences = answer["value"]
    assert len(differences) == 2
    found_at = page_calls("receipts/json", "whereIs", [[changed, each["pointer"]] for each in differences])
    for difference, at in zip(differences, found_at, strict=True):
        said = canonical_bytes(difference["found"]).decode()
        assert changed[at["value"]["column"] - 1 :].startswith(said), difference


def _texts(receipts: list[dict[str, Any]]) -> list[str]:
    return [canonical_bytes(receipt).decode() for receipt in receipts]


def _statuses(found: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["status"] for check in found["checks"]}
