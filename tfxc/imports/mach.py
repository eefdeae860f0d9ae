"""Models that the original code of MACH has trained, as a run folder."""

import re
from pathlib import Path

import numpy as np

from tfxc.core.config import Config, parse_config
from tfxc.core.errors import DataError
from tfxc.core.storage.reading import read_array
from tfxc.data.examples.kinds import SPARSE
from tfxc.data.reading.parsing.arrays import read_arrays
from tfxc.imports.pecos import read_label_counts
from tfxc.labels.hashing import bucket_lookup
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.model import XCModel, build_model
from tfxc.recipes.repetitions.recipe import Repetitions
from tfxc.runs.writer import RunWriter, manifest_of, new_run, split_of

_WHERE = "The run was imported from MACH and has no data of its own: name a file with --data"
_WEIGHTS = re.compile(r"r_(\d+)_epoch_(\d+)\.npz")
_NAMES = ("W1", "b1", "W2", "b2")
_RIGHT_FILE = "give the files that the original code of MACH has saved"
_RIGHT_LOOKUPS = "give the lookups that these weights were trained with"


def import_mach(
    folder: str | Path,
    output: str | Path,
    *,
    lookups: str | Path,
    query_lookups: str | Path,
    epoch: int | None = None,
    names: str | Path | None = None,
    train_labels: str | Path | None = None,
) -> int:
    """Writes the repetitions of a MACH model as a run of recipe ``repetitions``.

    Args:
        folder: the original ``model_save_loc`` with ``r_0_epoch_10.npz`` and so on.
        output: the run folder; appears as a whole or not at all, an older one is replaced.
        lookups: folder of the labels' hashes, ``bucket_order_0.npy`` and so on.
        query_lookups: folder of the features' hashes, in files of the same names.
        epoch: epoch of the weights to take; None takes the last one that all repetitions have.
        names: file with a label name per line; None numbers them.
        train_labels: file of the training label matrix (``.npz`` or ``.npy``), which shows how
            frequent the labels are; without it there are no propensity-scored metrics and tables.

    Returns:
        Number of repetitions.

    Raises:
        DataError: a file is missing or damaged, they do not fit together, or a hash is not that of
            MurmurHash3 with the repetition's number as its seed.
        UserError: the output holds something else.

    Example:
        >>> import_mach("saved_models/b_20_R_3", "runs/imported", lookups="lookups/b_20",
        ...             query_lookups="lookups/queries")  # doctest: +SKIP
        3

    Reference: https://github.com/Tharun24/MACH
    """
    folder = Path(folder)
    paths = _weights_of(folder, epoch)
    weights = [_read_weights(path) for path in paths]
    shapes = [{name: arrays[name].shape for name in _NAMES} for arrays in weights]
    for path, own_shapes in zip(paths, shapes, strict=True):
        if own_shapes != shapes[0]:
            raise DataError(
                f"the shapes {own_shapes} are not those of {paths[0].name}, {shapes[0]}",
                where=path,
                fix="give the repetitions of one model",
            )
    num_labels = _checked_lookups(lookups, len(paths), len(weights[0]["b2"]), "label")
    num_features = _checked_lookups(query_lookups, len(paths), len(weights[0]["W1"]), "feature")
    config = _config(output, weights)
    vocabulary = LabelVocabulary.of(names, num_labels)
    counts, lengths = read_label_counts(train_labels, num_labels)
    manifest = manifest_of(
        "mach",
        num_labels=num_labels,
        split=split_of(lengths),
        feature_kind=SPARSE.name,
        num_features=num_features,
    )
    with new_run(output) as run:
        run.write_config(config)
        run.write_assets(manifest, vocabulary, counts)
        for number, arrays in enumerate(weights):
            repetition = RunWriter(Repetitions().path_of(run.path, number))
            repetition.mark()
            repetition.write_config(config)
            repetition.write_assets(manifest, vocabulary, counts)
            repetition.save_weights(_model(config, number, num_features, num_labels, arrays))
            repetition.write_summary({"imported": str(paths[number]), "dev": {}})
        run.write_summary({"imported": str(folder), "dev": {}})
    return len(paths)


