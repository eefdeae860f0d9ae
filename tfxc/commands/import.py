"""Turn a model of another system into a run.

    tfxc import pecos model/ --run runs/imported --labels labels.txt --vectorizer vectorizer/
    tfxc import mach saved_models/ --run runs/imported --lookups lookups/ --query-lookups queries/
    tfxc import scent outputs/sox/checkpoints --run runs/imported
    tfxc import text_classifier text_classifier_torch/config.py --run runs/imported

The run works with predict, evaluate, export and encode like any other. The other system need not be
installed, and no code from its files is executed.
"""

from collections.abc import Sequence
from typing import Any

from tfxc.core import cli
from tfxc.core.config import load_config
from tfxc.core.errors import ConfigError

KINDS = {
    "pecos": "an XR-Linear model: what XLinearModel.save or pecos.xmc.xlinear.train wrote",
    "mach": "the weights of the original MACH code: r_0_epoch_10.npz and so on",
    "scent": "a linear classifier of SCENT: epoch_50.pt, or the folder checkpoints",
    "text_classifier": "config.py of a text_classifier_torch project with a trained small model",
}
# Options of each kind, and whether it needs them.
_OWN = {
    "pecos": {"vectorizer": False, "train_labels": False},
    "mach": {"lookups": True, "query_lookups": True, "epoch": False, "train_labels": False},
    "scent": {"epoch": False, "config": False, "set": False, "prepared": False},
    "text_classifier": {
        "checkpoint": False,
        "tokens": False,
        "built_vocabulary": False,
        "write_config": False,
    },
}


def main(argv: Sequence[str] | None = None) -> int:
    """Imports one model."""
    options = _parser().parse_args(argv)
    arguments = _arguments_of(options)
    found = _IMPORTERS[options.kind](options, arguments)
    print(f"{options.write_config or options.run}: {found}")
    return 0


def _import_pecos(options, arguments):
    """Imports a model of PECOS; what it is, in words."""
    from tfxc.runs.import_pecos import import_run

    tree = import_run(options.folder, options.run, names=options.labels, **arguments)
    return f"layers of {', '.join(f'{size:,}' for size in tree.sizes)} nodes"


def _import_mach(options, arguments):
    from tfxc.recipes.repetitions.import_mach import import_mach

    count = import_mach(options.folder, options.run, names=options.labels, **arguments)
    return f"{count} repetitions"


def _import_scent(options, arguments):
    from tfxc.imports.scent import import_scent

    given = {"names": options.labels, "epoch": arguments["epoch"]}
    if options.config is not None:
        from tfxc.commands.train import check_config
        from tfxc.data.preparation import ensure_prepared

        config = load_config(options.config, [*(options.set or []), f"run={options.run}"])
        check_config(config)
        folder = ensure_prepared(config.data, options.prepared or "prepared")
        given |= {"config": config, "data_folder": folder}
    found = import_scent(options.folder, options.run, **given)
    text = f"{found.kernel.shape[0]:,} labels after {found.epoch} epochs"
    if options.config is None:
        return text
    return f"{text}; tfxc train --config {options.run}/config.json goes on from there"


def _import_text_classifier(options, arguments):
    from tfxc.imports.text_classifier.run import import_text_classifier, write_config

    if options.write_config:
        found: Any = write_config(options.folder, options.write_config, options.run)
        text = f"the config of {options.folder}, for tfxc train"
    else:
        found = import_text_classifier(
            options.folder,
            options.run,
            checkpoint=options.checkpoint,
            token_file=options.tokens,
            built_vocabulary=bool(options.built_vocabulary),
        )
        text = f"{found.model_type}, {found.num_labels:,} labels, {found.num_tokens:,} tokens"
    for line in found.without_equal:
        print(f"no equal: {line}")
    return text


_IMPORTERS = {
    "pecos": _import_pecos,
    "mach": _import_mach,
    "scent": _import_scent,
    "text_classifier": _import_text_classifier,
}


def _parser():
    options = cli.parser("import", __doc__)
    kinds = "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items())
    options.add_argument("kind", choices=list(KINDS), metavar="KIND", help=kinds)
    options.add_argument("folder", metavar="PATH", help="the model's folder, or its file")
    options.add_argument("--run", required=True, help="the run folder to write")
    options.add_argument(
        "--labels",
        metavar="FILE",
        help="file with one label name per line (default: numbers from 0)",
    )
    for add in (_add_pecos, _add_mach, _add_epoch, _add_scent, _add_text_classifier):
        add(options)
    return options


def _add_pecos(options):
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


def _add_mach(options):
    mach = options.add_argument_group("mach")
    mach.add_argument(
        "--lookups", metavar="FOLDER", help="the labels' hashes, bucket_order_0.npy and so on"
    )
    mach.add_argument(
        "--query-lookups", metavar="FOLDER", help="the features' hashes, in files of the same names"
    )


def _add_epoch(options):
    several = options.add_argument_group("mach and scent")
    several.add_argument(
        "--epoch",
        type=cli.positive,
        metavar="E",
        help="epoch of the weights (default: the last complete one)",
    )


def _add_scent(options):
    scent = options.add_argument_group("scent")
    scent.add_argument(
        "--config",
        metavar="FILE",
        help="config of the training that goes on from the checkpoint, with its dual variables "
        "(default: none, the run is finished)",
    )
    scent.add_argument("--set", action="append", metavar="KEY=VALUE", help="as of tfxc train")
    scent.add_argument(
        "--prepared", metavar="FOLDER", help="folder of prepared records (default: prepared)"
    )


def _add_text_classifier(options):
    own = options.add_argument_group("text_classifier")
    own.add_argument(
        "--checkpoint", metavar="FILE", help="the trained model (default: that of config.py)"
    )
    own.add_argument(
        "--tokens", metavar="FILE", help="its vocabulary (default: token_file of config.py)"
    )
    own.add_argument(
        "--built-vocabulary",
        action="store_true",
        default=None,
        help="the run that trained the model has built the vocabulary, too: read unknown tokens "
        "by the row that it trained, not by the one that its later runs read",
    )
    own.add_argument(
        "--write-config",
        metavar="FILE",
        help="write only a config for tfxc train that is equal to config.py, and its classes",
    )


def _arguments_of(options):
    """The options of the chosen kind by name.

    Raises:
        ConfigError: one is missing, or belongs to another kind.
    """
    own = _OWN[options.kind]
    if options.labels is not None and options.kind == "text_classifier":
        raise ConfigError(
            "the classes of config.py are the names", where="--labels", fix="leave it out"
        )
    for kind, names in _OWN.items():
        for name, needed in names.items():
            flag = f"--{name.replace('_', '-')}"
            given = getattr(options, name) is not None
            if name not in own and given:
                raise ConfigError(
                    f"an option of {options.kind} expected, found one of {kind}",
                    where=flag,
                    fix="leave it out",
                )
            if kind == options.kind and needed and not given:
                raise ConfigError(
                    f"a folder expected for {kind}, found none", where=flag, fix=f"add {flag}"
                )
    return {name: getattr(options, name) for name in own}
