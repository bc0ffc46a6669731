"""Frozen values by the hundred thousand: faster construction and ``replace``, and a compact way through pickle.

A frozen dataclass with slots sets each field through a call of ``object.__setattr__``; ``dataclasses.replace`` and its
pickling walk the fields in Python besides. A shard does all three a few times per task, which made them its largest
cost. Here a value is filled while it is of a twin class, of the same slots and not frozen, whose plain assignments the
interpreter specialises; then it becomes what it is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class _Layout(NamedTuple):
    get: Callable[[Any], tuple[Any, ...]]
    build: Callable[[tuple[Any, ...]], Any]
    evolve: Callable[[Any, dict[str, Any]], Any]
    init: Callable[..., None]


_LAYOUTS: dict[type[Any], _Layout] = {}

_SOURCE = """
def build(values):
    new = Twin()
    ({new}) = values
    new.__class__ = cls
    return new

def evolve(value, changes):
    new = Twin()
    {copy}
    for name, change in changes.items():
        setattr(new, name, change)
    new.__class__ = cls
    return new

def init(self, {parameters}):
    become(self, "__class__", Twin)
    {assign}
    self.__class__ = cls
"""


def _layout(cls: type[Any]) -> _Layout:
    known = _LAYOUTS.get(cls)
    if known is None:
        known = _LAYOUTS[cls] = _look_at(cls)
    return known


def _twin(cls: type[Any]) -> type[Any]:
    body = {"__slots__": cls.__dict__["__slots__"], "__setattr__": object.__setattr__}
    return type(f"{cls.__name__}InTheMaking", cls.__bases__, body)


def _look_at(cls: type[Any]) -> _Layout:
    every = fields(cls)
    names = [field.name for field in every]
    scope: dict[str, Any] = {"Twin": _twin(cls), "cls": cls, "become": object.__setattr__, "MISSING": MISSING}
    for field in every:
        scope[f"default_{field.name}"] = field.default
        scope[f"make_{field.name}"] = field.default_factory
    separate = "\n    ".join
    source = _SOURCE.format(
        new=" ".join(f"new.{name}," for name in names),
        copy=separate(f"new.{name} = value.{name}" for name in names),
        parameters=", ".join(map(_parameter, [*_by_position(every), *_by_name(every)])),
        assign=separate(f"self.{field.name} = {_argument(field)}" for field in every),
    )
    exec(source, scope)  # nothing in it is from outside: names of fields, as dataclasses itself does it
    getter = operator.attrgetter(*names)
    return _Layout(
        get=(lambda value: (getter(value),)) if len(names) == 1 else getter,
        build=scope["build"],
        evolve=scope["evolve"],
        init=scope["init"],
    )


def _by_position(every: tuple[Field[Any], ...]) -> list[Field[Any] | None]:
    return [field for field in every if not field.kw_only]


def _by_name(every: tuple[Field[Any], ...]) -> list[Field[Any] | None]:
    named: list[Field[Any] | None] = [field for field in every if field.kw_only]
    return [None, *named] if named else []


def _parameter(field: Field[Any] | None) -> str:
    if field is None:
        return "*"
    if field.default_factory is not MISSING:
        return f"{field.name}=MISSING"
    return field.name if field.default is MISSING else f"{field.name}=default_{field.name}"


def _argument(field: Field[Any]) -> str:
    name = field.name
    return name if field.default_factory is MISSING else f"make_{name}() if {name} is MISSING else {name}"


def rebuild(cls: type[Any], values: tuple[Any, ...]) -> Any:
    """How a compact value comes out of a pickle."""
    return _layout(cls).build(values)


def evolve(value: T, **changes: Any) -> T:
    """``dataclasses.replace`` for frozen dataclasses with slots and without ``__post_init__``."""
    new: T = _layout(value.__class__).evolve(value, changes)
    return new


def compact(cls: type[T]) -> type[T]:
    """Decorator of a frozen dataclass with slots, without ``__post_init__`` and without subclasses: is made faster, and
    pickles as its class and a tuple of its values."""
    layout = _layout(cls)

    def reduce(self: Any) -> tuple[Any, ...]:
        return rebuild, (cls, layout.get(self))

    cls.__reduce__ = reduce  # type: ignore[method-assign]
    cls.__init__ = layout.init  # type: ignore[method-assign]
    return cls
