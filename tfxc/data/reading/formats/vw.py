"""The text format of Vowpal Wabbit, as far as it describes labels and features."""

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

from tfxc.core.declared import Count, Natural
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.reading.formats.base import NONE_GIVEN
from tfxc.data.reading.formats.svmlight import SVMLight
from tfxc.data.reading.parsing.column_guess import Wanted
from tfxc.data.reading.parsing.path_probe import PathProbe

# Values that names of features are hashed to where nothing is said, as Vowpal Wabbit does; lines
# that are looked at to find out.
_HASHED = 1 << 18
_LINES = 20_000
_NAMESPACE = re.compile(rb"\S*")
_WITHOUT_VALUE = re.compile(rb"(?:^|(?<=\s))([^\s:]+)(?=\s|$)")


class VowpalWabbit(SVMLight):
    """Reads ``label |namespace feature:value feature ...`` lines, as those of ODP and ImageNet.

    Labels are integers, several of them separated by commas, none before the bar for an example
    without labels. A feature without a value has 1. Features are ids, or any names if they are
    hashed; then those that collide add up. Blank lines and lines that begin with ``#`` are skipped.
    An importance, a tag, a weight of a namespace and a second namespace are refused, as they would
    mean something that is not kept.

    Unless ``num_features`` is given, the constructor reads the file once to find it (and
    ``num_examples``). Each split of a data set should be given the same number.

    Args:
        path: ``.vw`` file, perhaps compressed; files of other names by ``reader: "vw"``.
        label_base: the lowest label, which becomes label id 0.
        first_feature: the lowest feature id, 0 or 1.
        num_features: number of features; None takes as many as the highest id needs. Like
            ``first_feature`` only for features that are ids.
        num_hashed_features: number of values that the names of features are hashed to, by
            MurmurHash3 (not the one of Vowpal Wabbit's hashes); None reads them as ids.
        max_line_bytes: longest line.

    Raises:
        ConfigError: an argument out of range.
        DataError: naming file and line: a label or feature that cannot be read, an id out of
            range, a feature given twice, a value that is NaN or infinite, or one of the refused.

    Example:
        >>> reader = VowpalWabbit("odp_train.vw.gz", num_features=422_713)    # doctest: +SKIP
        >>> next(reader.chunks(100)).features.shape                          # doctest: +SKIP
        (100, 422713)

    Reference: https://github.com/VowpalWabbit/vowpal_wabbit/wiki/Input-format
    """

    suffixes = (".vw",)
    summary = ".vw"

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        return probe.suffix(cls.compressed) in cls.suffixes

    @classmethod
    def options_of(
        cls,
        path: Path,
        wanted: Wanted,
        split: str | None = None,
        given: Mapping[str, Any] = NONE_GIVEN,
    ) -> dict[str, Any]:
        """Returns the lowest label, and whether features are names, by the first lines."""
        super(SVMLight, cls).options_of(path, wanted)
        lowest = 1
        named = False
        lines = cls(path, num_hashed_features=_HASHED)._numbered_lines()
        for _, line in itertools.islice(lines, _LINES):
            head, _, tail = line.partition(b"|")
            labels = head.split()[:1]
            lowest = min([lowest, *(int(x) for x in b",".join(labels).split(b",") if x.isdigit())])
            pairs = _NAMESPACE.sub(b"", tail, count=1).split()
            named = named or not all(pair.partition(b":")[0].isdigit() for pair in pairs)
        options = {} if lowest else {"label_base": 0}
        if named:
            return options | {"num_hashed_features": _HASHED}
        return options | {"num_features": cls(path, **options).num_features}

    def __init__(
        self,
        path: str | Path,
        *,
        label_base: Natural = 1,
        first_feature: Annotated[int, Ge(0), Le(1)] = 0,
        num_features: Count | None = None,
        num_hashed_features: Count | None = None,
        max_line_bytes: Count = MAX_LINE_BYTES,
    ) -> None:
        for name, value in (("num_features", num_features), ("first_feature", first_feature)):
            if num_hashed_features and value:
                raise ConfigError(
                    "num_hashed_features says that features are names, not ids",
                    where=name,
                    fix=f"remove {name} or num_hashed_features",
                )
        self._label_base = label_base
        self._hashed = num_hashed_features
        super().__init__(
            path,
            zero_based=bool(num_hashed_features) or not first_feature,
            num_features=num_hashed_features or num_features,
            max_line_bytes=max_line_bytes,
        )

    def _labels_are_signs(self) -> bool:
        return False  # they count from label_base

    def _example_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yields the lines as svmlight has them."""
        namespace = None
        for number, line in self._numbered_lines():
            where = f"{self.path}:{number}"
            head, bar, tail = line.partition(b"|")
            if not bar:
                raise _error(where, "there is no bar (|) in front of the features", line)
            namespace_match = _NAMESPACE.match(tail)
            assert namespace_match is not None, "it matches nothing, too"
            name = namespace_match[0]
            features = tail[len(name) :]
            namespace = name if namespace is None else namespace
            if b"|" in features or name != namespace or b":" in name:
                problem = "there is not one namespace, the same in each line, without a weight"
                raise _error(where, problem, tail)
            pairs = _WITHOUT_VALUE.sub(rb"\1:1", features)
            if self._hashed:
                pairs = self._hash(pairs, where)
            yield number, self._labels(head, where) + b" " + pairs

    def _numbered_lines(self) -> Iterator[tuple[int, bytes]]:
        for first, lines in self._lines.blocks(4096):
            for number, line in enumerate(lines, start=first):
                if line.strip() and not line.startswith(b"#"):  # names may hold a #
                    yield number, line

    def _labels(self, head: bytes, where: str) -> bytes:
        tokens = head.split()
        if not tokens:
            return b""
        labels = tokens[0].split(b",")
        if len(tokens) > 1 or not all(label.isdigit() and len(label) < 11 for label in labels):
            problem = "what is in front of | is not labels alone, integers separated by commas"
            raise _error(where, problem, head)
        ids = [int(label) - self._label_base for label in labels]
        if min(ids) < 0:
            lowest = min(ids) + self._label_base
            raise DataError(
                f"the label {lowest} is below {self._label_base}",
                where=where,
                fix="set the reader's option label_base to the lowest label",
            )
        return b",".join(b"%d" % label for label in ids)

    def _hash(self, pairs: bytes, where: str) -> bytes:
        from sklearn.utils import murmurhash3_32

        sums: dict[int, float] = {}
        for pair in pairs.split():
            name, _, value = pair.rpartition(b":")
            place = murmurhash3_32(name, positive=True) % self._hashed
            try:
                if b"_" in value:  # Python's own digits, such as 1_000
                    raise ValueError
                sums[place] = sums.get(place, 0.0) + float(value)
            except ValueError:
                raise _error(where, "a feature is not name:value", pair) from None
        return b" ".join(b"%d:%r" % pair for pair in sums.items())


def _error(where: str, problem: str, text: bytes) -> DataError:
    return DataError(
        f"{problem}: {text[:60].decode('utf-8', 'replace').strip()!r}",
        where=where,
        fix="write lines as label |namespace feature:value feature",
    )
