"""Where the weights of a pretrained network come from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfxc.core.errors import ConfigError
from tfxc.data.text.subwords import checksum
from tfxc.pretrained.architecture import read_architecture
from tfxc.pretrained.folder import network_folder, open_folder
from tfxc.pretrained.tokenizer_files import read_subwords
from tfxc.pretrained.weights import Tensors, find_files


def open_source(folder: str | Path | None) -> "FolderSource":
    """Returns the source that a config names.

    Raises:
        ConfigError: there is none, or it does not hold what is needed.
    """
    if folder is None:
        raise ConfigError(
            "encoder 'pretrained' has no folder of a model",
            where="encoder",
            fix="give it one: the key 'folder'",
        )
    return FolderSource(open_folder(folder, "encoder.folder"))


class FolderSource:
    """A folder as the model hubs lay it out, or a model of PECOS.

    Args:
        folder: its path.

    Attributes:
        architecture: ``Architecture``.

    Raises:
        ConfigError: a file is missing, or the model is none of those built here.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._network = network_folder(folder)
        self.architecture = read_architecture(self._network)
        find_files(self._network)
        self._tensors: Tensors | None = None

    @property
    def tensors(self) -> Tensors:
        """The arrays, ``Tensors``; opened when first used."""
        if self._tensors is None:
            self._tensors = Tensors(self._network, self.architecture.family)
        return self._tensors

    def check(self, text_features: Mapping[str, Any]) -> None:
        """Refuses texts that were not cut by this model's tokeniser.

        Args:
            text_features: settings of the text features.

        Raises:
            ConfigError: the vocabulary is another one, or a part.
        """
        if text_features.get("name") != "pretrained":
            raise ConfigError(
                f"must be 'pretrained' with this encoder, not {text_features.get('name')!r}",
                where="data.text_features.name",
                fix='use {"name": "pretrained", "folder": ...} with the encoder\'s folder',
            )
        if text_features.get("min_count"):
            raise ConfigError(
                f"is {text_features['min_count']}, but the encoder reads the rows of the complete "
                "vocabulary from the folder",
                where="data.text_features.min_count",
                fix="train without min_count, then prune the run: tfxc prune",
            )
        vocabulary = checksum(read_subwords(self.folder))
        if vocabulary != text_features.get("checksum"):
            raise ConfigError(
                f"the texts were tokenised with another vocabulary "
                f"({text_features.get('checksum')}) than that of the encoder ({vocabulary})",
                where="data.text_features.folder",
                fix="give data.text_features and the encoder the same folder",
            )
