"""Turn another system's model into a run, or its parameters into a config.

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

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

from tfxc.core.bounds import Count, Option
from tfxc.core.command_options import parse
from tfxc.core.shared_options import OptionalConfigOptions
from tfxc.data.reading.inspection.completion import load_config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imported:
    """Options of every kind of model.

    Attributes:
        path: what is imported.
        run: the run folder to write.
    """

    path: Annotated[str, Option("PATH", positional=True)]
    run: Annotated[str, Option("RUN", mirror="reads")]

    def write(self) -> str:
        """Writes the run; returns what to print."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled(Imported):
    """Options of the kinds whose files have no names of labels.

    Attributes:
        labels: file with one label name per line; None means numbers from 0.
    """

    labels: Annotated[str | None, Option("FILE")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counted(Labelled):
    """Options of the kinds that have a table of labels.

    Attributes:
        train_labels: matrix of the training labels (.npz), which gives the label frequencies for
            tables and propensity-scored metrics.
    """

    train_labels: Annotated[str | None, Option("FILE")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pecos(Counted):
    """An XR-Linear or XR-Transformer model of PECOS.

    Attributes:
        path: what pecos.xmc.xlinear.train or pecos.xmc.xtransformer.train wrote.
        vectorizer: the PECOS vectoriser of the model's texts.
    """

    vectorizer: Annotated[str | None, Option("FOLDER")] = None

    def write(self) -> str:
        """Writes the run; returns what to print."""
        from tfxc.imports.pecos import import_run, is_transformer

        arguments = {
            "names": self.labels,
            "vectorizer": self.vectorizer,
            "train_labels": self.train_labels,
        }
        if is_transformer(self.path):
            from tfxc.imports.pecos_transformer import import_transformer

            return f"{self.run}: {import_transformer(self.path, self.run, **arguments)}"
        tree = import_run(self.path, self.run, **arguments)
        return f"{self.run}: layers of {', '.join(f'{size:,}' for size in tree.sizes)} nodes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mach(Counted):
    """A model of the original MACH code.

    Attributes:
        path: the folder model_save_loc: r_0_epoch_10.npz and so on.
        lookups: the labels' hashes, bucket_order_0.npy and so on.
        query_lookups: the features' hashes, in files of the same names.
        epoch: epoch whose weights to import; None means the last complete one.
    """

    lookups: Annotated[str, Option("FOLDER")]
    query_lookups: Annotated[str, Option("FOLDER")]
    epoch: Annotated[Count | None, Option("E")] = None

    def write(self) -> str:
        """Writes the run; returns what to print."""
        from tfxc.imports.mach import import_mach

        count = import_mach(
            self.path,
            self.run,
            names=self.labels,
            lookups=self.lookups,
            query_lookups=self.query_lookups,
            epoch=self.epoch,
            train_labels=self.train_labels,
        )
        return f"{self.run}: {count} repetitions"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PecosParams(Imported):
    """Parameters of PECOS as a config.

    Attributes:
        path: the JSON file for --params-path of pecos.xmc.xlinear.train or
            pecos.xmc.xtransformer.train.
        write_config: the config to write, without data.
        gpus: number of GPUs of the PECOS run, whose batch size is that of one GPU.
    """

    write_config: Annotated[str, Option("FILE")]
    gpus: Count = 1

    def write(self) -> str:
        """Converts the parameters; returns what has no equivalent."""
        from tfxc.core.config import parse_config
        from tfxc.core.errors import inside
        from tfxc.core.escaping import json_text
        from tfxc.core.storage.files import atomic_file
        from tfxc.recipes.xr_transformer.pecos_params import convert_params

        config, notes = convert_params(self.path, self.gpus)
        config = {"run": self.run, **config}
        data = {"name": "data", "train": "train", **config.get("data", {})}
        with inside(self.path):
            parse_config({**config, "data": data})  # refuses what cannot be
        with atomic_file(self.write_config) as stream:
            stream.write(json_text(config, indent=2) + "\n")
        text = f"{self.write_config}: the settings of {self.path}; add data, or name it in extends"
        return "\n".join([*notes, text])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scent(Labelled, OptionalConfigOptions):
    """A linear classifier of SCENT.

    Attributes:
        path: a checkpoint, epoch_50.pt, or the folder checkpoints.
        epoch: epoch whose weights to import; None means the last complete one.
    """

    epoch: Annotated[Count | None, Option("E")] = None

    def write(self) -> str:
        """Writes the run; returns what to print."""
        from tfxc.imports.scent import import_scent

        arguments: dict[str, Any] = {"names": self.labels, "epoch": self.epoch}
        if self.config is not None:
            from tfxc.commands.train import check_config
            from tfxc.data.store.preparation import ensure_prepared

            config = load_config(self.config, [*self.set, f"run={self.run}"])
            check_config(config)
            arguments |= {
                "config": config,
                "data_folder": ensure_prepared(config.data, self.prepared),
            }
        classifier = import_scent(self.path, self.run, **arguments)
        text = f"{self.run}: {classifier.kernel.shape[0]:,} labels after {classifier.epoch} epochs"
        if self.config is None:
            return text
        return f"{text}; tfxc train --config {self.run}/config.json resumes from there"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Insightface(Labelled):
    """An IResNet of InsightFace's arcface_torch, or of MHE.

    Attributes:
        path: backbone.pth or model.pt.
        centres: class centres: a folder with checkpoint_gpu_R.pt, softmax_fc_gpu_R.pt or
            rank_R_softmax_weight.pt of each rank R, or one such file with all of them; None means
            none, so that the run has no labels.
    """

    centres: Annotated[str | None, Option("FOLDER")] = None

    def write(self) -> str:
        """Writes the run; returns what to print."""
        from tfxc.imports.insightface import import_insightface

        text = import_insightface(self.path, self.run, names=self.labels, centres=self.centres)
        return f"{self.run}: {text}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Torchvision(Labelled):
    """A ResNet of torchvision.

    Attributes:
        path: its state dict, e.g. resnet50-0676ba61.pth.
        image_size: height and width of the images; None means 224, or 32 if the first convolution
            is 3 x 3.
    """

    image_size: Count | None = None

    def write(self) -> str:
        """Writes the run; returns what to print."""
        from tfxc.imports.torchvision import import_torchvision

        text = import_torchvision(
            self.path, self.run, names=self.labels, image_size=self.image_size
        )
        return f"{self.run}: {text}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mhe(Labelled):
    """A text classifier of the code of MHE.

    Attributes:
        path: models/model-eurlex4k.bin.
        pretrained: folder of the language model that was fine-tuned: config.json and tokeniser.
        max_length: read at most this many subwords of a text; None means 512.
        beam: number of groups whose labels are scored for each text; None means 10.
    """

    pretrained: Annotated[str, Option("FOLDER")]
    max_length: Count | None = None
    beam: Annotated[Count | None, Option("K")] = None

    def write(self) -> str:
        """Writes the run; returns what to print."""
        from tfxc.imports.mhe import import_mhe

        sizes = {"max_length": self.max_length, "beam": self.beam}
        given = {name: size for name, size in sizes.items() if size is not None}
        text = import_mhe(self.path, self.run, names=self.labels, folder=self.pretrained, **given)
        return f"{self.run}: {text}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextClassifier(Imported):
    """A small model of a text_classifier_torch project.

    Attributes:
        path: config.py of the project, or its folder.
        checkpoint: the trained model; None means the one that config.py names.
        tokens: vocabulary of the model; None means token_file in config.py.
        built_vocabulary: state that the run that trained the model also built the vocabulary;
            unknown tokens are then read by the row that this run trained, not by the one that later
            runs read.
        write_config: write only a config for tfxc train that is equivalent to config.py, together
            with its classes.
    """

    checkpoint: Annotated[str | None, Option("FILE")] = None
    tokens: Annotated[str | None, Option("FILE")] = None
    built_vocabulary: bool = False
    write_config: Annotated[str | None, Option("FILE")] = None

    def write(self) -> str:
        """Writes the run or the config; returns what to print."""
        from tfxc.imports.text_classifier import run as importer

        if self.write_config:
            project: Any = importer.write_config(self.path, self.write_config, self.run)
            text = f"{self.write_config}: the config of {self.path}, for tfxc train"
        else:
            project = importer.import_text_classifier(
                self.path,
                self.run,
                checkpoint=self.checkpoint,
                token_file=self.tokens,
                built_vocabulary=self.built_vocabulary,
            )
            text = (
                f"{self.run}: {project.model_type}, {project.num_labels:,} labels, "
                f"{project.num_tokens:,} tokens"
            )
        return "\n".join([*(f"no equivalent: {line}" for line in project.without_equivalent), text])


Options: dict[str, type[Imported]] = {
    "pecos": Pecos,
    "mach": Mach,
    "pecos_params": PecosParams,
    "scent": Scent,
    "insightface": Insightface,
    "torchvision": Torchvision,
    "mhe": Mhe,
    "text_classifier": TextClassifier,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Imports one model."""
    print(parse(Options, argv, "import", __doc__).write())
    return 0
