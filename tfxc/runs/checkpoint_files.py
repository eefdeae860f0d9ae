"""The files of a checkpoint, checked before they are read."""

import functools
import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.errors import CheckpointError
from tfxc.core.storage.files import write_json
from tfxc.core.storage.reading import checksum, read_json

if TYPE_CHECKING:
    import tensorflow as tf

    from tfxc.model import XCModel


_TABLES = ".tables"


class CheckpointFiles:
    """TensorFlow's files ``PREFIX-STEP.*`` of some variables, with ``PREFIX-STEP.json``.

    Large variables are in ``PREFIX-STEP.tables.*``, in slices: each is read in pieces, where
    TensorFlow would hold it twice.

    Args:
        folder: where they are.
        prefix: first part of their names.
        variables: list of ``tf.Variable``s; left out where files are only looked at.
    """

    def __init__(self, folder: Path, prefix: str, variables: "Sequence[tf.Variable]" = ()) -> None:
        self.folder = folder
        self.prefix = prefix
        self._variables = list(variables)

    @functools.cached_property
    def checkpoint(self) -> "tf.train.Checkpoint":
        """TensorFlow's own, of what is not large."""
        import tensorflow as tf

        large = self._tables
        small = {
            str(place): variable
            for place, variable in enumerate(self._variables)
            if _name(place) not in large
        }
        return tf.train.Checkpoint(variables=small)

    @functools.cached_property
    def _tables(self) -> "dict[str, tf.Variable]":
        """The large variables by name."""
        from tfxc.ops.tables.saved_tables import is_large

        named = {_name(place): variable for place, variable in enumerate(self._variables)}
        return {name: variable for name, variable in named.items() if is_large(variable)}

    def save(self, step: int, **more: object) -> None:
        """Writes the variables' files, then the one that says what they are.

        Args:
            more: JSON values that ``content`` returns.
        """
        self.remove(step)
        path = self._path(step)
        self.checkpoint.write(str(path))
        if self._tables:
            from tfxc.ops.tables.saved_tables import write_tables

            write_tables(f"{path}{_TABLES}", self._tables)
        files = {
            file.name: {"size": file.stat().st_size, "sha256": checksum(file)}
            for file in sorted(self.folder.glob(f"{path.name}.*"))
        }
        content = {"step": step, **more, "files": files}
        # Its digest is of these values: NaN, which would become null, is refused by ``_hash``.
        write_json(f"{path}.json", {**content, "sha256": _hash(content)})

    def restore(self, step: int) -> None:
        """Reads the variables."""
        status = self.checkpoint.read(str(self._path(step)))
        status.assert_existing_objects_matched().assert_consumed()
        from tfxc.ops.tables.saved_tables import read_tables, table_shapes

        others = table_shapes(f"{self._path(step)}{_TABLES}").keys() - self._tables.keys()
        if others:
            raise ValueError(
                f"the checkpoint has {len(others)} more large variables than the model"
            )
        read_tables(f"{self._path(step)}{_TABLES}", self._tables)

    def shapes(self, step: int) -> dict[int, list[int]]:
        """Returns shapes of the variables of a step, by their places.

        Raises:
            ValueError, tf.errors.OpError: the files cannot be read.
        """
        import tensorflow as tf

        from tfxc.ops.tables.saved_tables import table_shapes

        path = str(self._path(step))
        small = tf.train.load_checkpoint(path).get_variable_to_shape_map()
        shapes = {**small, **table_shapes(f"{path}{_TABLES}")}
        places = ((re.fullmatch(_name(r"(\d+)"), name), shape) for name, shape in shapes.items())
        return {int(place[1]): shape for place, shape in places if place}

    def load_weights(self, step: int, model: "XCModel") -> None:
        """Gives a model the weights that the training would have ended with at a step.

        Args:
            model: a built ``XCModel``.

        Raises:
            CheckpointError: the files are damaged, or are not of such a model.
        """
        import tensorflow as tf

        from tfxc.ops.tables.saved_tables import is_large, read_tables

        path = self._path(step)
        problem = self.problem(step)
        if problem:
            raise CheckpointError(problem, where=path, fix="evaluate another step")
        places = (self.content(step) or {}).get("progress", {}).get("weights")
        if places is None:
            raise CheckpointError(
                "the weights of this checkpoint are sharded over replicas",
                where=path,
                fix="evaluate the finished run",
            )
        shapes = self.shapes(step)
        variables = [variable.value for variable in model.variables]
        if [shapes.get(place) for place in places] != [v.shape.as_list() for v in variables]:
            raise CheckpointError(
                "does not contain this model's variables",
                where=path,
                fix="restore the run's own config.json",
            )
        values = tf.train.load_checkpoint(str(path))
        tables = {}
        for variable, place in zip(variables, places, strict=True):
            if is_large(variable):
                tables[_name(place)] = variable
            else:
                variable.assign(values.get_tensor(_name(place)))
        read_tables(f"{path}{_TABLES}", tables)

    def finished(self, step: int) -> bool:
        """Tells whether all files of a step were once written."""
        return self._path(step).with_name(f"{self._path(step).name}.json").is_file()

    def content(self, step: int) -> dict[str, Any] | None:
        """Returns what the ``.json`` file of a step holds; None if it is damaged."""
        try:
            content = read_json(f"{self._path(step)}.json")
            written = content.pop("sha256")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return content if written == _hash(content) else None

    def problem(self, step: int, hashes: bool = True) -> str | None:
        """Returns what is wrong with the files of a finished step, or None.

        Args:
            hashes: whether the files are read; their sizes are looked at in any case.
        """
        content = self.content(step)
        if content is None:
            return f"{self._path(step).name}.json is damaged"
        for name, record in content["files"].items():
            path = self.folder / name
            if not path.is_file():
                return f"{name} is missing"
            size = path.stat().st_size
            if size != record["size"]:
                return f"{name} has {size:,} bytes instead of {record['size']:,}"
            if hashes and checksum(path) != record["sha256"]:
                return f"{name} is damaged: its SHA-256 checksum does not match"
        return None

    def steps(self) -> set[int]:
        """Returns steps of which there are any files, a set."""
        names = [path.name for path in self.folder.glob(f"{self.prefix}-*")]
        matches = (re.fullmatch(rf"{self.prefix}-(\d+)(\..*|_temp.*)", name) for name in names)
        return {int(match[1]) for match in matches if match}

    def finished_steps(self) -> list[int]:
        """Returns steps of which all files were once written, ascending."""
        return sorted(step for step in self.steps() if self.finished(step))

    def remove_all_but(self, step: int, count: int) -> None:
        """Removes all but the files of the last ``count`` finished steps up to ``step``."""
        finished = [number for number in self.finished_steps() if number <= step]
        for number in self.steps() - set(finished[max(0, len(finished) - count) :]):
            self.remove(number)

    def remove(self, step: int) -> None:
        """Removes the files of a step, and what a failed ``save`` has left of them."""
        name = self._path(step).name
        for path in [*self.folder.glob(f"{name}.json"), *self.folder.glob(f"{name}[._]*")]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"{self.prefix}-{step}"


def shard_prefixes(folder: Path) -> set[str]:
    """Returns prefixes of the files of shards, of all steps."""
    return {path.stem.rpartition("-")[0] for path in folder.glob("shard-*.json")}


def problem_of_shards(folder: Path, step: int) -> str | None:
    """Returns what is wrong with the shards, if any, of a step's checkpoint, or None."""
    files = {name: CheckpointFiles(folder, name) for name in sorted(shard_prefixes(folder))}
    there = [name for name, shard in files.items() if shard.finished(step)]
    counts = {int(name.rpartition("-")[2]) for name in there}
    wanted = {f"shard-{number}-of-{count}" for count in counts for number in range(count)}
    missing = sorted(wanted - {*there})
    if missing:
        return f"{missing[0]}-{step}.json is missing"
    problems = (files[name].problem(step) for name in there)
    return next((problem for problem in problems if problem), None)


def _hash(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _name(place: int | str) -> str:
    """Returns the name of a variable in TensorFlow's files."""
    return f"variables/{place}/.ATTRIBUTES/VARIABLE_VALUE"
