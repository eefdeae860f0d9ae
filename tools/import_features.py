"""Import vectors that another program has computed, as a feature set.

    python tools/import_features.py features.pt labels.pt --output features/all

Files are .npy, or .pt with one tensor each, as torch.save writes it. The latter needs PyTorch.
"""

from pathlib import Path

from tfxc.core import cli
from tfxc.core.errors import DataError, UserError


def main(argv=None):
    """Imports two files."""
    options = cli.tool_parser("import_features", __doc__)
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
    found = options.parse_args(argv)
    from tfxc.data.feature_sets.split import import_arrays
    from tfxc.labels.vocabulary import LabelVocabulary

    names = LabelVocabulary.load(found.label_names).names if found.label_names else None
    features, labels = load(found.features), load(found.labels)
    count = import_arrays(
        features, labels, found.output, num_labels=found.num_labels, label_names=names,
        settings={"from": [found.features, found.labels]},
    )  # fmt: skip
    print(f"{found.output}: {count:,} rows")
    return 0


def load(path):
    """The array or tensor of a file, mapped into memory, not read.

    Raises:
        DataError: no such file, or not one array.
        UserError: PyTorch is needed and not installed.
    """
    if not Path(path).is_file():
        raise DataError("no such file", where=path, fix="check the path")
    return _tensor(path) if Path(path).suffix in (".pt", ".pth") else _array(path)


def _array(path):
    import numpy as np

    try:
        array = np.load(path, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"a .npy file expected ({error})", where=path) from error
    if not isinstance(array, np.ndarray):
        raise DataError("a .npy file expected, found several arrays", where=path)
    return array


def _tensor(path):
    try:
        import torch
    except ImportError:
        raise UserError(
            "the package torch, which reads this file, is not installed",
            where=path,
            fix="install torch, or save the tensor with numpy.save as .npy",
        ) from None
    import pickle

    try:
        tensor = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        problem = f"a file of torch.save expected ({str(error).splitlines()[0]})"
        raise DataError(problem, where=path, fix="save the tensor again") from error
    if not isinstance(tensor, torch.Tensor):
        raise DataError(f"one tensor expected, found {type(tensor).__name__}", where=path)
    return tensor.detach()


if __name__ == "__main__":
    cli.run(main)
