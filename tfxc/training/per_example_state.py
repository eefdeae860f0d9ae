"""Objectives that keep a number of each training example: does the table fit the data?"""

from typing import TYPE_CHECKING

from tfxc.core.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from tfxc.data.sources.base import Source
    from tfxc.objectives.base import Objective
    from tfxc.training.checkpoints import Checkpoints


def check_examples(objective: "Objective", source: "Source") -> None:
    """Compares the size of an objective's tables with that of the training split.

    Raises:
        DataError: they differ.
    """
    if objective.num_examples not in (None, source.num_examples):
        raise DataError(
            f"objective {type(objective).__name__} keeps a value for each training example and was "
            f"built for {objective.num_examples:,} of them, but the training split has "
            f"{source.num_examples:,}",
            where="data.train",
            fix="build the model for this data, e.g. by tfxc train with its config",
        )


def check_checkpoint(objective: "Objective", checkpoints: "Checkpoints") -> None:
    """Compares the size of an objective's tables with those of the last checkpoint.

    Raises:
        CheckpointError: they differ: the checkpoint is of another training set.
    """
    if not objective.tables:
        return
    shape = checkpoints.saved_shape(objective.tables[0].value)
    entries = objective.num_examples
    if shape is not None and len(shape) == 1 and shape[0] != entries:
        raise CheckpointError(
            f"the checkpoint has values of {shape[0]:,} training examples, the data has "
            f"{entries:,}",
            where=checkpoints.folder,
            fix="continue with the data of this run, or start over with --fresh",
        )
