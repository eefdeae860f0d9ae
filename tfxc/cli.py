"""What every verb shares: options, errors as one line, exit codes."""

import argparse
import json
import os
import signal
import sys

from tfxc.config import load_config
from tfxc.errors import UserError
from tfxc.escaping import safe_output
from tfxc.files import check_local


def parser(verb, description, **kwargs):
    """An argument parser for ``python -m tfxc.<verb>``."""
    return _Parser(
        prog=f"python -m tfxc.{verb}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **kwargs,
    )


class _Parser(argparse.ArgumentParser):
    """Refuses addresses of remote storages before any work."""

    def parse_args(self, args=None, namespace=None):
        """Parses."""
        found = super().parse_args(args, namespace)
        for name, value in vars(found).items():
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    check_local(text, f"--{name.replace('_', '-')}")
        return found


def tool_parser(name, description):
    """An argument parser for ``python tools/<name>.py``."""
    options = parser(name, description)
    options.prog = f"python tools/{name}.py"
    return options


def add_config_options(options, required=True):
    """``--config`` and ``--set``."""
    options.add_argument(
        "--config", required=required, metavar="FILE", help="JSON config, see configs/"
    )
    options.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one key, e.g. training.epochs=3 (may be given several times)",
    )
    options.add_argument(
        "--prepared",
        default="prepared",
        metavar="FOLDER",
        help="where prepared records are kept (default: %(default)s)",
    )


def add_trust_option(options):
    """``--trust`` of commands that open runs."""
    options.add_argument(
        "--trust",
        action="store_true",
        help="import the modules that a run's config names (MODULE:CLASS), which runs their code",
    )


def add_reader_options(options, help_reader, example):
    """``--reader`` and ``--reader-option`` of verbs that read a file of examples."""
    options.add_argument("--reader", help=help_reader)
    options.add_argument(
        "--reader-option",
        action="append",
        default=[],
        type=_key_and_value,
        metavar="KEY=VALUE",
        help=f"option of the reader, e.g. {example} (may be given several times)",
    )


def add_beam_options(options):
    """``--beam`` and ``--post-processor`` of verbs that search with a linear ranker."""
    options.add_argument(
        "--beam",
        type=positive,
        metavar="N",
        help="clusters a linear ranker keeps in each layer (default: the run's)",
    )
    options.add_argument(
        "--post-processor",
        metavar="NAME",
        help="how a linear ranker turns margins into scores (default: the run's)",
    )


def _key_and_value(text):
    """``(key, value)``; the value is JSON, or a string where it is none."""
    key, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"key=value expected, found {text!r}")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def config_of(options):
    """The config that ``--config`` and ``--set`` describe."""
    return load_config(options.config, options.set)


def positive(text):
    """``type`` of an option that is a whole number from 1 on."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"a whole number from 1 on expected, found {text!r}")
    return int(text)


def ending(suffix):
    """``type`` of an option that names a file to write whose name has to end so."""

    def checked(text):
        if not text.endswith(suffix):
            raise argparse.ArgumentTypeError(
                f"a name that ends in {suffix} expected, found {text!r}"
            )
        return text

    return checked


def run(main, argv=None):
    """Calls ``main(argv)`` and ends the process with the right exit code.

    0: done. 1: the machine is at fault (``MachineError``, one line on standard error), or a bug
    (with traceback). 2: wrong input, one line on standard error. 128 + n: stopped by signal n
    after saving.
    """
    with safe_output():
        _run(main, argv)


def _run(main, argv):
    try:
        sys.exit(main(argv))
    except UserError as error:
        print(f"tfxc: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("tfxc: stopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of our output has gone, as with "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
