"""What every command shares: options, errors as one line, exit codes."""

import argparse
import contextlib
import os
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from typing import Any

from tfxc.core.errors import ConfigError, MachineError, UserError, nearest
from tfxc.core.escaping import safe_output
from tfxc.core.messages import printed
from tfxc.core.quiet import hide_start_lines
from tfxc.core.resources import wait_passively
from tfxc.core.storage.files import system_error
from tfxc.core.storage.mirror import mirrors
from tfxc.core.storage.remote import with_addresses


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps the paragraphs of a description on narrow terminals; examples keep their lines."""

    def _fill_text(self, text, width, indent):
        blocks = text.strip().split("\n\n")
        for place, block in enumerate(blocks):
            lines = block.split("\n")
            is_list = any(line.startswith((" ", "* ")) for line in lines)
            if max(map(len, lines)) > width and not is_list:
                whole = " ".join(lines)
                blocks[place] = textwrap.fill(
                    whole, width, break_long_words=False, break_on_hyphens=False
                )
        return "\n\n".join(blocks)


_NEGATIVE_NUMBER = re.compile(
    r"-(?:(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:e[-+]?\d+)?|inf(?:inity)?)$", re.IGNORECASE
)


class _Once(argparse.Action):
    """Takes an option's value; a second one is refused, of which argparse would keep the last."""

    def __call__(self, parser, namespace, values, option_string=None):
        before = getattr(namespace, self.dest, self.default)
        if option_string is not None and before is not self.default:
            advice = "Leave one out"
            if isinstance(values, list):
                separator = "," if self.nargs is None else " "
                before, values = (separator.join(map(str, part)) for part in (before, values))
                advice = f"Give all at once: {option_string} {before}{separator}{values}"
            raise argparse.ArgumentError(self, f"is given twice ({before} and {values}). {advice}")
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """The parser of ``tfxc COMMAND``, or of a tool, whose errors are one line, without the usage.

    Args:
        command: name, or path of a tool.
        description: for the help.

    Attributes:
        run_first: whether ``--run RUN`` may be given as RUN alone, before all else.
    """

    run_first = False

    def __init__(self, command: str = "", description: str | None = None, **options: Any) -> None:
        options.setdefault("prog", f"{'python' if command.endswith('.py') else 'tfxc'} {command}")
        options.setdefault("formatter_class", _HelpFormatter)
        super().__init__(description=description, **options)
        self.register("action", None, _Once)
        # Before Python 3.14 argparse takes -1e9 and -inf for options; it offers no other way.
        self._negative_number_matcher = _NEGATIVE_NUMBER

    def parse_args(self, args=None, namespace=None):
        """Parses; a run that stands before all else gets its name."""
        words = list(sys.argv[1:] if args is None else args)
        is_named = any(word.startswith(("--ru", "--mo")) for word in words)  # --run or --model
        if self.run_first and words and not is_named and not words[0].startswith("-"):
            words.insert(0, "--run")
        return super().parse_args(words, namespace)

    def error(self, message):
        """Says what is wrong in one line, with the nearest option or choice, and ends."""
        wrong = re.match(r"unrecognized arguments: (--\S+)", message)
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        hint = ""
        if re.match(r"unrecognized arguments: [\w.]+=", message):
            hint = ". Each KEY=VALUE needs a --set of its own"
        elif wrong:
            # Without the dashes, which all options share.
            options = [name[2:] for name in _options_of(self) if name.startswith("--")]
            hint = nearest(wrong[1].partition("=")[0][2:], options).replace("'", "'--", 1)
        elif choice:
            hint = nearest(choice[1], re.findall(r"[\w.-]+", choice[2]))
        message = message.removeprefix("argument ")
        self.exit(2, f"{self.prog}: error: {message}{hint}\nSee `{self.prog} --help`.\n")


def _options_of(parser):
    """Returns the option strings of a parser and of its sub-commands."""
    found = [*parser._option_string_actions]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found += _options_of(inner)
    return found


#: See ``tfxc.ranker.ensemble``, whose import takes longer than to show the help.
ENSEMBLES = ("average", "rank_average", "sigmoid_average", "softmax_average", "round_robin")


def check_keeps_input(output: str | None, source: str) -> None:
    """Refuses an ``--output`` that would replace the file that is read.

    Raises:
        ConfigError: both are one file.
    """
    if output is None or not (os.path.isfile(output) and os.path.exists(source)):
        return
    if os.path.samefile(output, source):
        raise ConfigError(
            f"{output} is the input file and would be replaced",
            where="--output",
            fix="give another name",
        )


