"""Shell completion: the scripts that the shells read, and what they are told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.system import clean_environment

COMMAND = str(Path(sys.executable).with_name("aragora-cp"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_of_its_own(shell: str) -> None:
    ran = subprocess.run(
        [COMMAND, "--show-completion", shell],
        env=clean_environment(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert "_ARAGORA_CP_COMPLETE" in ran.stdout


def _completed(words: str) -> set[str]:
    """What bash is told about a line whose last word is begun."""
    environment = clean_environment(
        _ARAGORA_CP_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" "))
    )
    ran = subprocess.run([COMMAND], env=environment, capture_output=True, text=True, timeout=60)
    return set(ran.stdout.split())


def test_commands_groups_and_options_are_completed() -> None:
    assert {"tasks", "tokens", "top"} <= _completed("aragora-cp t")
    assert {"list", "add", "use", "remove"} <= _completed("aragora-cp context ")
    assert {"--watch", "--where"} <= _completed("aragora-cp tasks list --w")


def test_bash_itself_completes_with_the_script(tmp_path: Path) -> None:
    script = subprocess.run(
        [COMMAND, "--show-completion", "bash"],
        env=clean_environment(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"),
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    (tmp_path / "completion").write_text(script)
    program = (
        f"source {tmp_path / 'completion'}; COMP_WORDS=(aragora-cp cont); COMP_CWORD=1; "
        "$(complete -p aragora-cp | sed 's/.*-F \\([^ ]*\\).*/\\1/') aragora-cp cont aragora-cp; echo \"${COMPREPLY[@]}\""
    )
    environment = clean_environment(PATH=f"{Path(COMMAND).parent}{os.pathsep}{os.environ['PATH']}")
    ran = subprocess.run(["bash", "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert ran.stdout.split() == ["context"], ran.stderr
