"""Import an XR-Linear model that PECOS has trained, with its label tree, as a run folder.

    python tools/import_pecos.py FOLDER RUN --labels labels.txt --vectorizer VECTORIZER
    tfxc predict --run RUN texts.txt

FOLDER is what PECOS's training wrote (``param.json``, ``ranker/``); libpecos is not needed.
"""

from tfxc.core import cli


def main(argv=None):
    """Imports one folder."""
    options = cli.tool_parser("import_pecos", __doc__)
    options.add_argument("folder", metavar="FOLDER", help="folder of a PECOS model")
    options.add_argument("output", metavar="RUN", help="run folder to write")
    options.add_argument(
        "--labels",
        metavar="FILE",
        help="file with one label name per line (default: numbers from 0)",
    )
    options.add_argument(
        "--vectorizer",
        metavar="FOLDER",
        help="PECOS vectoriser of the model's texts (default: none)",
    )
    options.add_argument(
        "--train-labels",
        metavar="FILE",
        help=".npz file of the training label matrix, for the label frequencies, which tables and "
        "propensity-scored metrics need (default: none)",
    )
    found = options.parse_args(argv)
    from tfxc.runs.import_pecos import import_run

    tree = import_run(
        found.folder,
        found.output,
        names=found.labels,
        vectorizer=found.vectorizer,
        train_labels=found.train_labels,
    )
    print(f"{found.output}: layers of {', '.join(f'{size:,}' for size in tree.sizes)} nodes")
    return 0


if __name__ == "__main__":
    cli.run(main)
