"""Import vectors that another program has computed, as a feature set.

    python tools/import_features.py features.pt labels.pt --output features/all

Files are .npy, or .pt with one tensor each, as torch.save writes it; PyTorch is not needed.
"""

from pathlib import Path

from tfxc.core import cli
from tfxc.core.errors import DataError
from tfxc.core.storage.reading import read_array


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


if __name__ == "__main__":
    cli.run(main)