def check_shared_output(
    cluster: str | None, source: str, output: str | None, runs: Sequence[str]
) -> None:
    """Refuses what the workers of ``--cluster`` cannot share; nothing where there is no cluster.

    Args:
        cluster: address of its scheduler, or None.
        source: file of examples, or ``-``.
        output: file to write, or None.
        runs: folders that each worker reads.

    Raises:
        ConfigError: standard input, no output file, or a remote run or output.
    """
    if cluster is None:
        return
    for name, file, what in (
        ("FILE", source, "a file of examples"),
        ("--output", output or "-", "a file to write"),
    ):
        if file == "-":
            raise ConfigError(
                f"a cluster needs {what}",
                where=name,
                fix="name one, or leave --cluster out",
            )
    for path in (*runs, output):
        if (address := with_addresses(str(path))) != str(path):
            raise ConfigError(
                f"the workers of a cluster cannot write to {address}",
                where="--cluster",
                fix="name a mounted folder, or leave --cluster out",
            )


def ending(*suffixes: str) -> Callable[[str], str]:
    """Returns the ``type`` of an option that names a file to write, whose name ends in one of
    ``suffixes``.
    """

    def checked(text):
        if not text.endswith(suffixes):
            raise argparse.ArgumentTypeError(
                f"{text!r} does not end in {' or '.join(suffixes)}, which decides what is written"
            )
        return text

    return checked


class Terminated(BaseException):
    """SIGTERM or SIGHUP, raised where the command is, so that it cleans up as on Ctrl-C."""

    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.signal_number = signal_number


def run(
    main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None
) -> None:
    """Calls ``main(argv)`` and ends the process with the right exit code.

    0: success. 1: the machine is at fault (one line on standard error), or a bug (with
    traceback). 2: wrong input, one line on standard error. 128 + n: stopped by signal n; files
    that cannot be resumed are removed.
    """
    _open_standard_streams()
    hide_start_lines()
    wait_passively()
    with safe_output(with_addresses), printed():
        _run(main, argv)


def _open_standard_streams():
    """Puts /dev/null in the place of closed streams, which the next file opened would take."""
    closed = []
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            closed.append(number)
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if number in closed or getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    if 1 in closed:
        _fail(UserError("standard output is closed", fix="send it somewhere, as with > /dev/null"))


def _run(main, argv):
    received: list[int] = []
    try:
        with _stop_signals(received), mirrors():
            try:
                code = main(argv)
            finally:  # here, where it is known what a closed pipe means
                sys.stdout.flush()
        sys.exit(code)
    except UserError as error:
        _fail(error)
    except BrokenPipeError:  # the reader of our output has gone, as with "| head"
        _discard_output()
        sys.exit(0)
    except OSError as error:
        if error.errno is None:
            raise
        _fail(system_error(error))
    except _out_of_memory() as error:
        wanted = re.search(r"shape\s?\[[\d, ]*\]|allocate [^\n]{1,80}", str(error))
        shown = f" ({wanted.group()})" if wanted else ""
        _fail(
            MachineError(
                f"not enough memory{shown}",
                fix="see what training needs with `tfxc train --dry-run`; lower its batch size or "
                "the model's widths, or use a larger machine",
            )
        )
    except (KeyboardInterrupt, Terminated) as stop:
        number = getattr(stop, "signal_number", signal.SIGINT)
        _end(f"tfxc: stopped by {signal.Signals(number).name}", 128 + number)


def _fail(error):
    _end(f"tfxc: {error}", error.exit_code)


def _end(line, code):
    try:
        print(line, file=sys.stderr, flush=True)
        sys.stdout.flush()
    except OSError:  # a full disk or a reader that has gone: Python would try once more, and say so
        _discard_output()
    sys.exit(code)


def _discard_output():
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


@contextlib.contextmanager
def _stop_signals(received):
    """Raises at the first SIGINT, SIGTERM or SIGHUP; a second one ends the process."""

    def stop(number, _frame):
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated(number)

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A program that ignores or handles a signal (nohup) keeps doing so; so does a thread.
        default = (signal.SIG_DFL, signal.default_int_handler)
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(number) in default:
            before[number] = signal.signal(number, stop)
    try:
        yield
    except BaseException as error:
        if received and not isinstance(error, (KeyboardInterrupt, SystemExit)):
            # Libraries that were being imported turn a stop into errors of their own.
            raise Terminated(received[0]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _out_of_memory():
    """Returns the errors that Python, NumPy and TensorFlow raise when memory runs out."""
    tensorflow = sys.modules.get("tensorflow")
    found = getattr(getattr(tensorflow, "errors", None), "ResourceExhaustedError", MemoryError)
    return MemoryError, found
