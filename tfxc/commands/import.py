"""Turn a model of another system into a run.

    tfxc import pecos model/ --run runs/imported --labels labels.txt --vectorizer vectorizer/
    tfxc import mach saved_models/ --run runs/imported --lookups lookups/ --query-lookups queries/
    tfxc import insightface backbone.pth --run runs/imported --centres work_dirs/ms1mv3_r50/
    tfxc import torchvision resnet50-0676ba61.pth --run runs/imported
    tfxc import mhe model-eurlex4k.bin --run runs/imported --pretrained bert-base-uncased/

The run works with predict, evaluate, export and encode like any other. The other system need not be
installed, and no code from its files is executed.
"""

from collections.abc import Sequence

from tfxc.core import cli
from tfxc.core.errors import ConfigError

KINDS = {
    "pecos": "an XR-Linear model: what XLinearModel.save or pecos.xmc.xlinear.train wrote",
    "mach": "the weights of the original MACH code: r_0_epoch_10.npz and so on",
    "insightface": "an IResNet of InsightFace's arcface_torch, or of MHE: backbone.pth or model.pt",
    "torchvision": "a ResNet of torchvision: its state dict, e.g. resnet50-0676ba61.pth",
    "mhe": "a text classifier of the code of MHE: models/model-eurlex4k.bin",
}
# Options of each kind, and whether it needs them.
_OWN = {
    "pecos": {"labels": False, "vectorizer": False, "train_labels": False},
    "mach": {
        "labels": False,
        "lookups": True,
        "query_lookups": True,
        "epoch": False,
        "train_labels": False,
    },
    "insightface": {"labels": False, "centres": False},
    "torchvision": {"labels": False, "image_size": False},
    "mhe": {"labels": False, "pretrained": True, "max_length": False, "beam": False},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Imports one model."""
    options = _parser().parse_args(argv)
    _check_options(options)
    kinds = {"pecos": _pecos, "mach": _mach, "insightface": _insightface}
    kinds |= {"torchvision": _torchvision, "mhe": _mhe}
    found = kinds[options.kind](options)
    print(f"{options.run}: {found}")
    return 0


def _pecos(options):
    from tfxc.runs.import_pecos import import_run

    tree = import_run(
        options.path,
        options.run,
        names=options.labels,
        vectorizer=options.vectorizer,
        train_labels=options.train_labels,
    )
    return f"layers of {', '.join(f'{size:,}' for size in tree.sizes)} nodes"


def _mach(options):
    from tfxc.recipes.repetitions.import_mach import import_mach

    count = import_mach(
        options.path,
        options.run,
        names=options.labels,
        lookups=options.lookups,
        query_lookups=options.query_lookups,
        epoch=options.epoch,
        train_labels=options.train_labels,
    )
    return f"{count} repetitions"


def _insightface(options):
    from tfxc.imports.insightface import import_insightface

    return import_insightface(
        options.path, options.run, names=options.labels, centres=options.centres
    )


def _torchvision(options):
    from tfxc.imports.torchvision import import_torchvision

    return import_torchvision(
        options.path, options.run, names=options.labels, image_size=options.image_size
    )


def _mhe(options):
    from tfxc.imports.mhe import import_mhe

    given = {name: getattr(options, name) for name in ("max_length", "beam")}
    return import_mhe(
        options.path,
        options.run,
        names=options.labels,
        folder=options.pretrained,
        **{name: value for name, value in given.items() if value is not None},
    )


def _parser():
    options = cli.parser("import", __doc__)
    kinds = "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items())
    options.add_argument("kind", choices=list(KINDS), metavar="KIND", help=kinds)
    options.add_argument("path", metavar="PATH", help="the model's folder, or its file")
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
    _add_other_options(options)
    return options


def _add_other_options(options):
    options.add_argument_group("insightface").add_argument(
        "--centres",
        metavar="FOLDER",
        help="class centres: folder with checkpoint_gpu_R.pt, softmax_fc_gpu_R.pt or "
        "rank_R_softmax_weight.pt of each rank R, or one such file with all of them (default: "
        "none, the run has no labels)",
    )
    options.add_argument_group("torchvision").add_argument(
        "--image-size",
        type=cli.positive,
        metavar="N",
        help="height and width of the images (default: 224, or 32 if the first convolution is "
        "3 x 3)",
    )
    mhe = options.add_argument_group("mhe")
    mhe.add_argument(
        "--pretrained",
        metavar="FOLDER",
        help="folder of the language model it was fine-tuned from: config.json and tokeniser",
    )
    mhe.add_argument(
        "--max-length", type=cli.positive, metavar="N", help="subwords of a text (default: 512)"
    )
    mhe.add_argument(
        "--beam",
        type=cli.positive,
        metavar="K",
        help="groups whose labels are scored (default: 10)",
    )


def _check_options(options):
    """Refuses options of other kinds, and missing ones.

    Raises:
        ConfigError: the option is named.
    """
    own = _OWN[options.kind]
    for name in {name for names in _OWN.values() for name in names}:
        flag = f"--{name.replace('_', '-')}"
        given = getattr(options, name) is not None
        if given and name not in own:
            users = [kind for kind, names in _OWN.items() if name in names]
            raise ConfigError(
                f"an option of {options.kind} expected, found one of {' and '.join(users)}",
                where=flag,
                fix="leave it out",
            )
        if own.get(name) and not given:
            raise ConfigError(
                f"a folder expected for {options.kind}, found none", where=flag, fix=f"add {flag}"
            )
