"""Errors print the fix: a command that there is."""

from __future__ import annotations

import re

import pytest

from aragora_worker.errors import ApiError
from cluster.cli.exit_codes import REFUSED, guarded
from cluster.cli.fixes import FIXES, fix_of
from cluster.cli.output import duration
from tests.unit.cli.test_usage import LEAVES

_NAMED = re.compile(r"`aragora-cp ([a-z ]+)")
#: A group that lists without a further word.
_GROUPS = {("weights",)}


@pytest.mark.parametrize("code", sorted(FIXES))
def test_a_fix_names_commands_that_there_are(code: str) -> None:
    named = [tuple(words.split()) for words in _NAMED.findall(FIXES[code])]
    assert named or code == "cursor_lost"
    assert [words for words in named if words not in LEAVES and words not in _GROUPS] == []


def test_a_caller_without_an_identity_is_told_how_to_get_one() -> None:
    fix = fix_of(ApiError("This token does not count here; get a new one.", "unauthenticated", 401))
    assert fix is not None
    assert "aragora-cp login" in fix


def test_an_error_is_followed_by_its_fix(capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> None:
        raise ApiError("There is no task t.", "task_not_found", 404)

    with pytest.raises(SystemExit) as ended:
        guarded(refused)
    assert ended.value.code == REFUSED
    assert capsys.readouterr().err == (
        "error: There is no task t.\nfix: `aragora-cp tasks list` lists those that there are.\n"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 ms"),
        (0.08, "80 ms"),
        (0.0996, "0.1 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3599.7, "1 h"),
        (7260, "2 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_duration_is_written_as_the_page_writes_it(seconds: float, words: str) -> None:
    assert duration(seconds) == words
