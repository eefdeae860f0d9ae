"""What every command shares: options, errors as one line, exit codes."""

import argparse
import contextlib
import functools
import json
import math
import os
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tfxc.core.errors import ConfigError, MachineError, UserError, nearest, option_of
from tfxc.core.escaping import safe_output
from tfxc.core.messages import printed
from tfxc.core.quiet import hide_start_lines
from tfxc.core.resources import wait_passively
from tfxc.core.storage.files import check_local, system_error
from tfxc.core.storage.mirror import mirrored, mirrors
from tfxc.core.storage.remote import is_remote, with_addresses


def parser(command: str, description: str, **kwargs: Any) -> argparse.ArgumentParser:
    """The argument parser of ``tfxc COMMAND``."""
    return _Parser(
        prog=f"tfxc {command}",
        description=description,
        formatter_class=_HelpFormatter,
        **kwargs,
    )


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps the paragraphs of a description on narrow terminals; examples keep their lines."""

    def _fill_text(self, text, width, indent):
        return "\n\n".join(_wrapped(block, width) for block in text.strip().split("\n\n"))


def _wrapped(block, width):
    lines = block.split("\n")
    if max(map(len, lines)) <= width or any(line.startswith((" ", "* ")) for line in lines):
        return block
    return textwrap.fill(" ".join(lines), width, break_long_words=False, break_on_hyphens=False)


_NEGATIVE_NUMBER = re.compile(
    r"-(?:(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:e[-+]?\d+)?|inf(?:inity)?)$", re.IGNORECASE
)


class _Parser(argparse.ArgumentParser):
    """Refuses addresses of remote storages before any work, except where they may stand.

    Errors are one line, without the usage.

    Attributes:
        mirrored: options that are read and written in a copy, see ``tfxc.core.storage.mirror``.
        trained: those of them that trainings write to, so that they are copied meanwhile.
        remote: options that whoever reads them copies.
        addresses: options that name no file.
    """

    mirrored: tuple[str, ...] = ("run", "runs", "output")
    trained: tuple[str, ...] = ()
    remote: tuple[str, ...] = ("data", "file", "dev", "test")
    addresses: tuple[str, ...] = ("cluster",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Before Python 3.14 argparse takes -1e9 and -inf for options; it offers no other way.
        self._negative_number_matcher = _NEGATIVE_NUMBER

    def parse_args(self, args=None, namespace=None):
        """Parses."""
        found = super().parse_args(args, namespace)
        for name, value in vars(found).items():
            if name in (*self.remote, *self.addresses):
                continue
            option = option_of(name)
            change = check_local
            if name in self.mirrored:
                change = functools.partial(_in_mirror, trained=name in self.trained)
            if isinstance(value, list):
                value[:] = [_changed(each, change, option) for each in value]
            else:
                setattr(found, name, _changed(value, change, option))
        return found

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
    """The option strings of a parser and of its sub-commands."""
    found = [*parser._option_string_actions]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found += _options_of(inner)
    return found


def _changed(value, change, option):
    return (change(value, option) or value) if isinstance(value, str) else value


def _in_mirror(text, option, trained):
    """The path of the copy of an address, or of ``NAME=ADDRESS``; None of anything else."""
    name, sign, address = ("", "", text) if is_remote(text) else text.partition("=")
    if not is_remote(address):
        return None
    writes = trained or option == "--output"
    return f"{name}{sign}{mirrored(address, option, writes=writes, watch=trained)}"


def is_given(options: argparse.Namespace, name: str) -> bool:
    """Whether an option that is otherwise None, False or an empty list is given; 0 is a value.

    Example:
        >>> is_given(argparse.Namespace(min_score=0.0), "min_score")
        True
    """
    value = getattr(options, name)
    return value is not None and value is not False and value != []


def refuse(
    options: argparse.Namespace, names: Iterable[str], problem: str, fix: str = "leave it out"
) -> None:
    """Refuses options that have no effect together with the others.

    Args:
        options: what a parser returned.
        names: their attributes.
        problem, fix: what is said of the first one that is given, see ``is_given``.

    Raises:
        ConfigError: one is given.
    """
    for name in names:
        if is_given(options, name):
            raise ConfigError(problem, where=option_of(name), fix=fix)


def tool_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The argument parser of ``python tools/<name>.py``."""
    options = parser(name, description)
    options.prog = f"python tools/{name}.py"
    return options


def add_config_options(options: argparse.ArgumentParser, required: bool = True) -> None:
    """``--config`` and ``--set``."""
    options.add_argument(
        "--config",
        required=required,
        metavar="FILE",
        help="JSON config, or the name of one that comes with tfxc (see tfxc configs)",
    )
    options.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a config key, e.g. training.epochs=3 (may be given several times)",
    )
    add_prepared_option(options)


PRESETS = ("fast", "balanced", "best")
#: See ``tfxc.ranker.ensemble``, whose import takes longer than to show the help.
ENSEMBLES = ("average", "rank_average", "sigmoid_average", "softmax_average", "round_robin")


