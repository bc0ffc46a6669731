"""What a webhook becomes, and which secrets of a hook count."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.domain.hooks.hook import (
    MOST_SECRETS,
    Secret,
    check_input,
    new_key,
    rotated,
    sealed_text,
    secrets_of,
)
from tests.support.hooks import a_hook
from tests.support.samples import NOW

#: Nested more deeply than an input may be.
DEEP: Any = functools.reduce(lambda inner, _: [inner], range(20), 0)
KEYS = [new_key(bytes([number]) * 32) for number in range(1, 12)]


@pytest.mark.parametrize("body", [{"a": [1]}, [], "text", 7, None, False], ids=str)
def test_without_an_input_the_whole_body_is_given(body: Any) -> None:
    assert a_hook().given("msg_1", body) == body


def test_an_input_takes_parts_of_the_body_and_the_id() -> None:
    given = {
        "tag": {"from": "body", "path": "/release/tag"},
        "id": {"from": "id"},
        "by": {"from": "body", "path": "/by", "default": "nobody"},
        "fixed": {"literal": {"from": "body"}},
    }
    check_input(given)
    assert a_hook(input=given).given("msg_1", {"release": {"tag": "v2"}}) == {
        "tag": "v2",
        "id": "msg_1",
        "by": "nobody",
        "fixed": {"from": "body"},
    }


def test_a_body_that_lacks_a_part_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="reviews does not fit this body: body#/tag finds nothing") as refused:
        a_hook(input={"from": "body", "path": "/tag"}).given("msg_1", {})
    assert refused.value.code == "input_unresolved"


@pytest.mark.parametrize(
    "template", [{"from": "input"}, [{"from": "step-1"}], {"from": "body", "path": "x"}, DEEP], ids=repr
)
def test_an_input_that_refers_to_something_else_is_refused(template: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_input(template)
    assert refused.value.code == "invalid_hook"


def test_ids_of_what_starts_are_of_hook_and_webhook() -> None:
    hook, run = a_hook(), a_hook(starts={"workflow": "flow"})
    assert hook.start_id("m") == hook.start_id("m")
    assert len({hook.start_id("m"), hook.start_id("n"), a_hook(id="hook_2").start_id("m")}) == 3
    assert (hook.start_id("m")[:5], run.start_id("m")[:6]) == ("task_", "wfrun_")


def test_a_rotation_ends_those_before_and_never_later_than_they_would() -> None:
    first = (Secret(key=KEYS[0]),)
    second = rotated(first, KEYS[1], NOW, 100.0)
    third = rotated(second, KEYS[2], NOW + 10, 500.0)
    assert [(secret.key, secret.until) for secret in third] == [
        (KEYS[2], None),
        (KEYS[1], NOW + 510),
        (KEYS[0], NOW + 100),
    ]
    assert [secret.counts(NOW + 100) for secret in third] == [True, True, False]
    assert secrets_of(sealed_text(third), [secret.until for secret in third]) == third


def test_without_overlap_nothing_of_before_counts() -> None:
    assert rotated((Secret(key=KEYS[0]),), KEYS[1], NOW, 0.0) == (Secret(key=KEYS[1]),)


def test_too_many_secrets_and_the_same_one_are_refused() -> None:
    secrets: tuple[Secret, ...] = ()
    for key in KEYS[:MOST_SECRETS]:
        secrets = rotated(secrets, key, NOW, 100.0)
    with pytest.raises(Conflict) as refused:
        rotated(secrets, KEYS[9], NOW, 100.0)
    assert refused.value.code == "too_many_secrets"
    assert len(rotated(secrets, KEYS[9], NOW + 100, 100.0)) == 2, "those that have ended make room"
    with pytest.raises(Conflict) as same:
        rotated(secrets[:2], secrets[1].key, NOW, 100.0)
    assert same.value.code == "hook_rotated"


def test_a_secret_shows_itself_nowhere() -> None:
    assert KEYS[0] not in repr(Secret(key=KEYS[0]))
