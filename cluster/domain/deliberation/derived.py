"""What follows from a deliberation's answers, each value computed once.

A value has a name, and the last step on whose answers it depends (``state.step_of``). States of the same deliberation share
the values of the steps that they have in common: the fold keeps those of the steps before an answer, and begins anew when
the panel changes. Votes and verdicts end nothing: what depends on them says itself whether it still holds (``renewed``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: The step before every answer: what is kept under it depends on the contract and the panel alone.
BEFORE_ANSWERS: Final = -1


class Derived:
    """Values by step and name. It is no part of what a state says, only of how fast it says it."""

    __slots__ = ("_steps",)

    def __init__(self, steps: dict[int, dict[Hashable, Any]] | None = None) -> None:
        self._steps = {} if steps is None else steps

    def value(self, step: int, name: Hashable, make: Callable[[], T]) -> T:
        """The value that ``make`` computes, from its second reading on as it was kept."""
        kept = self._of(step)
        value: T
        try:
            value = kept[name]
        except KeyError:
            value = kept[name] = make()
        return value

    def renewed(self, step: int, name: Hashable, renew: Callable[[T | None], T]) -> T:
        """The value that ``renew`` makes of the one that was kept, None at first."""
        kept = self._of(step)
        value = kept[name] = renew(kept.get(name))
        return value

    def before(self, step: int) -> Derived:
        """What does not depend on the answers of a step or of later ones."""
        return Derived({index: kept for index, kept in self._steps.items() if index < step})

    def _of(self, step: int) -> dict[Hashable, Any]:
        kept = self._steps.get(step)
        if kept is None:
            kept = self._steps[step] = {}
        return kept
