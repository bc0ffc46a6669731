"""Versions of workers and ranges of them."""

from __future__ import annotations

import pytest

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.versions import check_range, check_version, in_range, is_version


@pytest.mark.parametrize(
    ("text", "normal"), [("1.4.2", "1.4.2"), ("v1", "1"), ("2.0.0-rc.1", "2.0.0rc1"), ("1.2+b5", "1.2+b5")]
)
def test_a_version_is_kept_in_its_normal_form(text: str, normal: str) -> None:
    assert check_version(text) == normal
    assert is_version(text)


@pytest.mark.parametrize("text", ["", "x", "1.x", ">=1", "1,2"])
def test_what_is_no_version_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"1\.4\.2"):
        check_version(text)


def test_equal_ranges_have_equal_texts() -> None:
    assert check_range(">=1.4,<2") == check_range("<2 , >=1.4")


@pytest.mark.parametrize("text", ["", "x", "1.0", "===1.0", ">=1,", ">=1,,<2", ">=1,===x"])
def test_what_is_no_range_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"~=2\.3"):
        check_range(text)


@pytest.mark.parametrize(
    ("versions", "inside", "outside"),
    [
        (">=1.4,<2", ["1.4", "1.9.9", "1.5rc1"], ["1.3.9", "2", "2.0rc1", "1.4rc1"]),
        ("~=2.3", ["2.3", "2.9"], ["3.0", "2.2"]),
        ("==2.*", ["2", "2.0rc1", "2.7+local"], ["1.9", "3"]),
        ("!=1.5", ["1.4", "1.5.1"], ["1.5", "1.5.0"]),
    ],
)
def test_a_range_holds_what_lies_in_it_by_order(versions: str, inside: list[str], outside: list[str]) -> None:
    assert [v for v in [*inside, *outside] if in_range(check_version(v), check_range(versions))] == inside
