"""Models that the original code of MACH has trained, as a run folder."""

import re
from pathlib import Path

import numpy as np

from tfxc.core.config import parse_config
from tfxc.core.errors import DataError
from tfxc.core.storage.reading import read_array
from tfxc.data.kinds import SPARSE
from tfxc.data.parsing.arrays import read_arrays
from tfxc.imports.pecos import read_label_counts
from tfxc.labels.hashing import bucket_lookup
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.model import build_model
from tfxc.recipes.repetitions.recipe import Repetitions
from tfxc.runs.writer import RunWriter, manifest_of, new_run, split_of

_WHERE = "The run was imported from MACH and has no data of its own: name a file with --data"
_WEIGHTS = re.compile(r"r_(\d+)_epoch_(\d+)\.npz")
_NAMES = ("W1", "b1", "W2", "b2")


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
    _check_same_shapes(paths, weights)
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
            one = RunWriter(Repetitions().path_of(run.path, number))
            one.mark()
            one.write_config(config)
            one.write_assets(manifest, vocabulary, counts)
            one.save_weights(_model(config, number, num_features, num_labels, arrays))
            one.write_summary({"imported": str(paths[number]), "dev": {}})
        run.write_summary({"imported": str(folder), "dev": {}})
    return len(paths)


def _weights_of(folder, epoch):
    """Path of each repetition's weights, of the same epoch."""
    found: dict[int, dict[int, Path]] = {}
    for path in folder.glob("r_*_epoch_*.npz"):
        match = _WEIGHTS.fullmatch(path.name)
        if match:
            one, number = int(match[2]), int(match[1])
            other = found.setdefault(one, {}).setdefault(number, path)
            if other != path:
                raise DataError(
                    f"one file for repetition {number} and epoch {one} expected, found also "
                    f"{other.name}",
                    where=path,
                    fix="remove one of the two",
                )
    count = max((max(paths) + 1 for paths in found.values()), default=0)
    complete = [one for one, paths in found.items() if len(paths) == count and count]
    if epoch is None and complete:
        epoch = max(complete)
    if epoch not in complete:
        wanted = "an epoch" if epoch is None else f"epoch {epoch}"
        raise DataError(
            f"weights r_0_epoch_E.npz to r_{max(count - 1, 0)}_epoch_E.npz of {wanted} expected, "
            f"found epochs {', '.join(map(str, sorted(complete))) or 'none'} with all of them",
            where=folder,
            fix="give the folder model_save_loc of the original code, and one of these epochs",
        )
    return [found[epoch][number] for number in range(count)]


def _read_weights(path):
    arrays = read_arrays(path)
    missing = [name for name in _NAMES if name not in arrays]
    if missing:
        raise DataError(
            f"arrays {', '.join(_NAMES)} expected, found {', '.join(arrays) or 'none'}",
            where=path,
            fix="give the files that the original code of MACH has saved",
        )
    shapes = [arrays[name].shape for name in _NAMES]
    rows, hidden = shapes[0] if len(shapes[0]) == 2 else (0, 0)
    buckets = shapes[2][-1] if len(shapes[2]) == 2 else 0
    if shapes != [(rows, hidden), (hidden,), (hidden, buckets), (buckets,)]:
        raise DataError(
            f"W1 (F, H), b1 (H), W2 (H, B), b2 (B) expected, found {', '.join(map(str, shapes))}",
            where=path,
            fix="give the files that the original code of MACH has saved",
        )
    for name in _NAMES:
        if arrays[name].dtype.kind != "f" or not np.isfinite(arrays[name]).all():
            raise DataError(
                f"{name} of finite floating-point numbers expected, found "
                f"{'NaN or infinity' if arrays[name].dtype.kind == 'f' else arrays[name].dtype}",
                where=path,
                fix="give the files that the original code of MACH has saved",
            )
    return arrays


def _check_same_shapes(paths, weights):
    shapes = [{name: arrays[name].shape for name in _NAMES} for arrays in weights]
    for path, found in zip(paths, shapes, strict=True):
        if found != shapes[0]:
            raise DataError(
                f"the shapes of {paths[0].name} expected, {shapes[0]}, found {found}",
                where=path,
                fix="give the repetitions of one model",
            )


def _config(output, weights):
    """The config of the original training, as far as its files show it."""
    (num_hashed, hidden), (_, num_buckets) = weights[0]["W1"].shape, weights[0]["W2"].shape
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


def _checked_lookups(folder, count, num_buckets, what):
    """Number of items of the lookups in a folder, each compared with the formula."""
    sizes = set()
    for number in range(count):
        path = Path(folder) / f"bucket_order_{number}.npy"
        lookup = read_array(path)
        if lookup.ndim != 1 or lookup.dtype.kind not in "iu" or not lookup.size:
            raise DataError(
                f"integers ({what}s,) expected, found {lookup.dtype} {lookup.shape}",
                where=path,
                fix="give the lookups that these weights were trained with",
            )
        sizes.add(lookup.size)
        own = bucket_lookup(lookup.size, num_buckets, number)
        if (lookup != own).any():
            wrong = int(np.argmax(lookup != own))
            raise DataError(
                f"the bucket of each {what} by MurmurHash3 with seed {number} into {num_buckets:,} "
                f"buckets expected, found another at {what} {wrong}",
                where=path,
                fix="give the lookups that these weights were trained with",
            )
    if len(sizes) > 1:
        raise DataError(
            f"lookups of one size expected, found {', '.join(map(str, sorted(sizes)))}",
            where=folder,
            fix="give the lookups of one model",
        )
    return sizes.pop()


def _model(config, number, num_features, num_labels, arrays):
    """The network of one repetition."""
    sizes = {"num_features": num_features, "num_labels": num_labels, "num_examples": 0}
    model = build_model(config, **sizes, repetition=number)
    model.encoder.kernels[0].assign(arrays["W1"])
    model.encoder.biases[0].assign(arrays["b1"])
    model.head.kernel.assign(arrays["W2"][None])
    model.head.bias.assign(arrays["b2"][None])
    return model
