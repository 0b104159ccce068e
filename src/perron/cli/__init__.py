"""The `perron` command: one file per verb, each of which parses, calls the library and prints."""

import contextlib
import gc
import os
import re
import signal
import sys
import warnings
from typing import Any, NoReturn

from perron.errors import PerronError, SourceWarning

__all__ = ["main"]

# Exit codes: 0 done; 1 a mistake that the message explains; 2 wrong usage; 3 refused by a gate; 130 interrupted.
MISTAKE, REFUSED, INTERRUPTED, BROKEN = 1, 3, 130, 70


def main() -> None:
    """Runs the command line and exits; a user's mistake is one line on standard error, never a traceback."""
    # Before OpenMP is loaded: its threads spin while they wait, which on a busy machine made a training ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    warnings.showwarning = _warn  # type: ignore[assignment]
    _take_secrets()
    sys.argv = _without_repetition(sys.argv)
    gc.disable()  # until the imports are done (`shared.resume_collection`): it costs a cached run a tenth
    message, code = "", 0
    try:
        from perron.cli.app import command_line

        command_line(sys.argv[1:])(prog_name="perron", standalone_mode=True)
    except PerronError as error:
        message, code = str(error), MISTAKE
    except KeyboardInterrupt:
        message, code = "Interrupted.", INTERRUPTED
    except SystemExit:
        _end_on_interrupt()
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(MISTAKE)
    except Exception as error:
        if os.environ.get("PERRON_DEBUG"):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        message, code = f"{reason} (this is a defect of Perron's; PERRON_DEBUG=1 shows where)", BROKEN
    if code:
        _fail(message, code)


def _end_on_interrupt() -> None:
    """From here on an interrupt ends the process without a word: the work is done, only the interpreter isn't."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _without_repetition(words: list[str]) -> list[str]:
    """The command line without a last `serve` after one that serves a bundle: SageMaker runs every image as `docker run IMAGE serve`."""
    is_repeated = (
        words[1:2] == ["serve"] and "--bundle" in words[2:-1] and words[-1] == "serve" and words[-2] != "--bundle"
    )
    return words[:-1] if is_repeated else words


def _take_secrets() -> None:
    """Sets the variables that the folder PERRON_SECRETS has files of, by their names; those that are set stay.

    So secrets of compose (`/run/secrets`) and volumes of Kubernetes come to what reads its environment alone.
    """
    folder = os.environ.get("PERRON_SECRETS")
    if not folder:
        return
    try:
        for file in os.scandir(folder):
            if file.is_file() and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", file.name):
                with open(file.path, encoding="utf-8") as opened:
                    os.environ.setdefault(file.name, opened.read().rstrip("\r\n"))
    except OSError as error:
        _fail(f"PERRON_SECRETS: can't read {error.filename or folder}: {error.strerror}.", MISTAKE)
    except ValueError as error:  # not UTF-8, or with a zero byte
        _fail(f"PERRON_SECRETS: a file of {folder} isn't text: {error}.", MISTAKE)


_show = warnings.showwarning


def _warn(message: Any, category: Any, *rest: Any) -> None:
    """Perron's own warnings as one line, others as they are."""
    if category is SourceWarning:
        print(f"perron: {message}", file=sys.stderr)
    else:
        _show(message, category, *rest)


def _fail(message: str, code: int) -> NoReturn:
    """Says why, and ends the process at once: a reading thread of Arrow's that was given up may yet run, and would abort it.

    What the mistake left open (the ledger) is closed before: nothing holds it any more, once the exception is gone.
    """
    _end_on_interrupt()
    print(f"perron: {' '.join(message.splitlines())}", file=sys.stderr)
    gc.unfreeze()
    gc.collect()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)
