"""``tfxc COMMAND ...``, also as ``python -m tfxc COMMAND ...``."""

import importlib
import sys

from tfxc.core import cli

COMMANDS = {
    "prepare": "turn raw files into sharded records",
    "train": "train the model of a config, or go on with a stopped training",
    "distill": "train a small model to imitate larger ones",
    "prune": "make a run smaller: fewer heads, narrower layers, fewer tokens",
    "evaluate": "measure a run on a split or a file, compare two runs",
    "report": "write tables and pictures of a run's strengths and mistakes",
    "verify": "decide by embeddings whether pairs of examples are the same",
    "predict": "label a file, a pipe, or what is typed",
    "encode": "write the encoder's vectors of examples into a file",
    "export": "write a SavedModel that takes raw input",
    "import": "turn a model of another system into a run",
    "info": "list methods, show a config's or a run's size",
}


def main(argv=None):
    """Hands over to the command's own ``main``."""
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
