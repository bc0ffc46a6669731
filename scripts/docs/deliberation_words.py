"""What the modes and terminals mean, in words for users. A test checks that each mode and terminal has an entry."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.domain.consensus.rule import Mode
from cluster.domain.deliberation.state import Terminal

#: Mode → (decides for, needs, first answers are asked for).
MODES: Mapping[Mode, tuple[str, str, str]] = {
    Mode.AGREE_K: (
        "the option on which the first `k` agents agree; else what `escalate_to` decides",
        "`k` that agree (2)",
        "in waves",
    ),
    Mode.PLURALITY: ("the option with the most votes", "a lead", "at once"),
    Mode.MAJORITY: ("the option with more than half of the votes", "more than 1/2", "at once"),
    Mode.SUPERMAJORITY: ("the option with a share of `q`", "`q` (2/3)", "at once"),
    Mode.UNANIMOUS: ("the option that everybody chose", "all", "at once"),
    Mode.WEIGHTED: ("the highest sum of log-odds of each agent's accuracy", "a lead", "at once"),
    Mode.LEARNED: (
        "the highest sum of jointly learned weights; without a record that justifies it, as weighted or plurality",
        "a lead",
        "at once",
    ),
    Mode.APPROVAL: ("the option that most agents approve of", "a lead", "at once, as approved sets"),
    Mode.BORDA: ("the most points over all rankings", "a lead", "at once, as rankings"),
    Mode.SCHULZE: ("the winner of every pairwise comparison by strongest paths", "a lead", "at once, as rankings"),
    Mode.JUDGE: (
        "the choice of an agent outside the panel, which is asked twice with the candidates in opposite orders",
        "both verdicts alike",
        "at once",
    ),
    Mode.NONE: ("nothing: the answers are collected", "", "at once"),
}

TERMINALS: Mapping[Terminal, str] = {
    Terminal.DECIDED: "the rule has decided, or [a person](#a-person-at-the-end) has; the only authoritative end",
    Terminal.NO_CONSENSUS: "a tie, a threshold that was not reached, or a person who rejected the decision",
    Terminal.QUORUM_LOST: "too few agents were available, or too few voted; the reason names what was missing",
    Terminal.BUDGET_EXHAUSTED: "the budget did not cover the calls that a decision needed",
    Terminal.DEADLINE_EXCEEDED: "the deadline passed",
    Terminal.CANCELLED: "cancelled by request",
    Terminal.FAILED: "the control plane could not continue it",
}
