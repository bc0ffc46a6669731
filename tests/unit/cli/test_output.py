"""What somebody else wrote is shown, and cannot pass for the command line's own output."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from typer import BadParameter

from cluster.cli.calls import call
from cluster.cli.exit_codes import REFUSED, guarded
from cluster.cli.output import on_one_line, plain

_ODD = st.text(
    st.characters(exclude_categories=("Cs",)) | st.sampled_from("\x1b\x07\x9b\r\n\t\u202e\u2066[]/\\"), max_size=60
)


def _printed(markup: str) -> str:
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, color_system=None, soft_wrap=True, highlight=False).print(markup)
    return stream.getvalue()


@example("\\")
@example("[a]\\")
@example("\\\\")
@given(_ODD)
def test_words_drive_no_terminal_and_are_no_markup(words: str) -> None:
    shown = _printed(plain(words))
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert [char for char in shown if char.isprintable()] == [
        char if char.isprintable() else " " for char in words if char != "\n"
    ]


@given(_ODD)
def test_words_on_one_line_make_no_other_line(words: str) -> None:
    assert _printed(plain(on_one_line(words))).count("\n") == 1


@pytest.mark.parametrize("path", ["/tasks/.", "/tasks/..", "/story/", "/agents/./pause"])
def test_an_id_that_is_a_step_in_a_url_is_refused(path: str) -> None:
    with pytest.raises(BadParameter, match="is not an id"):
        call("GET", path)


def test_text_that_is_not_utf8_is_refused_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        guarded(lambda: "\udcff".encode())
    assert left.value.code == REFUSED
    assert "not UTF-8" in capsys.readouterr().err
