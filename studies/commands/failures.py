"""What a command that fails says and returns: one line, and an exit status that scripts can tell apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sconv_search.strict_json import shortened
from sconv_search.studies.options.debug import shown
from sconv_search.system.signals import INTERRUPTED, STOPPED, TERMINATED, stopped_status, stopping_in_order, was_stopped

DONE, WORK_FAILED, WRONG_INPUT = 0, 1, 2
STATUSES = (
    f"Exit status: {DONE} done, {WRONG_INPUT} wrong input, {WORK_FAILED} the work failed although the input was right "
    f"(training diverged, memory ran out), {INTERRUPTED} stopped by Ctrl-C, {TERMINATED} by SIGTERM."
)
_STATUS_OF = {(ValueError, KeyError, TypeError, OSError): WRONG_INPUT, (RuntimeError,): WORK_FAILED}

FILES = (("best", "--plan"), ("export", "--out"))
"""Commands with options that name a file; paths lose the slash by which a folder is told."""


def guarded(command: Callable[[], object]) -> int:
    """Runs a command and returns its exit status; an expected error becomes one line on stderr.

    The command line's own usage errors end the process with a status of theirs, which is that of wrong input.
    """
    shown["tracebacks"] = False
    try:
        with stopping_in_order():
            command()
    except Exception as error:
        if was_stopped():  # what a library raised on the way out, in place of the interrupt
            return _stopped()
        if shown["tracebacks"] or not isinstance(error, tuple(kind for kinds in _STATUS_OF for kind in kinds)):
            raise
        _say(f"error: {error.args[0] if isinstance(error, KeyError) and error.args else error}")
        return next(status for kinds, status in _STATUS_OF.items() if isinstance(error, kinds))
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer's answer to Ctrl-C
            return _stopped()
        return end.code if isinstance(end.code, int) else WORK_FAILED if end.code else DONE
    except KeyboardInterrupt:
        return _stopped()
    return DONE


def require_arguments(arguments: Sequence[str]) -> None:
    """Refuses, before any work, what no command can mean: an empty argument, one that is not UTF-8, or a folder where a
    file is named.

    Raises:
        ValueError: the argument is named.
    """
    for index, argument in enumerate(arguments):
        before = arguments[index - 1] if index else ""
        flag, equals, value = argument.partition("=")
        if not argument or (flag.startswith("--") and equals and not value):
            name = flag or (before if before.startswith("-") else "an argument")
            raise ValueError(f"{name} is empty, as an unset variable is; give a value, or leave it out")
        option, named = (flag, value) if equals else (before, argument)
        if named.endswith("/") and any(command in arguments[:index] and option == own for command, own in FILES):
            raise ValueError(f"{option} names a file, {named!r} is a folder; add the file's name")
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError as error:
            shown_argument = shortened(ascii(argument), 200)
            raise ValueError(f"the argument {shown_argument} is not UTF-8; name files and folders in UTF-8") from error


def one_line(text: str) -> str:
    """The text in one line of at most ``MOST_LETTERS``, what a terminal does not show written as escapes."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in shortened(text.strip()))


def _stopped() -> int:
    _say(STOPPED)
    return stopped_status()


def _say(text: str) -> None:
    from rich.console import Console  # here: a command that succeeds does without

    Console(stderr=True).print(one_line(text), markup=False, highlight=False, soft_wrap=True)
