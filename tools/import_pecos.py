"""Imports an XR-Linear model that PECOS has trained, with its label tree, as a run folder.

    python tools/import_pecos.py FOLDER RUN --labels labels.txt --vectorizer VECTORIZER
    tfxc predict --run RUN texts.txt

FOLDER is what PECOS's training wrote (``param.json``, ``ranker/``); libpecos is not needed.
"""

from tfxc.core import cli


def main(argv=None):
    """Imports one folder."""
    options = cli.tool_parser("import_pecos", __doc__)
    options.add_argument("folder", metavar="FOLDER", help="a model of PECOS")
    options.add_argument("output", metavar="RUN", help="the run folder to write")
    options.add_argument(
        "--labels",
        metavar="FILE",
        help="file with one label name per line (default: numbers from 0)",
    )
    options.add_argument(
        "--vectorizer", metavar="FOLDER", help="the PECOS vectoriser of the model's texts"
    )
    options.add_argument(
        "--train-labels",
        metavar="FILE",
        help="the training label matrix, .npz: the label frequencies, for tables and "
        "propensity-scored metrics",
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
