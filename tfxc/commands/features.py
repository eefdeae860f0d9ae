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

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core import cli
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.reading import read_array

if TYPE_CHECKING:
    import numpy as np

    from tfxc.data.formats.base import Reader
    from tfxc.data.rows import Rows


def main(argv: Sequence[str] | None = None) -> int:
    """Makes, splits or imports a feature set."""
    options = _parser().parse_args(argv)
    options.work(options)
    return 0


def _extract(found):
    """Extracts features, or resumes doing so."""
    _check(found)
    from tfxc.data.feature_sets.extraction import (
        ExtractionSettings,
        extract_features,
        read_labels,
    )
    from tfxc.data.formats import open_reader
    from tfxc.data.source_files import staged
    from tfxc.labels.vocabulary import LabelVocabulary

    options = dict(found.reader_option)
    reader = open_reader(staged(found.data, "DATA"), found.reader, **options)
    encoder = (
        _saved_model(found) if found.saved_model else RunEncoder(found.run, found.flip, found.trust)
    )
    names = LabelVocabulary.load(found.label_names).names if found.label_names else None
    labels = read_labels(reader, found.num_labels, names)
    origin = {"data": found.data, "encoder": found.run or found.saved_model}
    settings = ExtractionSettings(
        found.batch_size, found.dtype, found.unit_norm, {"reader_options": options}
    )
    count = extract_features(reader, encoder, found.output, labels, settings, origin=origin)
    print(
        f"{found.output}: {len(labels.ids):,} rows of {encoder.num_features} values, "
        f"{labels.count:,} labels; {count:,} rows were encoded now"
    )


def _split(found):
    """Splits a feature set."""
    from tfxc.data.feature_sets.feature_set import FeatureSet
    from tfxc.data.feature_sets.split import split_features

    features = FeatureSet(found.features)
    sizes = split_features(features, found.output, found.val, found.test, found.seed)
    for name, size in sizes.items():
        if size:
            print(f"{found.output}/{name}: {size:,} rows")


def _import(found):
    """Imports two files."""
    from tfxc.data.feature_sets.split import import_arrays
    from tfxc.labels.vocabulary import LabelVocabulary

    names = LabelVocabulary.load(found.label_names).names if found.label_names else None
    features, labels = _array(found.features), _array(found.labels)
    count = import_arrays(
        features, labels, found.output, num_labels=found.num_labels, label_names=names,
        settings={"from": [found.features, found.labels]},
    )  # fmt: skip
    print(f"{found.output}: {count:,} rows")


class RunEncoder:
    """The encoder of a trained run, see ``tfxc.data.feature_sets.extraction.extract_features``.

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
            raise ConfigError(
                "a run on images expected, found another one", where="--flip", fix="leave it out"
            )
        self._loaded, self._embedder = loaded, loaded.embedder("--run", flip)
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

    def __call__(self, rows: "Rows") -> Any:
        """Vectors of ``Rows``."""
        return self._embedder(rows.batch()["features"])


def _saved_model(found):
    from tfxc.data.feature_sets.encoder import SavedModelEncoder

    return SavedModelEncoder(
        found.saved_model, signature=found.signature or "serving_default",
        output=found.model_output, image_size=found.image_size, mean=found.mean, std=found.std,
    )  # fmt: skip


def _check(found):
    of_model = ("signature", "model_output", "image_size", "mean", "std")
    for name in of_model:
        if found.run and getattr(found, name) is not None:
            raise ConfigError(
                "--saved-model expected with this option, found --run",
                where=cli.option_of(name),
                fix="leave it out",
            )
    if found.saved_model and found.flip:
        raise ConfigError(
            "--run expected with this option, found none", where="--flip", fix="leave it out"
        )


def _array(path: str) -> "np.ndarray":
    """The array of a file, mapped into memory, not read.

    Raises:
        DataError: no such file, or not one array.
    """
    if Path(path).suffix not in (".pt", ".pth"):
        return read_array(path, mapped=True)
    from tfxc.pretrained.torch_files import TorchTensor, load_torch

    tensor = load_torch(path)
    if not isinstance(tensor, TorchTensor):
        raise DataError(
            f"one tensor expected, found {type(tensor).__name__}",
            where=path,
            fix="save the tensor alone: torch.save(features, file)",
        )
    return tensor.array()


def _parser():
    options = cli.parser("features", __doc__)
    kinds = options.add_subparsers(metavar="WORK", required=True, title="work")

    def add(name, work, help_text):
        kind = kinds.add_parser(name, help=help_text, description=help_text)
        kind.set_defaults(work=work)
        return kind

    _add_extract_options(add("extract", _extract, "vectors by a run's encoder, or a SavedModel"))
    _add_split_options(add("split", _split, "train/, val/ and test/ of a feature set"))
    _add_import_options(add("import", _import, "vectors that another program has computed"))
    return options


def _add_extract_options(options):
    cli.add_trust_option(options)
    options.add_argument("data", metavar="DATA", help="file, folder, shards or builtin:NAME")
    cli.add_reader_options(options, "format of DATA (default: by its name)", "catalog=catalog.csv")
    encoder = options.add_mutually_exclusive_group(required=True)
    encoder.add_argument(
        "--run", metavar="RUN", help="run folder whose encoder computes the vectors"
    )
    encoder.add_argument(
        "--saved-model", metavar="FOLDER", help="SavedModel that computes the vectors"
    )
    options.add_argument("--output", required=True, metavar="FOLDER", help="folder to write")
    options.add_argument("--unit-norm", action="store_true", help="scale vectors to length 1")
    options.add_argument(
        "--flip", action="store_true", help="add the vectors of the mirror images (--run)"
    )
    options.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="type of the stored values (default: float32)",
    )
    options.add_argument(
        "--batch-size", type=cli.positive, default=256, help="examples per batch (default: 256)"
    )
    options.add_argument(
        "--num-labels", type=cli.positive, help="number of labels (default: as in the data)"
    )
    options.add_argument(
        "--label-names", metavar="FILE", help="file with one name per line, in the order of the ids"
    )
    _add_model_options(options)


def _add_model_options(options):
    """Options of ``--saved-model``."""
    options.add_argument(
        "--signature", help="signature of the SavedModel (default: serving_default)"
    )
    options.add_argument(
        "--model-output", metavar="NAME", help="output of the SavedModel, if it has several"
    )
    options.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="size of the SavedModel's input (default: the model's)",
    )
    options.add_argument(
        "--mean", type=cli.number, nargs="+", help="mean to subtract, of pixels from 0 to 1"
    )
    options.add_argument("--std", type=cli.number, nargs="+", help="divisor, of pixels from 0 to 1")


def _add_split_options(options):
    options.add_argument("features", metavar="FOLDER", help="feature set")
    options.add_argument("--output", required=True, metavar="FOLDER", help="folder to write")
    for name in ("val", "test"):
        options.add_argument(
            f"--{name}",
            type=cli.number,
            default=0.05,
            help="number or share of the rows (default: %(default)s)",
        )
    options.add_argument("--seed", type=cli.seed, default=0, help="seed of the order (default: 0)")


def _add_import_options(options):
    options.add_argument("features", help="file of vectors, (n, dim)")
    options.add_argument("labels", help="file of integer labels, (n,)")
    options.add_argument("--output", required=True, metavar="FOLDER", help="folder to write")
    options.add_argument(
        "--num-labels",
        type=cli.positive,
        help="number of labels (default: the largest label plus 1)",
    )
    options.add_argument(
        "--label-names", metavar="FILE", help="file with one name per line, in the order of the ids"
    )
