"""The options of an agent's registration: settings that only some rooms read, each with its type.

What was registered is kept as it is (``given``), since people may write options of their own there. Those that we read are
checked when an agent registers. Rows that were stored before read as if an odd value had been left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.versions import is_version

#: US dollars per million tokens; a higher price counts as this one, so that sums stay exact.
HIGHEST_PRICE: Final = 1_000_000.0
#: Calls per minute; a lower rate counts as this one, which is a call in two years, so that waits are numbers.
LOWEST_RATE: Final = 1e-6
#: A larger number of JSON may be none of Python.
_MOST: Final = 1e300


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens."""

    input_per_mtok: float = 0.0
    output_per_mtok: float = 0.0

    def to_json(self) -> dict[str, float]:
        return {"input_per_mtok": self.input_per_mtok, "output_per_mtok": self.output_per_mtok}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """``per_minute`` calls on average, ``burst`` at once."""

    per_minute: float
    burst: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """Made by ``read`` or ``checked`` from what was registered, which is in ``given``."""

    #: What its answers cost; None if the registration does not say.
    price: Price | None = None
    #: Whose agents share a cap on their weight; "" if the registration does not say.
    owner: str = ""
    #: How often it may be called; None for no bound.
    rate: Rate | None = None
    #: Whether its server streams answers.
    stream: bool = False
    #: The class of an agent that runs in the cluster, ``module:Class``, and its keyword arguments.
    import_path: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: The version of its worker; None if it registered none.
    version: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> AgentOptions:
        """The options that were registered. One whose value is odd counts as left out."""
        if not given:
            return NO_OPTIONS
        read = {name: value for name in _READ.keys() & given.keys() if (value := _READ[name](given[name])) is not None}
        return cls(given=given, **read)

    @classmethod
    def checked(cls, given: Mapping[str, Any]) -> AgentOptions:
        """The options of a registration. Raises: `InvalidRequest` if the value of one that we read is odd. A version is not
        checked: it was a free text before it had a field of its own."""
        for name, shape in _SHAPES.items():
            if given.get(name) is not None and _READ[name](given[name]) is None:
                raise InvalidRequest(f"options.{name} must be {shape}.", "invalid_options")
        return cls.read(given)


NO_OPTIONS: Final = AgentOptions()


def _number(value: Any) -> float | None:
    """A number of JSON that is at least 0; None if it is another value."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= _MOST else None


def _price(value: Any) -> Price | None:
    """A number that is left out counts as 0."""
    if not isinstance(value, Mapping):
        return None
    numbers = {name: _number(value.get(name, 0)) for name in ("input_per_mtok", "output_per_mtok")}
    read = {name: min(number, HIGHEST_PRICE) for name, number in numbers.items() if number is not None}
    return Price(**read) if len(read) == len(numbers) else None


def _rate(value: Any) -> Rate | None:
    if not isinstance(value, Mapping):
        return None
    per_minute, burst = _number(value.get("per_minute")), _number(value.get("burst", 1))
    if not per_minute or burst is None:
        return None
    return Rate(per_minute=max(per_minute, LOWEST_RATE), burst=max(1, int(burst)))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _version(value: Any) -> str | None:
    return value if isinstance(value, str) and is_version(value) else None


def _yes_or_no(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _object(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


#: How each option is read; None for an odd value.
_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "price": _price,
    "owner": _text,
    "rate": _rate,
    "stream": _yes_or_no,
    "import_path": _text,
    "arguments": _object,
    "version": _version,
}
#: What the options that are checked have to be, in words.
_SHAPES: Final[Mapping[str, str]] = {
    "price": "an object with input_per_mtok and output_per_mtok, numbers of at least 0",
    "owner": "a text",
    "rate": "an object with per_minute, a number above 0, and burst, a number of at least 1",
    "stream": "true or false",
    "import_path": "a text",
    "arguments": "an object",
}
