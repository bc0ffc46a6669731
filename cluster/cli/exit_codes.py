"""Exit codes of every command, and the one place that turns errors into them."""

from __future__ import annotations

from collections.abc import Callable

from cluster.cli.fixes import fix_of
from cluster.cli.output import errors, plain
from cluster.domain.base.errors import ControlPlaneError, InvalidRequest, TryLater
from cluster.embedded.layout import EmbeddedError
from cluster.settings import SettingsError

REFUSED, USAGE, NO_CONSENSUS, UNREACHABLE, MACHINE, NOT_RECOMPUTABLE, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130
#: How a task ended that was waited for.
TASK_FAILED, TASK_CANCELLED, TASK_TIMED_OUT = 7, 8, 9


def guarded(command: Callable[[], object]) -> None:
    """Runs the command and ends the process with its exit code; prints every expected failure as one sentence.

    Raises: `SystemExit` if the command fails or is interrupted.
    """
    try:
        command()
    except (SettingsError, EmbeddedError) as error:
        _leave(error, MACHINE)
    except OSError as error:
        where = error.filename or "A file or socket"
        _leave(EmbeddedError(f"{where} cannot be used: {error.strerror or error}."), MACHINE)
    except TryLater as error:
        _leave(error, UNREACHABLE)
    except ControlPlaneError as error:
        _leave(error, REFUSED)
    except UnicodeError:
        _leave(InvalidRequest("An argument or a file holds bytes that are not UTF-8 text."), REFUSED)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _leave(error: Exception, code: int) -> None:
    errors.print(f"[red]error:[/] {plain(str(error))}")
    fix = fix_of(error)
    if fix is not None:
        errors.print(f"[green]fix:[/] {plain(fix)}")
    raise SystemExit(code) from None
