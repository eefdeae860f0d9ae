"""Several runs that answer together, as a file that commands take in place of a run."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from tfxc.core.command_options import refuse
from tfxc.core.errors import DataError
from tfxc.core.storage.files import write_json
from tfxc.core.storage.reading import read_json
from tfxc.decision.fitted import FittedDecision
from tfxc.ranker.fusion.trees import ListTrees

#: The method of an ensemble whose lists are scored by trees.
TREES = "trees"
_FORMAT = 1
_AGAIN = "write it again with tfxc ensemble --output"


def digest_of(names: Sequence[str]) -> str:
    """Returns what tells the names of labels in their order from all others.

    Example:
        >>> digest_of(["a", "b"]) == digest_of(["b", "a"])
        False
    """
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogatepass")).hexdigest()


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class EnsembleFile:
    """Runs over the same labels, how their lists are combined, and what is decided of the result.

    Attributes:
        runs: their folders; the labels' ids are those of the first.
        method, weights: see ``tfxc.ranker.ensemble.combine``.
        top: labels of each run that are combined.
        num_labels: of each run.
        labels: digest of the first run's labels, see ``digest_of``.
        decision: learned of the combined lists.

    Example:
        >>> EnsembleFile.load("both.json").runs      # doctest: +SKIP
        ['runs/one', 'runs/two']
    """

    runs: Sequence[str]
    method: str | ListTrees
    weights: Sequence[float] | None
    top: int
    num_labels: int
    labels: str
    decision: FittedDecision = dataclasses.field(default_factory=FittedDecision)

    @staticmethod
    def is_at(path: str | Path) -> bool:
        """Tells whether a path leads to such a file: where others have the folder of a run."""
        return str(path).endswith(".json") and Path(path).is_file()

    @classmethod
    def in_place_of(
        cls, runs: Sequence[str], options: object, names: Sequence[str]
    ) -> "EnsembleFile | None":
        """Returns the file that a command was given in place of runs; None where these are runs.

        Args:
            runs: what was given.
            options: of the command.
            names: those of its options that the file answers.

        Raises:
            ConfigError: one of them was given, too.
            DataError: as ``load``.
        """
        if len(runs) != 1 or not cls.is_at(runs[0]):
            return None
        refuse(options, names, f"{runs[0]} says how its runs are combined")
        return cls.load(runs[0])

    def check_labels(self, names: Sequence[str], path: str | Path) -> None:
        """Refuses runs that have other labels than when the file was written.

        Args:
            names: of the first run's labels.
            path: of the file.

        Raises:
            DataError: they differ.
        """
        if digest_of(names) != self.labels:
            problem = "its runs had other labels when it was written"
            raise DataError(problem, where=path, fix=_AGAIN)

    def save(self, path: str | Path) -> None:
        """Writes the file; runs are named from its folder, so that all can be moved together."""
        folder = Path(path).parent
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if isinstance(self.method, ListTrees):
            content |= {"method": TREES, "trees": self.method.content()}
        runs = [Path(os.path.relpath(run, folder)).as_posix() for run in self.runs]
        content |= {"format": _FORMAT, "runs": runs, "decision": self.decision.content()}
        write_json(path, content)

    @classmethod
    def load(cls, path: str | Path) -> "EnsembleFile":
        """Reads the file that ``save`` wrote.

        Raises:
            DataError: it is damaged, or another file.
        """
        content = read_json(path, fix=_AGAIN)
        try:
            if content.pop("format") != _FORMAT:
                raise ValueError(f"its format is not {_FORMAT}")
            if not isinstance(content["runs"], list) or len(content["runs"]) < 2:
                raise ValueError("it does not name several runs")
            if not isinstance(content["top"], int):
                raise ValueError("its number of labels is none")
            runs = [os.path.normpath(Path(path).parent / run) for run in content.pop("runs")]
            decision = FittedDecision.of(content.pop("decision"), content["num_labels"])
            if content["method"] == TREES:
                content["method"] = ListTrees.of(
                    content.pop("trees"), len(runs), content["num_labels"]
                )
            return cls(runs=runs, decision=decision, **content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"this is not an ensemble ({error})", where=path, fix=_AGAIN) from error
