"""Data sets that Hugging Face's ``datasets`` loads, saved as folders on this machine."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tfxc.core.errors import ConfigError, DataError, MachineError, missing_package

if TYPE_CHECKING:
    import datasets

_PREFIX = "hf:"
_PATHS = ("/", ".", "~")  # beginnings of folders, but not of names of the Hub
# What ``save_to_disk`` writes for one data set, or for one with its splits.
_SAVED = ("state.json", "dataset_dict.json")


def is_dataset(address: str) -> bool:
    """Tells whether an address names a data set for ``datasets``; ``hf://`` is fsspec's, of files.

    Example:
        >>> is_dataset("hf:clinc_oos:plus"), is_dataset("hf://datasets/clinc_oos/a.parquet")
        (True, False)
    """
    return address.startswith(_PREFIX) and not address.startswith(f"{_PREFIX}//")


def saved_folder(address: str) -> Path | None:
    """Returns the folder of this machine that an address names, if ``save_to_disk`` has written it.

    Args:
        address: see ``builder_of``.
    """
    folder = Path(address.removeprefix(_PREFIX)).expanduser()
    return folder if any((folder / name).is_file() for name in _SAVED) else None


def one_name(address: str) -> str:
    """Returns the address with an absolute path, where it names a folder of this machine."""
    folder = Path(address.removeprefix(_PREFIX)).expanduser()
    return f"{_PREFIX}{folder.resolve()}" if folder.is_dir() else address


def builder_of(address: str, where: str | None = None) -> "datasets.DatasetBuilder":
    """Returns the ``datasets.DatasetBuilder`` of an address; its ``cache_dir`` names one version of
    it.

    Args:
        address: ``"hf:NAME"`` or ``"hf:NAME:CONFIGURATION"`` of a set of the Hub, or
            ``"hf:FOLDER"`` of files that ``datasets`` reads, which comes first.
        where: config key or option it was given in, for messages.

    Raises:
        ConfigError: ``datasets`` is not installed, or the set has several configurations.
        DataError: there is no such set.
        MachineError: the Hub cannot be reached.
    """
    with missing_package("huggingface", where=where or address):
        import datasets
    name = address.removeprefix(_PREFIX)
    folder = Path(name).expanduser()
    if folder.is_dir():
        name = str(folder)
        configuration = None
    elif name.startswith(_PATHS):
        raise DataError("no such folder", where=address, fix="check the path")
    else:
        name, _, configuration = name.partition(":")
    with _errors(address):
        return datasets.load_dataset_builder(name, configuration or None)


def save(builder: "datasets.DatasetBuilder", address: str, folder: Path) -> None:
    """Downloads and converts a data set, and writes it as ``save_to_disk`` does.

    Args:
        builder: of ``builder_of``.
        address: for messages.
        folder: to write.

    Raises:
        DataError: its files cannot be read.
        MachineError: the Hub cannot be reached.
    """
    with _errors(address):
        builder.download_and_prepare()
        builder.as_dataset().save_to_disk(folder)


@contextlib.contextmanager
def _errors(address: str) -> Iterator[None]:
    """Turns what ``datasets`` raises into one line."""
    import datasets

    try:
        yield
    except datasets.exceptions.DatasetGenerationError as error:
        raise DataError(
            f"datasets cannot read its files: {_reason(error.__cause__ or error)}",
            where=address,
            fix="correct the files",
        ) from error
    except FileNotFoundError as error:  # also its DatasetNotFoundError
        raise DataError(
            f"there is no such data set on the Hub, and no such folder: {_reason(error)}",
            where=address,
            fix="check the name; a private set needs `huggingface-cli login`",
        ) from error
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"datasets does not load it: {_reason(error)}",
            where=address,
            fix="name one configuration as hf:NAME:CONFIGURATION, or save the set with "
            "save_to_disk() and name that folder",
        ) from error
    except OSError as error:  # also ConnectionError
        raise MachineError(
            f"cannot be loaded: {_reason(error)}",
            where=address,
            fix="check the network, or save the set elsewhere with save_to_disk() and name "
            "that folder",
        ) from error


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
