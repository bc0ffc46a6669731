"""Budgets in tokens and money: reserve before a call, settle after it, and never hold more than the budget.

Money is counted in integer nano-dollars, so that sums are exact. Invariant of every ledger: spent + reserved is at most
the budget, in both units. An agent that bills more than was reserved is paid from what is left of the budget. The rest of
its bill is kept apart as ``overrun``, and the agent is not asked again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.agents.options import Price
from cluster.domain.base.compact import compact, evolve
from cluster.domain.base.errors import InvalidRequest

NANOS = 1_000_000_000
#: Most tokens that are believed of one answer, input and output each. No model reads or writes as many, and sums of them
#: stay far below 2^53, up to which the numbers of JSON are exact.
MAX_TOKENS = 1_000_000_000
_BYTES_PER_TOKEN = 3  # fewer than the tokens of common tokenizers have on average, so that estimates err upwards
_TOKENS_PER_MESSAGE = 8


@compact
@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens and money together; ``nanos`` are nano-dollars. It is true if it is more than nothing."""

    tokens: int = 0
    nanos: int = 0

    def __bool__(self) -> bool:
        return self.tokens != 0 or self.nanos != 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.tokens + other.tokens, self.nanos + other.nanos)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.tokens - other.tokens, self.nanos - other.nanos)

    def times(self, count: int) -> Amount:
        return self if count == 1 else Amount(self.tokens * count, self.nanos * count)

    def at_most(self, other: Amount) -> Amount:
        return Amount(min(self.tokens, other.tokens), min(self.nanos, other.nanos))

    def to_json(self) -> dict[str, int]:
        return {"tokens": self.tokens, "nanos": self.nanos}

    @classmethod
    def from_json(cls, value: Mapping[str, int] | None) -> Amount:
        return cls(value["tokens"], value["nanos"]) if value else NOTHING


NOTHING = Amount()


def priced(price: Price, input_tokens: int, output_tokens: int) -> Amount:
    """What tokens cost at a price."""
    nanos = (input_tokens * price.input_per_mtok + output_tokens * price.output_per_mtok) * (NANOS // 1_000_000)
    return Amount(input_tokens + output_tokens, round(nanos))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of one deliberation; None means no limit."""

    tokens: int | None = None
    nanos: int | None = None

    @property
    def unlimited(self) -> bool:
        return self.tokens is None and self.nanos is None

    def holds(self, amount: Amount) -> bool:
        return (self.tokens is None or amount.tokens <= self.tokens) and (
            self.nanos is None or amount.nanos <= self.nanos
        )


def estimated_tokens(*texts: str) -> int:
    """Estimates the tokens of a prompt's messages, or of an answer whose agent reports none."""
    return sum(-(-_bytes(text) // _BYTES_PER_TOKEN) + _TOKENS_PER_MESSAGE for text in texts)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """``reserved``: amounts by call. ``estimated``: whether any bill so far was an estimate instead of a report."""

    budget: Budget = field(default_factory=Budget)
    spent: Amount = NOTHING
    reserved: Mapping[Any, Amount] = field(default_factory=dict)
    overrun: Amount = NOTHING
    estimated: bool = False

    @property
    def held(self) -> Amount:
        """spent + reserved"""
        total = self.spent
        for amount in self.reserved.values():
            total += amount
        return total

    def affords(self, amount: Amount) -> bool:
        return self.budget.unlimited or self.budget.holds(self.held + amount)

    def reserve(self, amounts: Mapping[Any, Amount]) -> Ledger:
        """Reserves an amount for each call, on top of what is reserved for it already: a repeated call may be billed
        twice."""
        reserved = dict(self.reserved)
        for call, amount in amounts.items():
            before = reserved.get(call)
            reserved[call] = amount if before is None else before + amount
        return evolve(self, reserved=reserved)

    def bill(self, call: Any, used: Amount) -> tuple[Amount, Amount]:
        """Splits a bill into (what the budget pays, what it cannot pay). A bill above its reservation is paid from what is
        left of the budget."""
        if self.budget.unlimited:
            return used, NOTHING
        free = self.held - self.reserved.get(call, NOTHING)
        far = 1 << 62
        room = Amount(
            far if self.budget.tokens is None else max(0, self.budget.tokens - free.tokens),
            far if self.budget.nanos is None else max(0, self.budget.nanos - free.nanos),
        )
        paid = used.at_most(room)
        return paid, used - paid

    def settle(self, call: Any, paid: Amount, overrun: Amount, *, estimated: bool) -> Ledger:
        return evolve(
            self,
            spent=self.spent + paid,
            overrun=self.overrun + overrun if overrun else self.overrun,
            reserved={key: amount for key, amount in self.reserved.items() if key != call},
            estimated=self.estimated or estimated,
        )

    def to_json(self) -> dict[str, Any]:
        """The cost as clients see it, in tokens and dollars."""
        total = self.spent + self.overrun
        return {
            "tokens": total.tokens,
            "usd": total.nanos / NANOS,
            "budget_tokens": self.budget.tokens,
            "budget_usd": None if self.budget.nanos is None else self.budget.nanos / NANOS,
            "overrun_tokens": self.overrun.tokens,
            "overrun_usd": self.overrun.nanos / NANOS,
            "estimated": self.estimated,
        }


def parse_budget(value: Any) -> Budget:
    """Reads ``{"tokens": n, "usd": x}``, both optional. Raises: ``InvalidRequest`` if it is anything else."""
    if value is None:
        return Budget()
    if not isinstance(value, Mapping) or set(value) - {"tokens", "usd"}:
        raise InvalidRequest('config.budget must be {"tokens": number, "usd": number}.', "invalid_budget")
    for name in ("tokens", "usd"):
        limit = value.get(name)
        if limit is not None and (
            isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit <= 1e9
        ):
            raise InvalidRequest(f"config.budget.{name} must be a number from 0 to 1e9.", "invalid_budget")
    tokens, usd = value.get("tokens"), value.get("usd")
    if tokens is not None and tokens != int(tokens):
        raise InvalidRequest("config.budget.tokens must be a whole number.", "invalid_budget")
    return Budget(
        tokens=None if tokens is None else int(tokens), nanos=None if usd is None else round(float(usd) * NANOS)
    )
