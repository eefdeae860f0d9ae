"""Turn a model of another system into a run, or its parameters into a config.

    tfxc import pecos model/ --run runs/imported --labels labels.txt --vectorizer vectorizer/
    tfxc import mach saved_models/ --run runs/imported --lookups lookups/ --query-lookups queries/
    tfxc import pecos-params params.json --config pecos.json --gpus 8

A run works with predict, evaluate, export and encode like any other. The other system need not be
installed, and no code from its files is executed. A config has no data: name it in "extends" of
one that has, with "run" and "data". Keys of the parameters that have no equal are printed.
"""

from collections.abc import Sequence

from tfxc.core import cli
from tfxc.core.errors import ConfigError

KINDS = {
    "pecos": "an XR-Linear or XR-Transformer model: what pecos.xmc.xlinear.train or "
    "pecos.xmc.xtransformer.train wrote",
    "pecos-params": "a JSON file of parameters, what --params-path of these reads",
    "mach": "the weights of the original MACH code: r_0_epoch_10.npz and so on",
}
# Options of one kind, and whether it needs them.
_OWN = {
    "pecos": {"run": True, "labels": False, "vectorizer": False, "train_labels": False},
    "pecos-params": {"config": True, "gpus": False},
    "mach": {
        "run": True,
        "labels": False,
        "lookups": True,
        "query_lookups": True,
        "epoch": False,
        "train_labels": False,
    },
}


def main(argv: Sequence[str] | None = None) -> int:
    """Imports one model."""
    options = _parser().parse_args(argv)
    arguments = _arguments_of(options)
    if options.kind == "pecos-params":
        _import_params(options)
        return 0
    arguments = {key: arguments[key] for key in arguments if key not in ("run", "labels")}
    if options.kind == "pecos":
        found = _import_pecos(options, arguments)
    else:
        from tfxc.recipes.repetitions.import_mach import import_mach

        count = import_mach(options.folder, options.run, names=options.labels, **arguments)
        found = f"{count} repetitions"
    print(f"{options.run}: {found}")
    return 0


def _import_params(options):
    """Converts parameters of PECOS; prints what has no equal."""
    from tfxc.core.config import parse_config
    from tfxc.core.errors import inside
    from tfxc.core.escaping import json_text
    from tfxc.core.files import atomic_file
    from tfxc.recipes.xr_transformer.pecos_params import convert_params

    config, notes = convert_params(options.folder, options.gpus or 1)
    data = {"name": "data", "train": "train", **config.get("data", {})}
    with inside(options.folder):
        parse_config({**config, "run": "run", "data": data})  # refuses what cannot be
    with atomic_file(options.config) as stream:
        stream.write(json_text(config, indent=2) + "\n")
    for note in notes:
        print(note)
    print(f"written: {options.config}")


def _import_pecos(options, arguments):
    """Imports a model of PECOS; what it is, in words."""
    from tfxc.recipes.xr_transformer.import_pecos import import_transformer, is_transformer

    if is_transformer(options.folder):
        return import_transformer(options.folder, options.run, names=options.labels, **arguments)
    from tfxc.runs.import_pecos import import_run

    tree = import_run(options.folder, options.run, names=options.labels, **arguments)
    return f"layers of {', '.join(f'{size:,}' for size in tree.sizes)} nodes"


def _parser():
    options = cli.parser("import", __doc__)
    kinds = "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items())
    options.add_argument("kind", choices=list(KINDS), metavar="KIND", help=kinds)
    options.add_argument("folder", metavar="FOLDER", help="the folder of the model, or the file")
    options.add_argument("--run", help="the run folder to write (of a model)")
    options.add_argument("--config", metavar="FILE", help="the config to write (of pecos-params)")
    options.add_argument(
        "--gpus",
        type=cli.positive,
        metavar="N",
        help="GPUs that PECOS's batch sizes are multiplied by (of pecos-params; default: 1)",
    )
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
    _add_mach_options(options)
    return options


def _add_mach_options(options):
    """Options of the original MACH code."""
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
                    f"this option expected for {kind}, found none", where=flag, fix=f"add {flag}"
                )
    return {name: getattr(options, name) for name in _OWN[options.kind]}
