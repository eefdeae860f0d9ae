"""Make, split and import feature sets: vectors of examples, to train heads on.

    tfxc features extract DATA --run RUN --output features/all
    tfxc features extract DATA --saved-model MODEL --mean 0.5 --std 0.5 --output FOLDER
    tfxc features split features/all --output features --val 0.05 --test 0.05
    tfxc features import features.pt labels.pt --output features/all

"extract" computes vectors with a run's encoder or with any SavedModel. DATA is whatever tfxc reads
(docs/data.md), with one label per example. "split" divides a set into train/, val/ and test/; the
same set, sizes and seed produce the same rows. "import" makes a set from the vectors of another
program: .npy files, or .pt files with one tensor each, as torch.save writes them. PyTorch is not
needed.

After a stop, the same command resumes, and the result has the same bytes. docs/features.md
describes the files.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import MinLen

from tfxc.core.bounds import Count, Natural, NotNegative, Option
from tfxc.core.command_options import given, parse
from tfxc.core.errors import ConfigError, DataError, option_of
from tfxc.core.shared_options import ReaderOptions, TrustOption
from tfxc.core.storage.reading import read_array

if TYPE_CHECKING:
    import numpy as np

    from tfxc.data.examples.rows import Rows
    from tfxc.data.reading.formats.base import Reader


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedModelOptions:
    """How a SavedModel computes vectors.

    Attributes:
        signature: signature to call in the SavedModel; None means serving_default.
        model_output: output of the SavedModel, if it has several.
        image_size: size of the SavedModel's input; None means the model's.
        mean: subtract this mean from the pixels, which go from 0 to 1.
        std: divide the pixels, which go from 0 to 1, by this.
    """

    signature: Annotated[str | None, Option("SIGNATURE")] = None
    model_output: Annotated[str | None, Option("NAME")] = None
    image_size: Annotated[tuple[Count, Count] | None, Option("HEIGHT WIDTH", words=True)] = None
    mean: Annotated[Sequence[float] | None, MinLen(1), Option("MEAN", words=True)] = None
    std: Annotated[Sequence[float] | None, MinLen(1), Option("STD", words=True)] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractOptions(TrustOption, ReaderOptions):
    """Compute vectors by a run or a SavedModel.

    Attributes:
        data: file, folder, shards or builtin:NAME.
        reader: format of DATA; None means by its name.
        reader_options: option of the reader, e.g. catalog=catalog.csv (may be given several times).
        run: run folder whose encoder computes the vectors.
        saved_model: SavedModel that computes the vectors.
        output: folder to write.
        unit_norm: scale vectors to length 1.
        flip: add the vector of its mirror image to each image's vector (with --run).
        dtype: type of the stored values.
        batch_size: examples per batch.
        num_labels: number of labels; None means as in the data.
        label_names: file with one name per line, in the order of the ids.
        of_model: with --saved-model
    """

    data: Annotated[str, Option("DATA", positional=True, remote=True)]
    run: Annotated[str | None, Option("RUN", excludes="encoder!", mirror="reads")] = None
    saved_model: Annotated[str | None, Option("FOLDER", excludes="encoder!")] = None
    output: Annotated[str, Option("FOLDER", mirror="writes")]
    unit_norm: bool = False
    flip: bool = False
    dtype: Literal["float32", "float16"] = "float32"
    batch_size: Count = 256
    num_labels: Count | None = None
    label_names: Annotated[str | None, Option("FILE")] = None
    of_model: SavedModelOptions = dataclasses.field(default_factory=SavedModelOptions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Split a feature set into train/, val/ and test/.

    Attributes:
        features: feature set to split.
        output: folder to write.
        val: number or share of the rows that go into val/.
        test: number or share of the rows that go into test/.
        seed: seed of the order of the rows.
    """

    features: Annotated[str, Option("FOLDER", positional=True)]
    output: Annotated[str, Option("FOLDER", mirror="writes")]
    val: NotNegative = 0.05
    test: NotNegative = 0.05
    seed: Natural = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Import vectors that another program has computed.

    Attributes:
        features: file of vectors, (n, dim).
        labels: file of integer labels, (n,).
        output: folder to write.
        num_labels: number of labels; None means the largest label plus 1.
        label_names: file with one name per line, in the order of the ids.
    """

    features: Annotated[str, Option("VECTORS", positional=True)]
    labels: Annotated[str, Option("LABELS", positional=True)]
    output: Annotated[str, Option("FOLDER", mirror="writes")]
    num_labels: Count | None = None
    label_names: Annotated[str | None, Option("FILE")] = None


Options = {"extract": ExtractOptions, "split": SplitOptions, "import": ImportOptions}


def main(argv: Sequence[str] | None = None) -> int:
    """Makes, splits or imports a feature set."""
    options: object = parse(Options, argv, "features", __doc__)
    if isinstance(options, ExtractOptions):
        _extract(options)
    elif isinstance(options, SplitOptions):
        _split(options)
    elif isinstance(options, ImportOptions):
        _import(options)
    return 0


def _extract(options: ExtractOptions) -> None:
    """Extracts features, or resumes doing so."""
    of_model = options.of_model
    for name in given(of_model):
        if options.run:
            raise ConfigError(
                "this option is for --saved-model, not for --run",
                where=option_of(name),
                fix="leave it out",
            )
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

    reader_options = dict(options.reader_options)
    reader = open_reader(staged(options.data, "DATA"), options.reader, **reader_options)
    encoder: SavedModelEncoder | RunEncoder
    if options.saved_model:
        encoder = SavedModelEncoder(
            options.saved_model,
            signature=of_model.signature or "serving_default",
            output=of_model.model_output,
            image_size=of_model.image_size,
            mean=of_model.mean,
            std=of_model.std,
        )
    else:
        assert options.run is not None, "one of the two is given"
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
        f"{labels.count:,} labels; {count:,} rows encoded by this call"
    )


def _split(options: SplitOptions) -> None:
    """Splits a feature set."""
    from tfxc.data.reading.parsing.feature_set import FeatureSet
    from tfxc.data.store.feature_sets.split import split_features

    features = FeatureSet(options.features)
    sizes = split_features(features, options.output, options.val, options.test, options.seed)
    for name, size in sizes.items():
        if size:
            print(f"{options.output}/{name}: {size:,} rows")


def _import(options: ImportOptions) -> None:
    """Imports two files."""
    from tfxc.data.store.feature_sets.split import import_arrays
    from tfxc.labels.vocabulary import LabelVocabulary

    names = LabelVocabulary.load(options.label_names).names if options.label_names else None
    features = _array(options.features)
    labels = _array(options.labels)
    try:
        count = import_arrays(
            features,
            labels,
            options.output,
            num_labels=options.num_labels,
            label_names=names,
            settings={"from": [options.features, options.labels]},
        )
    except DataError as error:
        files = {"features": options.features, "labels": options.labels}
        where = files.get(str(error.where), error.where)
        raise DataError(error.problem, where=where, fix=error.fix) from error
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
            f"the file contains a {type(tensor).__name__}, not a single tensor",
            where=path,
            fix="save the tensor alone: torch.save(features, file)",
        )
    return tensor.array()
