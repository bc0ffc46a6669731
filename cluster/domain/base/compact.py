"""Makes frozen dataclasses cheap to construct, to ``replace`` and to pickle, for values that exist by the hundred thousand.

A frozen dataclass with slots sets each field through a call of ``object.__setattr__``. ``dataclasses.replace`` and
pickling also walk the fields in Python. A shard does all three a few times per task, and they were its largest cost.
Here a new value starts as an instance of a twin class that has the same slots and is not frozen, so the interpreter can
specialise the plain assignments. When all fields are set, its ``__class__`` becomes the frozen class.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class _Layout(NamedTuple):
    """The functions that are generated for one class: read all fields, build from them, copy with changes, construct."""

    get: Callable[[Any], tuple[Any, ...]]
    build: Callable[[tuple[Any, ...]], Any]
    evolve: Callable[[Any, dict[str, Any]], Any]
    init: Callable[..., None]


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


class _Layouts(dict[type[Any], _Layout]):
    """One layout per class. Made when ``compact`` decorates it, or at the first ``evolve`` or unpickling; never removed."""

    def __missing__(self, cls: type[Any]) -> _Layout:
        layout = self[cls] = _look_at(cls)
        return layout


_LAYOUTS = _Layouts()


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
    # Safe, and what dataclasses does itself: the source holds nothing but the names of fields.
    exec(source, scope)  # nosec B102
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
    """Builds a compact value from the tuple of its fields. Pickles name this function, so it keeps its name."""
    return _LAYOUTS[cls].build(values)


def evolve(value: T, **changes: Any) -> T:
    """A copy with some fields changed: ``dataclasses.replace`` for frozen dataclasses with slots, without ``__post_init__``."""
    new: T = _LAYOUTS[value.__class__].evolve(value, changes)
    return new


def compact(cls: type[T]) -> type[T]:
    """Class decorator: makes construction faster, and pickles a value as its class and the tuple of its fields.

    The class must be a frozen dataclass with slots, and must have neither ``__post_init__`` nor subclasses."""
    layout = _LAYOUTS[cls]

    def reduce(self: Any) -> tuple[Any, ...]:
        return rebuild, (cls, layout.get(self))

    cls.__reduce__ = reduce  # type: ignore[method-assign]
    cls.__init__ = layout.init  # type: ignore[method-assign]
    return cls
