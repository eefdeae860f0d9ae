"""``tfxc VERB ...`` is ``python -m tfxc.VERB ...``."""

import importlib
import sys

from tfxc import cli

VERBS = {
    "prepare": "turn raw files into sharded records",
    "train": "train the model of a config, or go on with a stopped training",
    "distill": "train a small model on what larger ones say",
    "prune": "make a run smaller: fewer heads, narrower layers, fewer tokens",
    "evaluate": "measure a run on a split or a file, compare two runs",
    "report": "write tables and pictures of a run's strengths and mistakes",
    "verify": "tell by embeddings whether pairs of examples are the same",
    "predict": "label a file, a pipe, or what is typed",
    "encode": "write the encoder's vectors of examples into a file",
    "export": "write a SavedModel that takes raw input",
    "info": "list methods, show a config's or a run's size",
}


def main(argv=None):
    """Hands over to the verb's own ``main``."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] not in VERBS:
        print("usage: tfxc VERB ...\n")
        for verb, help_text in VERBS.items():
            print(f"  {verb:9} {help_text}")
        print("\ntfxc VERB --help tells more.")
        sys.exit(0 if not arguments or arguments[0] in ("-h", "--help") else 2)
    module = importlib.import_module(f"tfxc.{arguments[0]}")
    cli.run(module.main, arguments[1:])


if __name__ == "__main__":
    main()
