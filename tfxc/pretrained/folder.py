"""A pretrained model's folder as the model hubs lay it out: ``config.json`` and its neighbours."""

import os
from pathlib import Path
from typing import Any

from tfxc.core.errors import ConfigError
from tfxc.core.storage import reading
from tfxc.core.storage.files import expanded
from tfxc.pretrained.keras_hub_presets import PREFIX, preset_folder

#: Id of the padding by ``model_type``, where config.json does not say: the families that load.
PADDING = {
    "bert": 0,
    "distilbert": 0,
    "roberta": 1,
    "xlm-roberta": 1,
    "albert": 0,
    "electra": 0,
    "deberta-v2": 0,
    "xlnet": 5,
}


def open_folder(written: str | os.PathLike, where: str) -> Path:
    """Returns the folder's path, with ``~`` and ``${VAR}`` expanded, see
    ``tfxc.core.storage.files.expanded``.

    Args:
        written: the path as the config has it; ``"keras_hub:NAME"`` is the preset of that name.
        where: config key, for messages.

    Raises:
        ConfigError: there is no such folder or preset.
    """
    if not isinstance(written, str | os.PathLike):
        raise ConfigError(
            f"{written!r} is not a path", where=where, fix="give the folder of a pretrained model"
        )
    text = os.fspath(written)
    folder = model_path(text)
    if folder is None:
        return preset_folder(text.removeprefix(PREFIX), where)
    if not folder.is_dir():
        raise ConfigError(
            f"there is no folder of a pretrained model at {folder}",
            where=where,
            fix="download the model, or set TFXC_MODELS to the folder above it",
        )
    return folder


def model_path(written: str) -> Path | None:
    """Returns where the folder of a model is, or should be; None for a preset of keras-hub.

    Args:
        written: see ``open_folder``.
    """
    if written.startswith(PREFIX):
        return None
    return Path(expanded(written)).expanduser()


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file of the model's folder.

    Raises:
        ConfigError: the file is missing or holds something else.
    """
    if not path.is_file():
        raise ConfigError(
            f"the file {path.name} is missing",
            where=path.parent,
            fix="copy the whole folder of the model",
        )
    return reading.read_json(path, fix="copy the whole folder of the model", error=ConfigError)


def read_hub_config(folder: Path) -> dict[str, Any]:
    """Returns ``config.json`` with a known ``model_type``; its ``pad_token_id`` filled in.

    Raises:
        ConfigError: the file is missing, or the model is of another type.
    """
    config = read_json(folder / "config.json")
    family = config.get("model_type")
    if not isinstance(family, str) or family not in PADDING:
        raise ConfigError(
            f"tfxc cannot load a model of model_type {family!r}",
            where=folder / "config.json",
            fix=f"give the folder of a model of type {', '.join(PADDING)}",
        )
    if config.get("pad_token_id") is None:
        config["pad_token_id"] = PADDING[family]
    if type(config["pad_token_id"]) is not int:
        raise ConfigError(
            f"pad_token_id is {config['pad_token_id']!r}, not an integer",
            where=folder / "config.json",
            fix="copy the whole folder of the model",
        )
    return config


def network_folder(folder: Path) -> Path:
    """Returns where a model's ``config.json`` and weights are.

    Args:
        folder: the model's folder, or a model of PECOS (an XR-Transformer or its
            ``text_encoder``), which keeps network and tokeniser apart.
    """
    return _part_of(folder, "text_encoder")


def tokeniser_folder(folder: Path) -> Path:
    """Returns where a model's tokeniser files are; see ``network_folder``."""
    return _part_of(folder, "text_tokenizer")


def _part_of(folder: Path, name: str) -> Path:
    for matcher in (folder, folder / "text_encoder"):
        if (matcher / "text_tokenizer").is_dir() and (matcher / "text_encoder").is_dir():
            return matcher / name
    return folder
