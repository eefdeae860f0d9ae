"""``tfxc COMMAND ...``, also as ``python -m tfxc COMMAND ...``."""

# Only what takes no time is imported here: until ``main`` has begun, Ctrl-C shows a traceback.
import importlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

COMMANDS = {
    "check": "look for duplicates, contradictions and gaps in a data file",
    "init": "write a config for a data file",
    "fetch": "download a public data set that configs use",
    "prepare": "turn raw files into sharded records",
    "features": "make, split and import feature sets: vectors to train heads on",
    "tree": "build a tree of label clusters, or show one",
    "train": "train a model on a data file or by a config, or resume a stopped training run",
    "search": "train a config with many settings and list their dev metrics",
    "copy-texts": "write changed copies of texts, for distill",
    "distill": "train a small model to imitate larger ones",
    "prune": "make a run smaller: fewer heads, narrower layers, fewer tokens",
    "add-labels": "add new labels to a trained run, by texts or examples",
    "remove-labels": "remove labels from a run that remembers its examples",
    "evaluate": "evaluate a run on a split or a file, or compare two runs",
    "decide": "learn a run's probabilities and which labels it returns, from held-out examples",
    "compare": "plot and list a metric of several runs over the epochs",
    "ensemble": "combine the labels that several runs predict, and evaluate the result",
    "report": "write tables and plots of a run's strengths and errors",
    "card": "write a model card of a run, as the Hugging Face Hub reads it",
    "verify": "measure how well embeddings separate same from different pairs",
    "predict": "predict labels for a file, a pipe or typed lines",
    "encode": "write the encoder's vectors of examples to a file",
    "serve": "answer requests over HTTP, with a page to try runs",
    "export": "export a run as a SavedModel, ONNX or LiteRT, or for NumPy alone",
    "import": "turn another system's model into a run",
    "info": "show the size of a config or a run",
    "configs": "list the configs that come with tfxc",
    "doctor": "show versions, devices, extras, memory and disk of this machine",
    "completion": "print the shell's completion of commands and options",
}


def module_of(command: str) -> Any:
    """Returns the module of a command: ``add-labels`` is ``tfxc/commands/add_labels.py``."""
    return importlib.import_module(f"tfxc.commands.{command.replace('-', '_')}")


def main(argv: Sequence[str] | None = None) -> None:
    """Calls the command's own ``main``."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until cli.run can say that it was stopped
    from tfxc.core import cli

    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        cli.run(_command(arguments[0]), arguments[1:])
    cli.run(_without_command, arguments)


def _command(name: str) -> Callable[[Sequence[str] | None], int | None]:
    """Returns the command's ``main``, which is imported where Ctrl-C is handled already."""

    def run(argv: Sequence[str] | None) -> int | None:
        return module_of(name).main(argv)

    return run


def _without_command(argv: Sequence[str] | None) -> int:
    """Prints the version or the commands; returns 2 where a command is mistyped."""
    arguments = argv or []
    from tfxc.core.errors import nearest
    from tfxc.version import __version__

    if arguments[:1] == ["--version"]:
        print(f"tfxc {__version__}")
        return 0
    if arguments[:1] and arguments[0] not in ("-h", "--help", "help"):
        known = nearest(arguments[0], COMMANDS)
        print(f"tfxc: error: unknown command {arguments[0]!r}{known}", file=sys.stderr)
        print("See `tfxc --help`.", file=sys.stderr)
        return 2
    print("usage: tfxc COMMAND ...\n")
    width = max(map(len, COMMANDS))
    for command, help_text in COMMANDS.items():
        print(f"  {command:{width}}  {help_text}")
    print("\n`tfxc COMMAND --help` shows the options of a command,")
    print("`tfxc --version` the version.")
    return 0


if __name__ == "__main__":
    main()
