"""``tfxc COMMAND ...``, also as ``python -m tfxc COMMAND ...``."""

import importlib
import sys
from collections.abc import Sequence

from tfxc.core import cli

COMMANDS = {
    "prepare": "turn raw files into sharded records",
    "init": "write a config for a data file",
    "train": "train a model on a data file or by a config, or resume a stopped training run",
    "distill": "train a small model to imitate larger ones",
    "prune": "make a run smaller: fewer heads, narrower layers, fewer tokens",
    "evaluate": "evaluate a run on a split or a file, compare two runs",
    "report": "write tables and plots of a run's strengths and errors",
    "verify": "measure how well embeddings separate same from different pairs",
    "predict": "predict labels for a file, a pipe or typed lines",
    "encode": "write the encoder's vectors of examples to a file",
    "export": "export a run as a SavedModel, ONNX or LiteRT model",
    "import": "turn a model of another system into a run",
    "info": "show the size of a config or a run",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Calls the command's own ``main``."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] not in COMMANDS:
        print("usage: tfxc COMMAND ...\n")
        for command, help_text in COMMANDS.items():
            print(f"  {command:9} {help_text}")
        print("\n`tfxc COMMAND --help` shows the options of a command.")
        sys.exit(0 if not arguments or arguments[0] in ("-h", "--help") else 2)
    module = importlib.import_module(f"tfxc.commands.{arguments[0]}")
    cli.run(module.main, arguments[1:])


if __name__ == "__main__":
    main()
