"""Make, split and import feature sets: vectors of examples, to train heads on.

    tfxc features extract DATA --run RUN --output features/all
    tfxc features extract DATA --saved-model MODEL --mean 0.5 --std 0.5 --output FOLDER
    tfxc features split features/all --output features --val 0.05 --test 0.05
    tfxc features import features.pt labels.pt --output features/all

"extract" computes vectors by a run's encoder, or by any SavedModel. DATA is whatever tfxc reads
(docs/data.md), with one label per example. "split" makes train/, val/ and test/ of a set; the same
set, sizes and seed produce the same rows. "import" makes a set of the vectors of another program,
.npy files, or .pt with one tensor each, as torch.save writes it; PyTorch is not needed. After a
stop, the same command resumes, and the result has the same bytes. docs/features.md describes the
files.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfxc.core import cli
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.reading import read_array

if TYPE_CHECKING:
    import numpy as np

    from tfxc.data.examples.rows import Rows
    from tfxc.data.reading.formats.base import Reader


def main(argv: Sequence[str] | None = None) -> int:
    """Makes, splits or imports a feature set."""
    options = _parser().parse_args(argv)
    options.work(options)
    return 0


def _extract(options: argparse.Namespace) -> None:
    """Extracts features, or resumes doing so."""
    of_model = ("signature", "model_output", "image_size", "mean", "std")
    if options.run:
        cli.refuse(options, of_model, "this option is for --saved-model, not for --run")
    if options.saved_model and options.flip:
        raise ConfigError(
            "this option is for --run, not for --saved-model", where="--flip", fix="leave it out"
        )
    from tfxc.data.reading.formats import open_reader
    from tfxc.data.reading.source_files import staged
    from tfxc.data.store.feature_sets.encoder import SavedModelEncoder
    from tfxc.data.store.feature_sets.extraction import (
        ExtractionSettings,
        extract_features,
        read_labels,
    )
    from tfxc.labels.vocabulary import LabelVocabulary

    reader_options = dict(options.reader_option)
    reader = open_reader(staged(options.data, "DATA"), options.reader, **reader_options)
    encoder: SavedModelEncoder | RunEncoder
    if options.saved_model:
        encoder = SavedModelEncoder(
            options.saved_model,
            signature=options.signature or "serving_default",
            output=options.model_output,
            image_size=options.image_size,
            mean=options.mean,
            std=options.std,
        )
    else:
        encoder = RunEncoder(options.run, options.flip, options.trust)
    names = LabelVocabulary.load(options.label_names).names if options.label_names else None
    labels = read_labels(reader, options.num_labels, names)
    origin = {"data": options.data, "encoder": options.run or options.saved_model}
    settings = ExtractionSettings(
        options.batch_size, options.dtype, options.unit_norm, {"reader_options": reader_options}
    )
    count = extract_features(reader, encoder, options.output, labels, settings, origin=origin)
    print(
        f"{options.output}: {len(labels.ids):,} rows of {encoder.num_features} values, "
        f"{labels.count:,} labels; {count:,} rows were encoded now"
    )


def _split(options: argparse.Namespace) -> None:
    """Splits a feature set."""
    from tfxc.data.reading.parsing.feature_set import FeatureSet
    from tfxc.data.store.feature_sets.split import split_features

    features = FeatureSet(options.features)
    sizes = split_features(features, options.output, options.val, options.test, options.seed)
    for name, size in sizes.items():
        if size:
            print(f"{options.output}/{name}: {size:,} rows")


def _import(options: argparse.Namespace) -> None:
    """Imports two files."""
    from tfxc.data.store.feature_sets.split import import_arrays
    from tfxc.labels.vocabulary import LabelVocabulary

    names = LabelVocabulary.load(options.label_names).names if options.label_names else None
    features = _array(options.features)
    labels = _array(options.labels)
    count = import_arrays(
        features,
        labels,
        options.output,
        num_labels=options.num_labels,
        label_names=names,
        settings={"from": [options.features, options.labels]},
    )
    print(f"{options.output}: {count:,} rows")


class RunEncoder:
    """The encoder of a trained run, see
    ``tfxc.data.store.feature_sets.extraction.extract_features``.

    Args:
        run: run folder.
        flip: add the vector of the mirror image.
        trust: see ``tfxc.Run``.
    """

    def __init__(self, run: str | Path, flip: bool = False, trust: bool = False) -> None:
        from tfxc.core.storage.reading import checksum
        from tfxc.runs.loaded import load_run
        from tfxc.runs.writer import WEIGHTS

        loaded = load_run(run, trust)
        if flip and not loaded.kind.is_image:
            raise ConfigError("this run does not read images", where="--flip", fix="leave it out")
        self._loaded = loaded
        self._embedder = loaded.embedder("--run", flip)
        encoder = self._embedder.model.encoder
        shape = encoder.compute_output_shape((None, loaded.manifest["num_features"]))
        self.num_features = 1
        for side in shape[1:]:
            self.num_features *= side
        files = sorted(Path(run).glob(f"**/{WEIGHTS}"))
        self.settings = {"encoder_sha256": [checksum(file) for file in files], "flip": flip}

    def rows(self, reader: "Reader", size: int) -> "Iterator[Rows]":
        """Yields the ``Rows`` of a reader's chunks."""
        return self._loaded.rows(reader, size)

    def __call__(self, rows: "Rows") -> "np.ndarray":
        """Returns vectors of ``Rows``."""
        return self._embedder(rows.batch()["features"])


