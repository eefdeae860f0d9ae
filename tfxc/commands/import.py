"""Turn a model of another system into a run, or its parameters into a config.

    tfxc import pecos model/ --run runs/imported --labels labels.txt --vectorizer vectorizer/
    tfxc import pecos_params params.json --run runs/mine --write-config pecos.json --gpus 8
    tfxc import mach saved_models/ --run runs/imported --lookups lookups/ --query-lookups queries/
    tfxc import scent outputs/sox/checkpoints --run runs/imported
    tfxc import text_classifier text_classifier_torch/config.py --run runs/imported
    tfxc import insightface backbone.pth --run runs/imported --centres work_dirs/ms1mv3_r50/
    tfxc import torchvision resnet50-0676ba61.pth --run runs/imported
    tfxc import mhe model-eurlex4k.bin --run runs/imported --pretrained bert-base-uncased/

The run works with predict, evaluate, export and encode like any other. The other system need not be
installed, and no code from its files is executed. Each kind has its own options, e.g.
tfxc import mach --help.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from tfxc.core import cli
from tfxc.data.reading.inspection.completion import load_config


def main(argv: Sequence[str] | None = None) -> int:
    """Imports one model."""
    options = _parser().parse_args(argv)
    arguments = {
        name: value for name, value in vars(options).items() if name not in ("run", "imported")
    }
    print(options.imported(options.run, **arguments))
    return 0


def _import_pecos(run: str, *, path: str, labels: str | None, **arguments: Any) -> str:
    """Imports a model of PECOS; what to print."""
    from tfxc.imports.pecos_transformer import import_transformer, is_transformer

    if is_transformer(path):
        return f"{run}: {import_transformer(path, run, names=labels, **arguments)}"
    from tfxc.imports.pecos import import_run

    tree = import_run(path, run, names=labels, **arguments)
    return f"{run}: layers of {', '.join(f'{size:,}' for size in tree.sizes)} nodes"


def _import_pecos_params(run: str, *, path: str, write_config: str, gpus: int) -> str:
    """Converts parameters of PECOS; says what has no equivalent."""
    from tfxc.core.config import parse_config
    from tfxc.core.errors import inside
    from tfxc.core.escaping import json_text
    from tfxc.core.storage.files import atomic_file
    from tfxc.recipes.xr_transformer.pecos_params import convert_params

    config, notes = convert_params(path, gpus)
    config = {"run": run, **config}
    data = {"name": "data", "train": "train", **config.get("data", {})}
    with inside(path):
        parse_config({**config, "data": data})  # refuses what cannot be
    with atomic_file(write_config) as stream:
        stream.write(json_text(config, indent=2) + "\n")
    text = f"{write_config}: the settings of {path}; add data, or name it in extends"
    return "\n".join([*notes, text])


def _import_mach(run: str, *, path: str, labels: str | None, **arguments: Any) -> str:
    from tfxc.imports.mach import import_mach

    return f"{run}: {import_mach(path, run, names=labels, **arguments)} repetitions"


def _import_scent(
    run: str,
    *,
    path: str,
    labels: str | None,
    epoch: int | None,
    config: str | None,
    set: list[str],
    prepared: str,
) -> str:
    from tfxc.imports.scent import import_scent

    arguments: dict[str, Any] = {"names": labels, "epoch": epoch}
    if config is not None:
        from tfxc.commands.train import check_config
        from tfxc.data.store.preparation import ensure_prepared

        arguments["config"] = load_config(config, [*set, f"run={run}"])
        check_config(arguments["config"])
        arguments["data_folder"] = ensure_prepared(arguments["config"].data, prepared)
    classifier = import_scent(path, run, **arguments)
    text = f"{run}: {classifier.kernel.shape[0]:,} labels after {classifier.epoch} epochs"
    if config is None:
        return text
    return f"{text}; tfxc train --config {run}/config.json resumes from there"


def _import_text_classifier(
    run: str,
    *,
    path: str,
    write_config: str | None,
    checkpoint: str | None,
    tokens: str | None,
    built_vocabulary: bool,
) -> str:
    from tfxc.imports.text_classifier import run as importer

    if write_config:
        project: Any = importer.write_config(path, write_config, run)
        text = f"{write_config}: the config of {path}, for tfxc train"
    else:
        project = importer.import_text_classifier(
            path, run, checkpoint=checkpoint, token_file=tokens, built_vocabulary=built_vocabulary
        )
        text = (
            f"{run}: {project.model_type}, {project.num_labels:,} labels, "
            f"{project.num_tokens:,} tokens"
        )
    return "\n".join([*(f"no equivalent: {line}" for line in project.without_equivalent), text])


def _import_insightface(run: str, *, path: str, labels: str | None, centres: str | None) -> str:
    from tfxc.imports.insightface import import_insightface

    return f"{run}: {import_insightface(path, run, names=labels, centres=centres)}"


def _import_torchvision(run: str, *, path: str, labels: str | None, image_size: int | None) -> str:
    from tfxc.imports.torchvision import import_torchvision

    return f"{run}: {import_torchvision(path, run, names=labels, image_size=image_size)}"


def _import_mhe(
    run: str, *, path: str, labels: str | None, pretrained: str, **sizes: int | None
) -> str:
    from tfxc.imports.mhe import import_mhe

    chosen: dict[str, Any] = {name: size for name, size in sizes.items() if size is not None}
    return f"{run}: {import_mhe(path, run, names=labels, folder=pretrained, **chosen)}"


def _parser() -> argparse.ArgumentParser:
    options = cli.parser("import", __doc__)
    kinds = options.add_subparsers(metavar="KIND", required=True, title="kinds")

    def add(
        name: str, imported: Callable[..., str], help_text: str, path_help: str, labels: bool = True
    ) -> argparse.ArgumentParser:
        kind = kinds.add_parser(name, help=help_text, description=help_text)
        kind.set_defaults(imported=imported)
        kind.add_argument("path", metavar="PATH", help=path_help)
        kind.add_argument("--run", required=True, help="the run folder to write")
        if labels:
            kind.add_argument(
                "--labels",
                metavar="FILE",
                help="file with one label name per line (default: numbers from 0)",
            )
        return kind

    pecos = add(
        "pecos",
        _import_pecos,
        "an XR-Linear or XR-Transformer model of PECOS",
        "what pecos.xmc.xlinear.train or pecos.xmc.xtransformer.train wrote",
    )
    pecos.add_argument(
        "--vectorizer", metavar="FOLDER", help="the PECOS vectoriser of the model's texts"
    )
    mach = add(
        "mach",
        _import_mach,
        "a model of the original MACH code",
        "the folder model_save_loc: r_0_epoch_10.npz and so on",
    )
    mach.add_argument(
        "--lookups",
        required=True,
        metavar="FOLDER",
        help="the labels' hashes, bucket_order_0.npy and so on",
    )
    mach.add_argument(
        "--query-lookups",
        required=True,
        metavar="FOLDER",
        help="the features' hashes, in files of the same names",
    )
    _add_epoch(mach)
    for kind in (pecos, mach):
        kind.add_argument(
            "--train-labels",
            metavar="FILE",
            help="matrix of the training labels (.npz), from which the label frequencies for "
            "tables and propensity-scored metrics are counted",
        )
    params = add(
        "pecos_params",
        _import_pecos_params,
        "parameters of PECOS as a config",
        "the JSON file for --params-path of pecos.xmc.xlinear.train or "
        "pecos.xmc.xtransformer.train",
        labels=False,
    )
    params.add_argument(
        "--write-config", required=True, metavar="FILE", help="the config to write, without data"
    )
    params.add_argument(
        "--gpus",
        type=cli.positive,
        default=1,
        metavar="N",
        help="number of GPUs of the PECOS run, whose batch size is that of one GPU (default: "
        "%(default)s)",
    )
    _add_dense_kinds(add)
    _add_text_classifier(add)
    return options


def _add_epoch(kind: argparse.ArgumentParser) -> None:
    kind.add_argument(
        "--epoch",
        type=cli.positive,
        metavar="E",
        help="epoch of the weights (default: the last complete one)",
    )


def _add_dense_kinds(add: Callable[..., argparse.ArgumentParser]) -> None:
    scent = add(
        "scent",
        _import_scent,
        "a linear classifier of SCENT",
        "a checkpoint, epoch_50.pt, or the folder checkpoints",
    )
    _add_epoch(scent)
    cli.add_config_options(scent, required=False)  # with --prepared
    add(
        "insightface",
        _import_insightface,
        "an IResNet of InsightFace's arcface_torch, or of MHE",
        "backbone.pth or model.pt",
    ).add_argument(
        "--centres",
        metavar="FOLDER",
        help="class centres: folder with checkpoint_gpu_R.pt, softmax_fc_gpu_R.pt or "
        "rank_R_softmax_weight.pt of each rank R, or one such file with all of them (default: "
        "none, the run has no labels)",
    )
    add(
        "torchvision",
        _import_torchvision,
        "a ResNet of torchvision",
        "its state dict, e.g. resnet50-0676ba61.pth",
    ).add_argument(
        "--image-size",
        type=cli.positive,
        metavar="N",
        help="height and width of the images (default: 224, or 32 if the first convolution is "
        "3 x 3)",
    )


def _add_text_classifier(add: Callable[..., argparse.ArgumentParser]) -> None:
    mhe = add(
        "mhe", _import_mhe, "a text classifier of the code of MHE", "models/model-eurlex4k.bin"
    )
    mhe.add_argument(
        "--pretrained",
        required=True,
        metavar="FOLDER",
        help="folder of the language model it was fine-tuned from: config.json and tokeniser",
    )
    mhe.add_argument(
        "--max-length",
        type=cli.positive,
        metavar="N",
        help="most subwords of a text to read (default: 512)",
    )
    mhe.add_argument(
        "--beam",
        type=cli.positive,
        metavar="K",
        help="number of groups whose labels are scored for each text (default: 10)",
    )
    project = add(
        "text_classifier",
        _import_text_classifier,
        "a small model of a text_classifier_torch project",
        "config.py of the project, or its folder",
        labels=False,
    )
    project.add_argument(
        "--checkpoint", metavar="FILE", help="the trained model (default: that of config.py)"
    )
    project.add_argument(
        "--tokens",
        metavar="FILE",
        help="vocabulary of the model (default: token_file of config.py)",
    )
    project.add_argument(
        "--built-vocabulary",
        action="store_true",
        help="say that the run that trained the model also built the vocabulary: unknown tokens "
        "are then read by the row that it trained, not by the one that its later runs read",
    )
    project.add_argument(
        "--write-config",
        metavar="FILE",
        help="write only a config for tfxc train that is equivalent to config.py, and its classes",
    )
