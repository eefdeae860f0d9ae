"""The runs of a server: each with its name, its newest version, and the queue in front of it."""

import asyncio
import functools
import gc
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, Le

from tfxc.core.errors import ConfigError, UserError
from tfxc.core.messages import NOTES, OUTPUT
from tfxc.core.storage import checksums
from tfxc.decision.decision import Decision
from tfxc.inference.decision import decision_of
from tfxc.inference.ensemble_file import EnsembleFile
from tfxc.inference.predictors import (
    EnsemblePredictor,
    Predictor,
    RunPredictor,
    deciding_predictor,
)
from tfxc.inference.search_options import SearchOptions
from tfxc.runs.dev_examples import read_dev_examples
from tfxc.runs.loaded import LoadedRun, load_runs
from tfxc.runs.writer import SUMMARY
from tfxc.serving.batching import Batcher, Found
from tfxc.serving.examples import ExampleForms, as_shown
from tfxc.serving.limits import Limits, RequestError, bad_request
from tfxc.serving.new_labels import NewLabels
from tfxc.serving.requests import checked_field

if TYPE_CHECKING:
    from tfxc.data.examples.chunk import Chunk


_DEFAULT_K = 5
#: Is called with the name of a model and the number of examples of a batch.
OnBatch = Callable[[str, int], None]


class Version(NamedTuple):
    """A run folder that can be served, or a file of several runs.

    Attributes:
        number: its version: the name of the folder where that is a number, else None.
        folder: the run, or the file.
        files: what changes when it is written anew.
    """

    number: int | None
    folder: Path
    files: tuple[int, ...]


def newest_version(path: str | Path, finished: bool = True) -> Version | None:
    """Returns what to serve: a run, the highest of the runs 1, 2, ... in a folder, or a file.

    Args:
        path: a run folder, a folder of numbered ones, or an ``EnsembleFile``.
        finished: whether only runs that are complete count; others may be written to.

    Returns:
        ``Version``; None if there is no such run.

    Example:
        >>> newest_version("no_such_folder") is None
        True
    """
    path = Path(path)
    if finished and not path.exists():
        return None
    if EnsembleFile.is_at(path):
        runs = [Path(run) for run in EnsembleFile.load(path).runs]
        if finished and not all((run / SUMMARY).is_file() for run in runs):
            return None
        states = (_state_of(file) for file in (path, *(run / checksums.FILE for run in runs)))
        return Version(None, path, tuple(itertools.chain.from_iterable(states)))
    numbered = [
        (int(p.name), p)
        for p in path.glob("[0-9]*")
        if (p.name.isdecimal() and (p / "config.json").is_file())
    ]
    for number, folder in sorted(numbered, reverse=True):
        if not finished or (folder / SUMMARY).is_file():
            return Version(number, folder, _state_of(folder / checksums.FILE))
    if finished and not (path / SUMMARY).is_file():
        return None
    return Version(None, path, _state_of(path / checksums.FILE))


def _state_of(file: Path) -> tuple[int, ...]:
    """Returns what identifies a file: the record of a run's files when the run is complete."""
    try:
        state = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return state.st_ino, state.st_mtime_ns, state.st_size


