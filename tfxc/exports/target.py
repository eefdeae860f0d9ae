"""The folder that an export is written to."""

from pathlib import Path
from typing import TYPE_CHECKING

from tfxc.core.declared import check_k
from tfxc.core.storage.ownership import check_own

if TYPE_CHECKING:
    from tfxc.runs.loaded import LoadedRun


def check_target(loaded_run: "LoadedRun", folder: str | Path, k: int, kind: str) -> None:
    """Refuses a k that the labels do not allow, a folder that holds something else, a damaged run.

    Args:
        loaded_run: a ``LoadedRun``.
        folder: ``Path`` that will be written or replaced.
        k: labels per example.
        kind: what an older export in ``folder`` must be.

    Raises:
        ConfigError: see above.
        UserError: the folder holds something else.
        DataError: a file of the run is missing, changed or damaged; all are compared.
    """
    loaded_run.folder.verify()
    num_labels = loaded_run.manifest["num_labels"]
    check_k(k, num_labels)
    check_own(folder, kind)