def _weights_of(folder: Path, epoch: int | None) -> list[Path]:
    """Returns the path of each repetition's weights, of the same epoch."""
    epochs: dict[int, dict[int, Path]] = {}
    for path in folder.glob("r_*_epoch_*.npz"):
        match = _WEIGHTS.fullmatch(path.name)
        if match:
            number, age = map(int, match.groups())
            first = epochs.setdefault(age, {}).setdefault(number, path)
            if first != path:
                raise DataError(
                    f"{first.name} also has repetition {number} of epoch {age}",
                    where=path,
                    fix="remove one of the two",
                )
    count = max((max(paths) + 1 for paths in epochs.values()), default=0)
    complete = sorted(age for age, paths in epochs.items() if len(paths) == count and count)
    if epoch is None and complete:
        epoch = complete[-1]
    if epoch not in complete:
        shown = "E" if epoch is None else epoch
        files = f"r_0_epoch_{shown}.npz to r_{max(count - 1, 0)}_epoch_{shown}.npz"
        raise DataError(
            f"the folder does not have all of the weights {files}",
            where=folder,
            fix="give the folder model_save_loc of the original code, and an epoch that all "
            f"repetitions have: {', '.join(map(str, complete)) or 'there is none'}",
        )
    return [epochs[epoch][number] for number in range(count)]


def _read_weights(path: Path) -> dict[str, np.ndarray]:
    arrays = read_arrays(path)
    missing = [name for name in _NAMES if name not in arrays]
    if missing:
        raise DataError(
            f"the file has no {', '.join(missing)}, it has {', '.join(arrays) or 'no arrays'}",
            where=path,
            fix=_RIGHT_FILE,
        )
    shapes = [arrays[name].shape for name in _NAMES]
    rows, hidden = shapes[0] if len(shapes[0]) == 2 else (0, 0)
    buckets = shapes[2][-1] if len(shapes[2]) == 2 else 0
    if shapes != [(rows, hidden), (hidden,), (hidden, buckets), (buckets,)]:
        raise DataError(
            f"{', '.join(_NAMES)} have the shapes {', '.join(map(str, shapes))} instead of "
            "(F, H), (H), (H, B), (B)",
            where=path,
            fix=_RIGHT_FILE,
        )
    for name in _NAMES:
        floats = arrays[name].dtype.kind == "f"
        if not floats or not np.isfinite(arrays[name]).all():
            raise DataError(
                f"{name} contains {'NaN or infinity' if floats else arrays[name].dtype} instead of "
                "finite floating-point numbers",
                where=path,
                fix=_RIGHT_FILE,
            )
    return arrays


def _config(output: str | Path, weights: list[dict[str, np.ndarray]]) -> Config:
    """Returns the config of the original training, as far as its files show it."""
    num_hashed, hidden = weights[0]["W1"].shape
    num_buckets = weights[0]["W2"].shape[1]
    return parse_config(
        {
            "run": str(output),
            "data": {"name": "mach", "train": "unknown", "where": _WHERE},
            "encoder": {
                "name": "bag_mlp",
                "hidden": [hidden],
                "num_hashed_features": num_hashed,
                "initial_std": 0.05,
            },
            "head": {
                "name": "mach",
                "num_buckets": num_buckets,
                "num_repetitions": len(weights),
                "initial_std": 0.05,
            },
            "objective": {"name": "sigmoid", "reduction": "mean"},
            "recipe": {"name": "repetitions"},
        }
    )


def _checked_lookups(folder: str | Path, count: int, num_buckets: int, item: str) -> int:
    """Returns the number of items of the lookups in a folder, each compared with the formula."""
    sizes = set()
    for number in range(count):
        path = Path(folder) / f"bucket_order_{number}.npy"
        lookup = read_array(path)
        if lookup.ndim != 1 or lookup.dtype.kind not in "iu" or not lookup.size:
            raise DataError(
                f"the array is {lookup.dtype} {lookup.shape} instead of integers ({item}s,)",
                where=path,
                fix=_RIGHT_LOOKUPS,
            )
        sizes.add(lookup.size)
        differs = lookup != bucket_lookup(lookup.size, num_buckets, number)
        if differs.any():
            raise DataError(
                f"the bucket of {item} {int(np.argmax(differs))} is not that of MurmurHash3 with "
                f"seed {number} into {num_buckets:,} buckets",
                where=path,
                fix=_RIGHT_LOOKUPS,
            )
    if len(sizes) > 1:
        raise DataError(
            f"the lookups differ in size: {', '.join(map(str, sorted(sizes)))}",
            where=folder,
            fix="give the lookups of one model",
        )
    return sizes.pop()


def _model(
    config: Config, number: int, num_features: int, num_labels: int, arrays: dict[str, np.ndarray]
) -> XCModel:
    """Returns the network of one repetition."""
    model = build_model(
        config, repetition=number, num_features=num_features, num_labels=num_labels, num_examples=0
    )
    model.encoder.kernels[0].assign(arrays["W1"])
    model.encoder.biases[0].assign(arrays["b1"])
    model.head.kernel.assign(arrays["W2"][None])
    model.head.bias.assign(arrays["b2"][None])
    return model