class ServedRun:
    """One version of a run, or of several that answer together, loaded and ready.

    Args:
        name: of the model.
        version: where it is.
        number: of the version, from 1.
        limits: of which ``k``, ``batch``, ``queue`` and ``wait`` count.
        options: ``RunOptions``; the labels of its file of texts are added.
        loaded: the run where it is loaded already.
        on_batch: called with the name of the model and the number of examples of each batch.

    Attributes:
        k: labels of an answer whose request does not say how many.
        max_k: most labels of an answer.
        probabilities: whether scores are probabilities.
        num_labels: that it knows.
        names: of the labels, by id.
        neighbours: whether labels have neighbours.
        takes_labels: whether labels can be added by their texts.
        forms: ``ExampleForms``.
        config: of the run, of several the first.
        decision: which labels the run returns, by the unit of its answers; the best one alone where
            it decides by another unit.
        dev_examples: see ``tfxc.runs.dev_examples``.

    Raises:
        UserError: as ``load_run`` and ``RunPredictor``.
    """

    def __init__(
        self,
        name: str,
        version: Version,
        number: int,
        limits: Limits,
        options: "RunOptions",
        loaded: LoadedRun | None = None,
        on_batch: OnBatch = lambda name, size: None,
    ) -> None:
        self.name = name
        self.version = version
        self.number = number
        self._file = None
        if loaded is not None:
            self._runs = {str(version.folder): loaded}
        else:
            if EnsembleFile.is_at(version.folder):
                self._file = EnsembleFile.load(version.folder)
            folders = [str(version.folder)] if self._file is None else self._file.runs
            self._runs = load_runs(folders, options.trust, options.search)
        for run in self._runs.values():
            run.require_labels()
        self._loaded = next(iter(self._runs.values()))
        self.takes_labels = False
        if options.new_labels is not None and self._file is None:
            from tfxc.runs.new_labels import takes_labels, with_labels

            self.takes_labels = takes_labels(self._loaded)
            missing = options.new_labels.missing_in(self._loaded)
            if self.takes_labels and missing:
                self._loaded = with_labels(self._loaded, missing)
        self._limits = limits
        self._options = options
        self._on_batch = on_batch
        self._model = self._loaded.model
        self.num_labels = self._loaded.manifest["num_labels"]
        self.names = self._loaded.vocabulary.names
        self.config = self._loaded.config
        self.dev_examples = read_dev_examples(self._loaded.folder.path)
        if self._file is None:
            listed = self.num_labels
            likely = self._model.has_probabilities
            threshold = self.config.evaluation.threshold
            decision = decision_of(self._model, self._loaded.single_label, threshold)
            self.neighbours = self._model.similar_labels(0, 1) is not None
        else:
            self._file.check_labels(self.names, version.folder)
            listed = min(self._file.top, self.num_labels)
            likely = self._file.decision.calibration is not None
            decision = self._file.decision.rule or Decision()
            self.neighbours = False
        self.max_k = min(limits.k, listed)
        self.k = min(_DEFAULT_K if options.k is None else options.k, self.max_k)
        self.forms = ExampleForms(
            self._loaded.input_kind, self._loaded.manifest, version.folder, limits.examples
        )
        self.probabilities = likely and not options.scores
        self.decision = decision if decision.probabilities == self.probabilities else Decision()
        self._predictors = {k: self.predictor(k) for k in _steps(self.k, self.depth(self.max_k))}
        self.search(self.forms.example(), self.depth(self.k))
        self.batcher = Batcher(self.search, limits, functools.partial(on_batch, name))

    def depth(self, k: int) -> int:
        """Returns how many labels to search so that ``listed`` knows which of the best k count."""
        by_gains = self.decision.gains is not None
        return max(k, self.decision.at_most or 0) if by_gains else k

    def search(self, chunk: "Chunk", k: int) -> Found:
        """Returns the best labels of examples.

        Models are compiled for each k, so there are few of them: the next larger one is searched.

        Args:
            chunk: ``Chunk``.
            k: number of labels, at most ``depth(max_k)``.

        Returns:
            ids int32, scores float32, both (n, k), best first, padded with id -1.

        Raises:
            DataError: as ``RunPredictor.find``.
        """
        step = next(step for step in self._predictors if step >= k)
        ids, scores = self._predictors[step].find(chunk, "request")
        return ids[:, :k], scores[:, :k]

    async def similar_labels(self, label: str, k: int) -> Found:
        """Returns the neighbours of a label, see ``RunModel.similar_labels``; in the event loop.

        Args:
            label: its name.
            k: how many.

        Returns:
            ids int32 and scores float32, both (1, at most k), best first.

        Raises:
            RequestError: 400, labels have none, or this is no name; 404, there is no such label.
        """
        if not self.neighbours:
            raise bad_request(
                f"the labels of {self.name} have no weights of their own, and so no neighbours",
                "model",
            )
        number = self._numbers.get(label)
        if number is None:
            problem = f"{self.name} has no label {label[:60]!r}"
            raise RequestError(404, problem, where="label", fix="send one that it has")
        ids, scores = await self.batcher.between(self._model.similar_labels, number, k)
        return ids[None], scores[None]

    @functools.cached_property
    def predictor_of_files(self) -> Predictor:
        """What ``tfxc predict`` labels the examples of a file by."""
        deciding: Predictor | None
        if self._file is None:
            deciding = deciding_predictor(self._loaded, False if self._options.scores else None)
        else:
            several = self.predictor(None)
            deciding = several if several.decides else None
        return deciding or self.predictor(self.k)

    def predictor(self, k: int | None) -> Predictor:
        """Returns what finds the k best labels; of several runs, None means those they return."""
        file = self._file
        if file is None:
            return RunPredictor(self._loaded, k, self.probabilities)
        top = min(file.top, self.num_labels)
        predictors = {path: RunPredictor(run, top) for path, run in self._runs.items()}
        combined = (file.method, k, file.weights, file.decision)
        return EnsemblePredictor(predictors, *combined, self.probabilities)

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def with_label(self, name: str, text: str) -> "ServedRun":
        """Returns this version with another label.

        Args:
            name: new to the run.
            text: by which it is found.
        """
        from tfxc.runs.new_labels import with_labels

        loaded = with_labels(self._loaded, {name: text})
        return ServedRun(
            self.name,
            self.version,
            self.number,
            self._limits,
            self._options,
            loaded,
            self._on_batch,
        )

    def knows(self, label: str) -> bool:
        """Tells whether it is a name of one of the labels."""
        return label in self._numbers

    def checked_k(self, k: object) -> int:
        """Returns the number of labels that a request asks for.

        Raises:
            RequestError: 400, it is no integer from 1 to ``max_k``.
        """
        if k is None:
            return self.k
        return checked_field(Annotated[int, Ge(1), Le(self.max_k)], k, "k")


