"""The options of a registration: what is read of them, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.agents.options import HIGHEST_PRICE, NO_OPTIONS, AgentOptions, Price, Rate
from cluster.domain.agents.token_bucket import TokenBucket, take
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.deliberation.ledger import priced

GIVEN: dict[str, Any] = {
    "price": {"input_per_mtok": 1, "output_per_mtok": 2.5, "currency": "EUR"},
    "owner": "team-1",
    "rate": {"per_minute": 60, "burst": 5},
    "stream": True,
    "import_path": "agents:Echo",
    "arguments": {"prefix": "> "},
    "version": "1.4.2",
    "colour": "red",
}
ODD: dict[str, list[Any]] = {
    "price": ["cheap", 3, [], {"output_per_mtok": "3"}, {"input_per_mtok": -1}, {"input_per_mtok": True}],
    "owner": [7, ["x"], {}, False],
    "rate": [60, {}, {"per_minute": 0}, {"per_minute": "60"}, {"per_minute": 60, "burst": "5"}, {"burst": 2}],
    "stream": [1, "true", {}],
    "import_path": [1, ["a:B"]],
    "arguments": [[], "x", 3],
}
CASES = [(name, value) for name, values in ODD.items() for value in values]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["per_minute", "burst", "input_per_mtok", "output_per_mtok"]), inner)
    ),
    max_leaves=6,
)


def test_what_was_registered_is_read_with_its_types() -> None:
    assert AgentOptions.checked(GIVEN) == AgentOptions(
        price=Price(input_per_mtok=1.0, output_per_mtok=2.5),
        owner="team-1",
        rate=Rate(per_minute=60.0, burst=5),
        stream=True,
        import_path="agents:Echo",
        arguments={"prefix": "> "},
        version="1.4.2",
        given=GIVEN,
    )


def test_numbers_that_are_left_out_have_their_default() -> None:
    options = AgentOptions.checked({"price": {"output_per_mtok": 3}, "rate": {"per_minute": 1}, "owner": None})
    assert (options.price, options.rate, options.owner) == (Price(output_per_mtok=3.0), Rate(per_minute=1.0), "")


@pytest.mark.parametrize(("name", "value"), CASES)
def test_an_odd_value_is_refused_and_counts_as_left_out_where_stored(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=rf"options\.{name} must be") as refused:
        AgentOptions.checked({**GIVEN, name: value})
    assert refused.value.code == "invalid_options"
    stored = AgentOptions.read({**GIVEN, name: value})
    assert getattr(stored, name) == getattr(NO_OPTIONS, name)
    assert stored.given[name] == value


def test_a_version_that_is_none_is_kept_and_counts_for_nothing() -> None:
    options = AgentOptions.checked({"version": "the newest"})
    assert (options.version, options.given) == (None, {"version": "the newest"})


def test_a_price_above_the_highest_does_not_count_as_nothing() -> None:
    dear = AgentOptions.read({"price": {"input_per_mtok": 1e9, "output_per_mtok": 0}}).price
    assert dear is not None
    assert priced(dear, 1, 0).nanos == HIGHEST_PRICE * 1000


@given(st.dictionaries(st.sampled_from(sorted(GIVEN)), JSON))
def test_whatever_was_stored_can_be_read_and_used(given: dict[str, Any]) -> None:
    options = AgentOptions.read(given)
    if options.rate is not None:
        assert take(TokenBucket.of(options.rate, 0.0), 1.0)[1] >= 0
    if options.price is not None:
        assert priced(options.price, 10, 10).nanos >= 0
