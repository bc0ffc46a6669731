"""Which rule decides, with every threshold stated. The names of the released server are accepted as aliases."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.consensus.ballots import Denominator


class Mode(StrEnum):
    PLURALITY = "plurality"
    MAJORITY = "majority"
    SUPERMAJORITY = "supermajority"
    UNANIMOUS = "unanimous"
    WEIGHTED = "weighted"
    LEARNED = "learned"
    APPROVAL = "approval"
    BORDA = "borda"
    SCHULZE = "schulze"
    JUDGE = "judge"
    AGREE_K = "agree_k"
    NONE = "none"


class TieBreak(StrEnum):
    """What ends a tie that neither weights nor accepted rationales could end."""

    NO_CONSENSUS = "no_consensus"
    SEEDED = "seeded"  # drawn by a hash of the contract's seed: repeatable
    ALPHA = "alpha"  # the lowest name wins: for comparison with published tables only


ALIASES = {"hybrid": Mode.JUDGE, "any": Mode.PLURALITY}
MODE_NAMES = tuple(mode.value for mode in Mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsensusRule:
    """How ballots decide. ``q`` is the share of supermajority, ``k`` the number of agree_k; ``escalate_to`` decides if k do
    not agree. Raises: ``InvalidRequest`` if a threshold is impossible."""

    mode: Mode
    denominator: Denominator = Denominator.ELIGIBLE
    q: float = 2 / 3
    k: int = 2
    escalate_to: Mode = Mode.LEARNED
    tie_break: TieBreak = TieBreak.NO_CONSENSUS
    seed: str = ""

    def __post_init__(self) -> None:
        if not 0.5 < self.q <= 1.0:
            raise InvalidRequest("A supermajority's share must be above 0.5 and at most 1.", "invalid_threshold")
        if self.k < 1:
            raise InvalidRequest("agree_k needs k of at least 1.", "invalid_threshold")
        if self.escalate_to in (Mode.AGREE_K, Mode.NONE):
            raise InvalidRequest("agree_k must escalate to a rule that can decide.", "invalid_consensus_mode")


def parse_mode(name: str) -> Mode:
    """Reads the name of a mode or an alias. Raises: ``InvalidRequest``, which lists the modes, if the name is unknown (also
    for ``byzantine`` and the experimental modes of the released server)."""
    try:
        return ALIASES.get(name) or Mode(name)
    except ValueError:
        raise InvalidRequest(
            f"Consensus mode {name!r} does not exist here; the modes are {', '.join(MODE_NAMES)}"
            f" ({', '.join(f'{alias} = {mode.value}' for alias, mode in ALIASES.items())}).",
            "unsupported_consensus_mode",
        ) from None