def _steps(first: int, last: int) -> list[int]:
    """Returns the numbers of labels that are searched for: ``first``, doubled until ``last``.

    Example:
        >>> _steps(5, 18)
        [5, 10, 18]
    """
    steps = [first]
    while steps[-1] < last:
        steps.append(min(2 * steps[-1], last))
    return steps


class RunOptions(NamedTuple):
    """How runs are opened and searched.

    Attributes:
        trust: see ``LoadedRun``.
        k: labels of an answer whose request does not say how many; None means 5.
        scores: whether answers have scores even where there are probabilities.
        new_labels: more labels of runs that know labels by their texts; None for none.
        search: how labels are searched.
    """

    trust: bool = False
    k: int | None = None
    scores: bool = False
    new_labels: NewLabels | None = None
    search: SearchOptions = SearchOptions()


class Slot:
    """A name under which the newest version of a run is served.

    Attributes:
        name: of the model.
        path: see ``newest_version``.
        current: the ``ServedRun``.
    """

    def __init__(self, name: str, path: str | Path, current: ServedRun) -> None:
        self.name = name
        self.path = Path(path)
        self.current = current


class Catalog:
    """All runs of a server, by name.

    Args:
        paths: run folders, or folders of numbered ones, by name; the first is the one that requests
            without a name mean.
        limits: ``Limits``.
        options: ``RunOptions``.
        on_batch: see ``ServedRun``.

    Raises:
        UserError: a run cannot be loaded.
    """

    def __init__(
        self,
        paths: Mapping[str, str | Path],
        limits: Limits | None = None,
        options: RunOptions | None = None,
        on_batch: OnBatch = lambda name, size: None,
    ) -> None:
        self.limits = limits or Limits()
        self._options = options or RunOptions()
        self._on_batch = on_batch
        self._changing = asyncio.Lock()
        self.slots: dict[str, Slot] = {}
        for name, path in paths.items():
            version = newest_version(path, finished=False)
            assert version is not None, "without the condition that it is finished there is one"
            self.slots[name] = Slot(name, path, self._load(name, version, 1))
        if self._options.new_labels is not None and not self._taking():
            raise ConfigError(
                "no run has head 'label_text', which finds labels by their texts; a file of "
                "several runs takes none",
                where="--label-texts",
                fix="leave it out",
            )

    def _taking(self) -> list[Slot]:
        """Returns the slots whose runs take new labels."""
        return [slot for slot in self.slots.values() if slot.current.takes_labels]

    def _load(self, name: str, version: Version, fallback: int) -> ServedRun:
        number = fallback if version.number is None else version.number
        return ServedRun(name, version, number, self.limits, self._options, on_batch=self._on_batch)

    def find(self, name: object = None, version: str | None = None) -> ServedRun:
        """Returns the run of a name; of None the first.

        Raises:
            RequestError: 404, there is no such model or version; those there are are named.
        """
        if name is None:
            return next(iter(self.slots.values())).current
        if not isinstance(name, str) or name not in self.slots:
            raise RequestError(
                404,
                f"there is no model {as_shown(name)}",
                where="model",
                fix=f"use one of {', '.join(self.slots)}",
            )
        served = self.slots[name].current
        if version is not None and version != str(served.number):
            raise RequestError(
                404,
                f"{name} has no version {version[:60]}, but {served.number}",
                where="version",
                fix="leave the version out to get the newest",
            )
        return served

    async def reload(self) -> list[str]:
        """Loads runs that are complete and newer than what is served; in the event loop.

        Requests are answered by the old version until the new one is ready; those it has accepted
        it answers to the end. A run that cannot be loaded is reported on standard error, and the
        old one stays.

        Returns:
            list of the names of the models that changed.
        """
        async with self._changing:
            return await self._reload()

    async def _reload(self) -> list[str]:
        changed = []
        for slot in self.slots.values():
            try:
                version = newest_version(slot.path)
                if version is None or version == slot.current.version:
                    continue
                loop = asyncio.get_running_loop()
                number = slot.current.number + 1
                if self._options.new_labels is not None:
                    self._options.new_labels.read()
                new = await loop.run_in_executor(None, self._load, slot.name, version, number)
            except (UserError, OSError) as error:
                NOTES.warning(
                    f"{slot.name}: version {slot.current.number} stays, as the newer "
                    f"one cannot be loaded: {error}"
                )
                continue
            self._replace(slot, new)
            changed.append(slot.name)
            OUTPUT.info(f"{slot.name}: version {new.number}, {version.folder}")
        return changed

    def _replace(self, slot: Slot, new: ServedRun) -> None:
        slot.current.batcher.close()
        slot.current = new
        # Models are parts of cycles. When the last answer of the old one is given, it is freed.
        asyncio.get_running_loop().call_later(self.limits.seconds, gc.collect)

    async def add_label(self, name: str, text: str) -> list[str]:
        """Lets the runs that take labels find another one, and writes it down; in the event loop.

        Args:
            name, text: of the label, see ``new_labels.checked_label``.

        Returns:
            list of the names of the models that know it from now on.

        Raises:
            RequestError: 404, no run takes labels; 409, all that do know it.
        """
        new_labels = self._options.new_labels
        taking = self._taking()
        if new_labels is None or not taking:
            problem = "this server takes no new labels"
            raise RequestError(404, problem, where="label", fix="start it with --label-texts")
        async with self._changing:
            slots = [slot for slot in taking if not slot.current.knows(name)]
            if not slots:
                problem = f"the label {name[:60]!r} is known already"
                raise RequestError(409, problem, where="label")
            loop = asyncio.get_running_loop()
            extended_runs = [
                await loop.run_in_executor(None, slot.current.with_label, name, text)
                for slot in slots
            ]
            await loop.run_in_executor(None, new_labels.add, name, text)
            for slot, extended in zip(slots, extended_runs, strict=True):
                self._replace(slot, extended)
            return [slot.name for slot in slots]

    def close(self) -> None:
        """Ends the threads; in the event loop."""
        for slot in self.slots.values():
            slot.current.batcher.close()


