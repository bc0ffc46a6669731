"""The state of a deliberation, which `fold` makes of its journal, and the table of its phases.

    ADMITTED → SCHEDULED → PROPOSE → EVALUATE → (another wave | debate round | JUDGE | AGGREGATE) → a terminal

Before a terminal a person may be asked (INPUT_REQUIRED), if the contract says so.

A round is PROPOSE (round 0) or CRITIQUE and REVISE (rounds 1 to n). VOTE follows if the answers are texts that differ.
Whatever can be computed from the journal is computed and not stored, so that a worker that is rebuilt from the journal
has the same state as the one that was killed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, NamedTuple

from cluster.domain.agents.options import Price
from cluster.domain.base.compact import compact
from cluster.domain.consensus.snapshot import WeightSnapshot
from cluster.domain.deliberation.answers import Answer
from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberation.derived import Derived
from cluster.domain.deliberation.ledger import Ledger
from cluster.domain.deliberation.sla import SlaLevel


class Phase(StrEnum):
    ADMITTED = "ADMITTED"
    SCHEDULED = "SCHEDULED"
    PROPOSE = "PROPOSE"
    EVALUATE = "EVALUATE"
    CRITIQUE = "CRITIQUE"
    REVISE = "REVISE"
    VOTE = "VOTE"
    JUDGE = "JUDGE"
    AGGREGATE = "AGGREGATE"
    #: A person has been asked, and no agent is.
    INPUT_REQUIRED = "INPUT_REQUIRED"
    ENDED = "ENDED"


#: Phases by value. ``Phase(value)`` would cost a microsecond for each of the thousands in a journal.
PHASES: Mapping[str, Phase] = {phase.value: phase for phase in Phase}


class Terminal(StrEnum):
    DECIDED = "DECIDED"
    NO_CONSENSUS = "NO_CONSENSUS"
    QUORUM_LOST = "QUORUM_LOST"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


class PhaseTransition(NamedTuple):
    """Leads to phase ``to`` if ``guard`` holds, which names a function of the machine; "" always holds. The first rule of
    a phase that holds is taken. ``when`` says in words when that is, for the docs."""

    guard: str
    to: Phase
    when: str


#: Where each phase leads once none of its turns is open. Docs and tests read this table. What it does not list has journal
#: events of its own: ADMITTED to SCHEDULED (``scheduled``), SCHEDULED to PROPOSE (``panel``), any phase to ENDED
#: (``ended``: at the deadline, after a cancellation, without a panel, after an internal error), and any phase to INPUT_REQUIRED
#: (``person_asked``: instead of an end that the contract puts to a person).
TRANSITIONS: Mapping[Phase, tuple[PhaseTransition, ...]] = {
    Phase.ADMITTED: (),
    Phase.SCHEDULED: (),
    Phase.PROPOSE: (
        PhaseTransition("texts_to_choose_from", Phase.VOTE, "the answers are texts that differ"),
        PhaseTransition("", Phase.EVALUATE, "all who were asked have answered, failed or were cut"),
    ),
    Phase.EVALUATE: (
        PhaseTransition("judge_is_due", Phase.JUDGE, "a stop fired and the mode is judge"),
        PhaseTransition("stopped", Phase.AGGREGATE, "a stop fired"),
        PhaseTransition("wave_is_left", Phase.PROPOSE, "agents are left who could change the decision"),
        PhaseTransition("", Phase.CRITIQUE, "the answers are contested and a debate round is left"),
    ),
    Phase.CRITIQUE: (PhaseTransition("", Phase.REVISE, "all critiques are in"),),
    Phase.REVISE: (
        PhaseTransition("texts_to_choose_from", Phase.VOTE, "the answers are texts that differ"),
        PhaseTransition("", Phase.EVALUATE, "all revisions are in"),
    ),
    Phase.VOTE: (PhaseTransition("", Phase.EVALUATE, "all votes are in"),),
    Phase.JUDGE: (PhaseTransition("", Phase.AGGREGATE, "both verdicts are in"),),
    Phase.AGGREGATE: (),
    Phase.INPUT_REQUIRED: (),
    Phase.ENDED: (),
}
#: Phases in which agents are asked.
CALLING = frozenset({Phase.PROPOSE, Phase.CRITIQUE, Phase.REVISE, Phase.VOTE, Phase.JUDGE})

TurnKey = tuple[Phase, int, str]
"""(phase, round, agent); for the judge the round is the order in which it is shown the candidates"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An agent of a panel, as it was when the panel was chosen. ``owner``: whose agents share a cap on their weight; an
    agent that states none ("") is not capped."""

    agent_id: str
    model: str = "unknown"
    provider: str = "unknown"
    persona: str = ""
    owner: str = ""
    price: Price = field(default_factory=Price)

    def to_json(self) -> dict[str, Any]:
        plain = {attribute.name: getattr(self, attribute.name) for attribute in fields(self)}
        return {**plain, "price": self.price.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Member:
        return cls(**{**value, "price": Price(**value["price"])})


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One agent in one phase of one round."""

    #: 0 for the first call, 1 for its repair. A report about another attempt changes the bill at most.
    attempt: int = 0
    #: The phase waits for this turn. A closed turn is never opened again.
    open: bool = True
    #: A call of the present attempt may still be answered. A turn that timed out is closed and still running: its late
    #: answer no longer counts, but is billed.
    running: bool = True
    #: How often the call of the present attempt was made: 1, and one more for each restart while it was in flight. An
    #: agent may have answered each of them, so the bill of its answer is multiplied by this.
    copies: int = 1
    #: The last reply, as it was journalled. A repair shows it to the agent again.
    text: str = ""
    #: What is wrong with the last reply, until the repair is announced or the turn is cut; else "".
    problem: str = ""
    #: The problem that the present attempt repairs, so that its prompt can be built again after a restart.
    repairing: str = ""
    #: The parsed answer; None until there is one, and for good if the turn ends without one.
    answer: Answer | None = None
    #: The last fault (``wire.FAULTS``). It is kept if the repair then succeeds, so it counts only without ``answer``.
    fault: str | None = None
    #: The last fault in the words of the transport.
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the journal says so far. Only ``fold.apply`` makes a new state from an event."""

    #: Id of the deliberation; part of the key of every call.
    request_id: str
    #: As it was admitted. It never changes, so whatever the asker set is read from here and not copied.
    contract: Contract
    #: Epoch seconds. Deadline, SLA levels and shares of phases count from here, not from when a worker took it.
    admitted_at: float
    #: What is spent and reserved; reservations by (turn key, attempt). ``asked`` and ``repeated`` reserve; ``answered``,
    #: ``faulted``, ``late``, ``cut`` and ``ended`` settle.
    ledger: Ledger
    #: The present phase; changed by ``scheduled``, ``panel``, ``phase``, ``person_asked`` and ``ended`` only.
    phase: Phase = Phase.ADMITTED
    #: 0 until a debate begins, then the debate round. A judge is asked in the round that came last.
    round: int = 0
    #: The members that are asked and counted, in the order in which they are asked. ``panel`` sets it; ``replaced`` takes
    #: members out and appends others.
    panel: tuple[Member, ...] = ()
    #: The ids of ``panel`` in its order, kept beside it because every count walks them.
    agents: tuple[str, ...] = ()
    #: Agents that may replace silent members, best first; those that did are taken out.
    pool: tuple[Member, ...] = ()
    #: Members that were replaced. Members are replaced only once, so it is empty until then. Late answers of these agents
    #: are still billed, which needs their prices.
    replaced: tuple[Member, ...] = ()
    #: Never a member of the panel; None unless the contract's mode is judge.
    judge: Member | None = None
    #: Weights and calibration, frozen when the panel was chosen; None if none had been learned for it.
    snapshot: WeightSnapshot | None = None
    #: Every turn so far by (phase, round, agent), in the order in which they were first asked. Turns are changed, never
    #: removed, not even those of replaced members.
    turns: Mapping[TurnKey, Turn] = field(default_factory=dict)
    #: Agents that billed more than the budget could pay. They are not asked again.
    overran: frozenset[str] = frozenset()
    #: How many waves of first answers were asked; replacements count as one.
    waves: int = 0
    #: ``waves`` as it was when the present phase was entered. PROPOSE asks one wave each time it is entered.
    waves_before: int = 0
    #: When the present phase was entered or last announced a first call; repairs do not move it.
    wave_at: float = 0.0
    #: When the last reply came in time, whether or not it could be parsed; 0 before the first. Waiting for stragglers is
    #: measured from here.
    heard_at: float = 0.0
    #: How long each call took that was answered in time, in the order of the answers.
    seconds: tuple[float, ...] = ()
    #: The stop reason, set by the EVALUATE that found one; "" while asking goes on. It is never unset.
    stop: str = ""
    #: The highest SLA level that was journalled, so that each level is announced once, also after a restart.
    sla: SlaLevel = SlaLevel.COMPLIANT
    #: Once a person is asked: the data of that event, which is what the end would have been, with the question. Later events
    #: change nothing of it.
    asked: Mapping[str, Any] | None = None
    #: When a person was asked; from then on the deadline no longer counts.
    asked_at: float = 0.0
    #: The data of the event about the person's answer; None while there is none.
    answered: Mapping[str, Any] | None = None
    #: Calls that were announced, repairs and repetitions after restarts included.
    calls: int = 0
    #: Events folded so far, hence the number ``n`` of the last one: the journal has no gaps.
    events: int = 0
    #: How it ended; None while it runs. Set together with ``phase`` ENDED.
    terminal: Terminal | None = None
    #: As it was admitted; b"" if it has to be computed. Not compared: states of the same journal are equal either way.
    contract_digest: bytes = field(default=b"", compare=False)
    #: What was computed from the answers so far.
    derived: Derived = field(default_factory=Derived, compare=False, repr=False)

    @property
    def deadline(self) -> float:
        return self.admitted_at + self.contract.timeout_s

    def member(self, agent_id: str) -> Member:
        for member in self.panel:
            if member.agent_id == agent_id:
                return member
        others: tuple[Member, ...] = (*self.pool, *self.replaced, *((self.judge,) if self.judge else ()))
        return next(member for member in others if member.agent_id == agent_id)

    def turn(self, phase: Phase, round_: int, agent: str) -> Turn | None:
        return self.turns.get((phase, round_, agent))

    def open_turns(self) -> list[TurnKey]:
        return [key for key, turn in self.turns.items() if turn.open]


def step_of(key: TurnKey) -> int:
    """The step of a turn: PROPOSE is 0, CRITIQUE and REVISE of round r are 2r - 1 and 2r. A prompt or a count depends on
    the answers of all steps up to one."""
    phase, round_, _ = key
    return 2 * round_ - (phase is Phase.CRITIQUE)
