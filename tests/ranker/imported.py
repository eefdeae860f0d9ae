"""Models of PECOS as model folders of tfxc."""

from tfxc.core.storage.ownership import atomic_folder
from tfxc.ranker.pecos.model import write_pecos_model


def import_pecos(folder, output):
    """Writes a new model folder; nothing where that fails."""
    with atomic_folder(output, "linear ranker") as scratch:
        write_pecos_model(folder, scratch)