def _array(path: str) -> "np.ndarray":
    """Returns the array of a file, mapped into memory, not read.

    Raises:
        DataError: no such file, or not one array.
    """
    if Path(path).suffix not in (".pt", ".pth"):
        return read_array(path, mapped=True)
    from tfxc.pretrained.torch_files import TorchTensor, load_torch

    tensor = load_torch(path)
    if not isinstance(tensor, TorchTensor):
        raise DataError(
            f"the file holds a {type(tensor).__name__}, not one tensor",
            where=path,
            fix="save the tensor alone: torch.save(features, file)",
        )
    return tensor.array()


def _parser() -> argparse.ArgumentParser:
    options = cli.parser("features", __doc__)
    kinds = options.add_subparsers(metavar="WORK", required=True, title="work")

    def add(
        name: str, work: Callable[[argparse.Namespace], None], help_text: str
    ) -> argparse.ArgumentParser:
        kind = kinds.add_parser(name, help=help_text, description=help_text)
        kind.set_defaults(work=work)
        return kind

    extract = add("extract", _extract, "compute vectors by a run or a SavedModel")
    cli.add_trust_option(extract)
    extract.add_argument("data", metavar="DATA", help="file, folder, shards or builtin:NAME")
    cli.add_reader_options(extract, "format of DATA (default: by its name)", "catalog=catalog.csv")
    encoder = extract.add_mutually_exclusive_group(required=True)
    encoder.add_argument(
        "--run", metavar="RUN", help="run folder whose encoder computes the vectors"
    )
    encoder.add_argument(
        "--saved-model", metavar="FOLDER", help="SavedModel that computes the vectors"
    )
    extract.add_argument("--output", required=True, metavar="FOLDER", help="folder to write")
    extract.add_argument("--unit-norm", action="store_true", help="scale vectors to length 1")
    extract.add_argument(
        "--flip",
        action="store_true",
        help="add to the vector of each image that of its mirror image (with --run)",
    )
    extract.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="type of the stored values (default: float32)",
    )
    extract.add_argument(
        "--batch-size", type=cli.positive, default=256, help="examples per batch (default: 256)"
    )
    extract.add_argument(
        "--num-labels", type=cli.positive, help="number of labels (default: as in the data)"
    )
    extract.add_argument(
        "--label-names", metavar="FILE", help="file with one name per line, in the order of the ids"
    )
    extract.add_argument(
        "--signature", help="signature of the SavedModel (default: serving_default)"
    )
    extract.add_argument(
        "--model-output", metavar="NAME", help="output of the SavedModel, if it has several"
    )
    extract.add_argument(
        "--image-size",
        type=cli.integer,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="size of the SavedModel's input (default: the model's)",
    )
    extract.add_argument(
        "--mean", type=cli.number, nargs="+", help="subtract this mean from pixels from 0 to 1"
    )
    extract.add_argument(
        "--std", type=cli.number, nargs="+", help="divide pixels from 0 to 1 by this"
    )
    split = add("split", _split, "split a feature set into train/, val/ and test/")
    split.add_argument("features", metavar="FOLDER", help="feature set to split")
    split.add_argument("--output", required=True, metavar="FOLDER", help="folder to write")
    for name in ("val", "test"):
        split.add_argument(
            f"--{name}",
            type=cli.number,
            default=0.05,
            help=f"number or share of the rows that go into {name}/ (default: %(default)s)",
        )
    split.add_argument(
        "--seed", type=cli.seed, default=0, help="seed of the order of the rows (default: 0)"
    )
    imported = add("import", _import, "import vectors that another program has computed")
    imported.add_argument("features", help="file of vectors, (n, dim)")
    imported.add_argument("labels", help="file of integer labels, (n,)")
    imported.add_argument("--output", required=True, metavar="FOLDER", help="folder to write")
    imported.add_argument(
        "--num-labels",
        type=cli.positive,
        help="number of labels (default: the largest label plus 1)",
    )
    imported.add_argument(
        "--label-names", metavar="FILE", help="file with one name per line, in the order of the ids"
    )
    return options
