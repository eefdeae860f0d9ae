"""A run of a linear ranker that learns probabilities after its training."""

from typing import TYPE_CHECKING

from tfxc.core.storage import checksums
from tfxc.inference.ranker_calibration import learn_calibration
from tfxc.ranker.calibration import CALIBRATION
from tfxc.runs.lock import locked

if TYPE_CHECKING:
    from tfxc.inference.searcher import Examples, Excluded
    from tfxc.runs.loaded import LoadedRun


def calibrate_ranker(
    loaded: "LoadedRun", examples: "Examples", batch_size: int, excluded: "Excluded | None" = None
) -> str:
    """Writes a calibration into a finished run, in place of the one it may have.

    The loaded model has it from then on.

    Args:
        loaded: the run, which searches with its own beam and post-processor.
        examples: examples with labels that the ranker was not trained on.
        batch_size: examples of a search.
        excluded: labels that do not count, see ``Searcher``.

    Returns:
        A line that says what it was learned from.

    Raises:
        DataError: as ``learn_calibration``.
        MachineError: the run folder cannot be written to.
    """
    method = loaded.config.recipe.section().get("calibrate")
    calibration, line = learn_calibration([(loaded.model, examples)], batch_size, method, excluded)
    path = loaded.folder / CALIBRATION
    with locked(loaded.folder):
        calibration.save(path)
        checksums.add(loaded.folder.path, CALIBRATION)
    loaded.release()
    return f"{line}\nwritten: {path}: predictions are probabilities from now on"
