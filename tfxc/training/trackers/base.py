"""What a training run reports its metrics to, apart from its own folder: the contract."""

import abc
import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.errors import missing_package
from tfxc.core.escaping import json_text
from tfxc.core.storage.files import write_json
from tfxc.core.storage.reading import read_json

if TYPE_CHECKING:
    from tfxc.runs.folder import RunFolder


#: In a run folder: what trackers need to continue, by their names.
STATE = "trackers.json"
_SPLITS = ("dev", "test", "train")
_ARTEFACTS = ("config.json", "summary.json", "metrics.jsonl", "log.txt")
_REPORT = "report"


class Tracker(abc.ABC):
    """Follows one training run. Only the chief of several workers has any.

    A subclass is one file of this folder, whose name is the name in ``training.trackers``.

    Args:
        run: ``RunFolder``.

    Attributes:
        package: that it needs, and the extra of tfxc that installs it; None if it needs none.
        failures: errors of the service behind it, such as of a server that does not answer.
            Training goes on without a tracker that raises one.
    """

    package: str | None = None
    failures: tuple[type[Exception], ...] = ()

    def __init__(self, run: "RunFolder") -> None:
        self.run = run

    @classmethod
    def require(cls) -> None:
        """Imports the package.

        Raises:
            ConfigError: it is not installed.
        """
        if cls.package is not None:
            with missing_package(cls.package, where="training.trackers"):
                importlib.import_module(cls.package)

    @abc.abstractmethod
    def begin(self, parameters: Mapping[str, Any], start_step: int) -> None:
        """Starts a run there, or continues that of an interrupted training.

        Args:
            parameters: the config, see ``flattened``.
            start_step: step that training resumes at; what was reported of later ones, before a
                kill, is reported again and must not be there twice.
        """

    @abc.abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Takes numbers by their tags, see ``tag_of``; some may be NaN or infinite."""

    @abc.abstractmethod
    def finish(self, finished: bool) -> None:
        """Ends the session.

        Args:
            finished: whether training is at its end; else it has failed or was stopped.
        """

    def artefacts(self) -> list[Path]:
        """Returns the files of the run folder that a service may keep: config, results, log,
        report.
        """
        files = [self.run / name for name in _ARTEFACTS]
        report = self.run / _REPORT
        files += sorted(report.iterdir()) if report.is_dir() else []
        return [file for file in files if file.is_file()]

    @property
    def title(self) -> str:
        """Name of the run: that of its folder, after that of a run it is inside of."""
        path = self.run.path.resolve()
        inside = (path.parent / "config.json").is_file()
        return f"{path.parent.name}/{path.name}" if inside else path.name

    def remembered(self, name: str) -> dict[str, Any]:
        """Returns what ``remember`` kept, possibly before a kill.

        Args:
            name: of the tracker.
        """
        path = self.run / STATE
        return read_json(path).get(name, {}) if path.is_file() else {}

    def remember(self, name: str, values: Mapping[str, Any]) -> None:
        """Keeps values, which JSON can hold, in the run folder."""
        path = self.run / STATE
        known = read_json(path) if path.is_file() else {}
        write_json(path, {**known, name: dict(values)}, indent=1)


def tag_of(name: str) -> str:
    """Returns the tag of a value in metrics.jsonl: its split, a slash, its name.

    Example:
        >>> tag_of("dev P@1"), tag_of("loss"), tag_of("learning_rate")
        ('dev/P@1', 'train/loss', 'train/learning_rate')
    """
    split, _, rest = name.partition(" ")
    return f"{split}/{rest}" if split in _SPLITS and rest else f"train/{name}"


def flattened(tree: Mapping[str, Any] | Iterable[Any], key: str = "") -> dict[str, Any]:
    """Returns a config as ``{key: value}``: numbers, texts, true and false, and lists as JSON.

    Example:
        >>> flattened({"head": {"name": "dense"}, "seed": 0, "techniques": [{"name": "ema"}]})
        {'head.name': 'dense', 'seed': 0, 'techniques.0.name': 'ema'}
    """
    if isinstance(tree, Mapping):
        items: Iterable[tuple[Any, Any]] = tree.items()
    elif isinstance(tree, list) and any(isinstance(value, Mapping) for value in tree):
        items = enumerate(tree)
    else:
        plain = isinstance(tree, bool | int | float | str)
        return {key: tree if plain else json_text(tree)}
    values: dict[str, Any] = {}
    for name, value in items:
        values |= flattened(value, f"{key}.{name}" if key else str(name))
    return values