def add_file_choices(options: argparse.ArgumentParser) -> None:
    """Options of a training on a data file without a config."""
    assert isinstance(options, _Parser), "of cli.parser"
    options.mirrored, options.remote = ("output",), (*options.remote, "run")
    options.add_argument("--dev", metavar="FILE", help="dev split (default: 15 %% of FILE)")
    options.add_argument("--test", metavar="FILE", help="test split")
    options.add_argument(
        "--preset",
        choices=PRESETS,
        help="fast: a linear ranker; balanced: a small network; best: what scores highest, see "
        "docs/choosing.md (default: fast for texts with several labels or in characters, as "
        "Chinese, else balanced; best with --pretrained)",
    )
    options.add_argument(
        "--pretrained", metavar="FOLDER", help="pretrained language model to fine-tune"
    )
    options.add_argument(
        "--run", metavar="FOLDER", help="run folder or its address (default: runs/NAME)"
    )
    options.add_argument(
        "--text-column", metavar="NAME", help="column of the texts (default: found by its values)"
    )
    options.add_argument(
        "--label-column", metavar="NAME", help="column of the labels (default: found by its values)"
    )


def add_prepared_option(options: argparse.ArgumentParser) -> None:
    """``--prepared`` of commands that read prepared data."""
    options.add_argument(
        "--prepared",
        default="prepared",
        metavar="FOLDER",
        help="folder of prepared records (default: %(default)s)",
    )


def add_batch_option(options: argparse.ArgumentParser) -> None:
    """``--batch-size`` of commands whose batches are by default those of the config."""
    options.add_argument(
        "--batch-size", type=positive, help="examples per batch (default: the config's)"
    )


def add_trust_option(options: argparse.ArgumentParser) -> None:
    """``--trust`` of commands that open runs."""
    options.add_argument(
        "--trust",
        action="store_true",
        help="import the modules that a run's config names (MODULE:CLASS), which runs their code",
    )


def add_reader_options(options: argparse.ArgumentParser, help_reader: str, example: str) -> None:
    """``--reader`` and ``--reader-option`` of commands that read a file of examples."""
    options.add_argument("--reader", help=help_reader)
    options.add_argument(
        "--reader-option",
        action="append",
        default=[],
        type=key_and_value,
        metavar="KEY=VALUE",
        help=f"option of the reader, e.g. {example} (may be given several times)",
    )


def add_features_option(options: argparse.ArgumentParser) -> None:
    """``--features`` of commands that read texts for runs on given features next to them."""
    options.add_argument(
        "--features",
        metavar="MATRIX",
        help="features of the examples of FILE, .npz (SciPy) or .npy, for runs whose terms are "
        "given (default: what FILE has)",
    )


def check_keeps_input(output: str | None, source: str) -> None:
    """Refuses an ``--output`` that would replace the file that is read.

    Raises:
        ConfigError: both are one file.
    """
    if output is None or not (os.path.isfile(output) and os.path.exists(source)):
        return
    if os.path.samefile(output, source):
        raise ConfigError(
            f"{output} is the file that is read, and would be replaced",
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


def key_and_value(text: str) -> tuple[str, Any]:
    """``(key, value)`` of an option; a value that is not JSON is a text."""
    key, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def integer(text: str) -> int:
    """``type`` of an option that is an integer whose bounds are those of a config or a run."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an integer, not {text!r}") from None


def positive(text: str) -> int:
    """``type`` of an option that is an integer of at least 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, not {text!r}")
    return int(text)


def integers(text: str) -> list[int]:
    """``type`` of an option that is a list of integers of at least 1.

    Example:
        >>> integers("1,3,5")
        [1, 3, 5]
    """
    return [positive(part) for part in text.split(",")]


def seed(text: str) -> int:
    """``type`` of an option that is an integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be an integer of at least 0, not {text!r}")
    return int(text)


def spans(text: str) -> list[int]:
    """``type`` of an option that is a list of integers of at least 0 and spans of them.

    Example:
        >>> spans("0-2,5")
        [0, 1, 2, 5]
    """
    found: set[int] = set()
    for part in text.split(","):
        first, sign, last = part.partition("-")
        last = last if sign else first
        if not (first.isdecimal() and last.isdecimal()) or not int(first) <= int(last) < 1 << 20:
            raise argparse.ArgumentTypeError(f"must be numbers such as 0-7 or 0-3,5, not {text!r}")
        found |= set(range(int(first), int(last) + 1))
    return sorted(found)


def number(text: str) -> float:
    """``type`` of an option that is a finite number."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}")
    return found


def numbers(text: str) -> list[float]:
    """``type`` of an option that is a list of finite numbers.

    Example:
        >>> numbers("2,0.5")
        [2.0, 0.5]
    """
    return [number(part) for part in text.split(",")]


def ending(*suffixes: str) -> Callable[[str], str]:
    """``type`` of an option that names a file to write, whose name ends in one of ``suffixes``."""

    def checked(text):
        if not text.endswith(suffixes):
            raise argparse.ArgumentTypeError(
                f"{text!r} does not end in {' or '.join(suffixes)}, which says what is written"
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
        _fail(_memory_error(error))
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
        if signal.getsignal(number) in default and _in_main_thread():
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


def _in_main_thread():
    return threading.current_thread() is threading.main_thread()


def _out_of_memory():
    """The errors that Python, NumPy and TensorFlow raise when memory runs out."""
    tensorflow = sys.modules.get("tensorflow")
    found = getattr(getattr(tensorflow, "errors", None), "ResourceExhaustedError", MemoryError)
    return MemoryError, found


def _memory_error(error):
    wanted = re.search(r"shape\s?\[[\d, ]*\]|allocate [^\n]{1,80}", str(error))
    shown = f" ({wanted.group()})" if wanted else ""
    return MachineError(
        f"not enough memory{shown}",
        fix="see what training needs with `tfxc train --dry-run`; lower its batch size or the "
        "model's widths, or use a larger machine",
    )
