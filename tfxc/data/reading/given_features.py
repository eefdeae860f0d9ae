"""Features in one file that belong to the examples of another."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.kinds import INPUTS, TEXT_AND_FEATURES

if TYPE_CHECKING:
    from tfxc.data.reading.formats.base import Reader


class WithFeatures:
    """Another reader's examples with the rows of a feature file as their features.

    Args:
        reader: the ``Reader``.
        path: see ``FeatureFile``.

    Raises:
        DataError: the file holds no features, or another number of rows than there are examples.

    Example:
        >>> both = WithFeatures(open_reader("texts.txt"), "X.tst.npz")  # doctest: +SKIP
    """

    def __init__(self, reader: "Reader", path: str | Path) -> None:
        from tfxc.data.reading.parsing.feature_file import FeatureFile

        self._reader = reader
        self._file = FeatureFile(path)
        self.num_features = self._file.num_features
        self.num_examples = reader.num_examples
        if self.num_examples is None:  # reading is cheap next to an encoder
            self.num_examples = sum(len(chunk) for chunk in reader.chunks())
        if self.num_examples != self._file.num_examples:
            raise DataError(
                f"there are {self._file.num_examples:,} rows for the {self.num_examples:,} "
                f"examples of {reader.path}",
                where=path,
                fix="give the features of these examples, in their order",
            )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def chunks(self, size: int = 4096) -> Iterator[Chunk]:
        """Yields the reader's ``Chunk``s with their features."""
        rows = self._file.open()
        first = 0
        for chunk in self._reader.chunks(size):
            chunk.features = rows(first, first + len(chunk))
            yield chunk
            first += len(chunk)


def with_features(reader: Any, features: str | None, input_kind: str) -> Any:
    """Returns a reader, with the features of the option ``--features`` next to its examples.

    Args:
        reader: a ``Reader``.
        features: the option, None if it was not given.
        input_kind: what an example is, a name in ``tfxc.data.examples.kinds.INPUTS``.

    Raises:
        ConfigError: features are given, and the model does not take any next to its texts.
        DataError: as ``WithFeatures``.
    """
    if features is None:
        return reader
    if input_kind != TEXT_AND_FEATURES.name:
        raise ConfigError(
            f"the option is for models on {TEXT_AND_FEATURES.description}, but this one is on "
            f"{INPUTS[input_kind].description}",
            where="--features",
            fix="leave it out",
        )
    return WithFeatures(reader, features)