def paths_by_name(runs: Sequence[str]) -> dict[str, Path]:
    """Returns the paths of ``RUN`` and ``NAME=RUN`` by name; without one that of folder or file.

    Raises:
        ConfigError: two runs have one name, or a name cannot stand in an address.

    Example:
        >>> [str(path) for path in paths_by_name(["runs/a", "best=runs/b"]).values()]
        ['runs/a', 'runs/b']
    """
    paths: dict[str, Path] = {}
    for run in runs:
        name, sign, path = run.partition("=")
        if not sign or "/" in name:
            name = Path(run).resolve().name
            if EnsembleFile.is_at(run):
                name = name.removesuffix(".json")
            path = run
        if not name or set(name) & set("/:?#%\\") or not name.isprintable():
            raise ConfigError(
                f"{name!r} cannot be the name of a model, which is part of addresses",
                where="RUN",
                fix="give another one, without / : ? # %, as NAME=RUN",
            )
        if name in paths:
            raise ConfigError(
                f"two runs have the name {name!r}", where="RUN", fix="give one of them as NAME=RUN"
            )
        paths[name] = Path(path)
    return paths


def listed(
    served: ServedRun, ids: np.ndarray, scores: np.ndarray, k: int
) -> list[list[dict[str, Any]]]:
    """Returns the best k labels of each example: their name, id, score and ``returned``.

    ``returned`` tells whether the label is one of those that the run decides for, of the
    ``served.depth(k)`` ones that there are.
    """
    names = served.names
    chosen = served.decision.predicted(ids, scores)
    arrays = zip(ids.tolist(), scores.tolist(), chosen.tolist(), strict=True)
    return [
        [
            {"label": names[number], "id": number, "score": score, "returned": returned}
            for number, score, returned in itertools.islice(zip(*row, strict=True), k)
            if number >= 0
        ]
        for row in arrays
    ]
