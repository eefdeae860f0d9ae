"""Turn a model of another system into a run.

    tfxc import pecos model/ --run runs/imported --labels labels.txt --vectorizer vectorizer/
    tfxc import mach saved_models/ --run runs/imported --lookups lookups/ --query-lookups queries/

The run works with predict, evaluate, export and encode like any other. The other system need not be
installed, and no code from its files is executed.
"""

from collections.abc import Sequence

from tfxc.core import cli
from tfxc.core.errors import ConfigError

KINDS = {
    "pecos": "an XR-Linear model: what XLinearModel.save or pecos.xmc.xlinear.train wrote",
    "mach": "the weights of the original MACH code: r_0_epoch_10.npz and so on",
}
# Options of one kind, and whether it needs them.
_OWN = {
    "pecos": {"vectorizer": False, "train_labels": False},
    "mach": {"lookups": True, "query_lookups": True, "epoch": False, "train_labels": False},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Imports one model."""
    options = _parser().parse_args(argv)
    arguments = _arguments_of(options)
    if options.kind == "pecos":
        from tfxc.runs.import_pecos import import_run

        tree = import_run(options.folder, options.run, names=options.labels, **arguments)
        found = f"layers of {', '.join(f'{size:,}' for size in tree.sizes)} nodes"
    else:
        from tfxc.recipes.repetitions.import_mach import import_mach

        count = import_mach(options.folder, options.run, names=options.labels, **arguments)
        found = f"{count} repetitions"
    print(f"{options.run}: {found}")
    return 0


def _parser():
    options = cli.parser("import", __doc__)
    kinds = "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items())
    options.add_argument("kind", choices=list(KINDS), metavar="KIND", help=kinds)
    options.add_argument("folder", metavar="FOLDER", help="the folder of the model")
    options.add_argument("--run", required=True, help="the run folder to write")
    options.add_argument(
        "--labels",
        metavar="FILE",
        help="file with one label name per line (default: numbers from 0)",
    )
    pecos = options.add_argument_group("pecos")
    pecos.add_argument(
        "--vectorizer", metavar="FOLDER", help="the PECOS vectoriser of the model's texts"
    )
    options.add_argument(
        "--train-labels",
        metavar="FILE",
        help="the training label matrix, .npz: the label frequencies, for tables and "
        "propensity-scored metrics",
    )
    mach = options.add_argument_group("mach")
    mach.add_argument(
        "--lookups", metavar="FOLDER", help="the labels' hashes, bucket_order_0.npy and so on"
    )
    mach.add_argument(
        "--query-lookups", metavar="FOLDER", help="the features' hashes, in files of the same names"
    )
    mach.add_argument(
        "--epoch",
        type=cli.positive,
        metavar="E",
        help="epoch of the weights (default: the last one that all repetitions have)",
    )
    return options


def _arguments_of(options):
    """The options of the chosen kind by name.

    Raises:
        ConfigError: one is missing, or belongs to another kind.
    """
    for kind, own in _OWN.items():
        for name, needed in own.items():
            flag = f"--{name.replace('_', '-')}"
            given = getattr(options, name) is not None
            if name not in _OWN[options.kind] and given:
                raise ConfigError(
                    f"an option of {options.kind} expected, found one of {kind}",
                    where=flag,
                    fix="leave it out",
                )
            if kind == options.kind and needed and not given:
                raise ConfigError(
                    f"a folder expected for {kind}, found none", where=flag, fix=f"add {flag}"
                )
    return {name: getattr(options, name) for name in _OWN[options.kind]}
