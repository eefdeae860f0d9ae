"""Data that needs no download: the API documentation of the installed packages.

A document describes one function, class or method; its labels are the names of its parameters. The
sources are parsed, never imported.
"""

import collections
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfxc.core.declared import Count
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.core.progress import Progress
from tfxc.core.resources import thread_count
from tfxc.core.storage.cache import cache_of
from tfxc.core.storage.files import write_json
from tfxc.core.storage.ownership import atomic_folder
from tfxc.core.storage.reading import read_json
from tfxc.data.reading.builtin.apidocs.documents import documents_of_file
from tfxc.data.reading.formats.base import Split, TextReader
from tfxc.data.reading.formats.jsonl import JSONLines
from tfxc.parallel import map_ordered

_STANDARD_LIBRARY = "stdlib"
_PACKAGES = (_STANDARD_LIBRARY, "numpy", "scipy", "sklearn", "keras", "tensorflow")
_SPLITS = ("train", "dev", "test")
# Folders without documentation of an interface, or with other packages.
_SKIPPED = {"test", "tests", "testing", "__pycache__", "site-packages", "dist-packages"}
_FILES_PER_TASK = 64
# To be raised with every change to what the documents look like.
_VERSION = 1
_DELETE = "delete the folder; it is created again"


class ApiDocs(TextReader):
    """The docstrings of installed packages, with the parameter names as labels.

    The text is the qualified name split into words and the docstring down to its section on
    parameters; the labels are the parameters except ``self``, ``cls``, ``args``, ``kwargs`` and
    those with a leading underscore. A description often mentions some of its parameters, as the
    texts of other data sets mention their labels. A docstring that occurs again (a re-export, or a
    method that repeats its base class's) is left out. 80 / 10 / 10 % of the texts, by their SHA-1,
    are train / dev / test; labels are the names that occur at least twice in train, and examples
    left without a label are dropped.

    The first use takes half a minute and caches the splits as JSON lines below ``cache_folder``,
    under a key of the packages and their versions: other versions are other data, so metrics
    compare only where ``source_fingerprint`` agrees.

    Args:
        split: ``"train"``, ``"dev"`` or ``"test"``.
        packages: import names of packages, ``"stdlib"`` among them; None = the standard library
            and what TensorFlow installs of numpy, scipy, sklearn, keras and tensorflow.
        cache_folder: where the cached splits live; None = ``TFXC_CACHE`` of the environment, or
            ``~/.cache/tfxc``.
        jobs: processes for the first use; None = one per core.

    Attributes:
        source_fingerprint: hexadecimal key of packages, versions and extraction.

    Raises:
        ConfigError: a package is not installed.

    Example:
        >>> reader = ApiDocs("train")                     # doctest: +SKIP
        >>> next(reader.chunks(1)).labels                 # doctest: +SKIP
        [['fp', 'skipkeys']]
    """

    def __init__(
        self,
        split: Split = "train",
        packages: Sequence[str] | None = None,
        cache_folder: str | Path | None = None,
        jobs: Count | None = None,
    ) -> None:
        packages = tuple(_PACKAGES if packages is None else packages)
        sources = {}
        for package in packages:
            if package == _STANDARD_LIBRARY:
                sources[package] = Path(sysconfig.get_path("stdlib"))
                continue
            spec = importlib.util.find_spec(package) if package.isidentifier() else None
            if spec is None or not spec.submodule_search_locations:
                raise ConfigError(
                    f"package {package!r} is not installed",
                    where="packages",
                    fix="install it or leave it out",
                )
            sources[package] = Path(next(iter(spec.submodule_search_locations)))
        self.source_fingerprint = _fingerprint(sources)
        folder = cache_of(cache_folder) / f"apidocs-{self.source_fingerprint}"
        if not folder.is_dir():
            _build(folder, sources, jobs or thread_count())
        super().__init__(folder / f"{split}.jsonl")
        counts = read_json(folder / "counts.json", fix=_DELETE)
        self.num_examples = counts[split]
        self.num_labels = counts["labels"]
        self._reader = JSONLines(self.path)

    @property
    def bytes_read(self) -> int:
        return self._reader.bytes_read

    def _examples(self) -> Iterator[tuple[str, list[Any]] | tuple[str, list[Any], str]]:
        return self._reader._examples()


def _fingerprint(sources: Mapping[str, Path]) -> str:
    versions = {}
    for package, folder in sources.items():
        distributions = _distributions().get(package)
        if package == _STANDARD_LIBRARY:
            versions[package] = platform.python_version()
        elif distributions:
            versions[package] = importlib.metadata.version(distributions[0])
        else:
            # A package that was never installed has no version: its files stand for it.
            files = [(path.as_posix(), path.stat().st_mtime_ns) for path in _source_files(folder)]
            versions[package] = hashlib.sha1(json_text(files).encode("utf-8")).hexdigest()
    key = json_text([_VERSION, versions])
    return hashlib.sha1(key.encode("utf-8")).hexdigest()[:16]


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _source_files(folder: Path) -> Iterator[Path]:
    """Yields all source files below ``folder`` but those of skipped folders, in a fixed order."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - _SKIPPED)
        for file in sorted(files):
            if file.endswith(".py"):
                yield Path(root, file)


def _build(folder: Path, sources: Mapping[str, Path], jobs: int) -> None:
    splits = _split(_documents(sources, jobs))
    names = collections.Counter(label for _, labels in splits["train"] for label in labels)
    vocabulary = {name for name, count in names.items() if count >= 2}
    counts = {"labels": len(vocabulary)}
    with atomic_folder(folder, "built-in data set") as scratch:
        for split, documents in splits.items():
            examples = [
                {"text": text, "labels": known}
                for text, labels in documents
                if (known := [label for label in labels if label in vocabulary])
            ]
            counts[split] = len(examples)
            lines = (json_text(example) + "\n" for example in examples)
            (scratch / f"{split}.jsonl").write_text("".join(lines), "utf-8")
        write_json(scratch / "counts.json", counts)


def _documents(sources: Mapping[str, Path], jobs: int) -> list[tuple[str, list[str]]]:
    """Returns ``(text, labels)`` of all distinct descriptions in the packages, in a fixed order."""
    files = []
    for package, folder in sources.items():
        prefix = [] if package == _STANDARD_LIBRARY else [package]
        for path in _source_files(folder):
            parts = (*prefix, *path.relative_to(folder).with_suffix("").parts)
            files.append((str(path), ".".join(parts).removesuffix(".__init__")))
    tasks = [files[at : at + _FILES_PER_TASK] for at in range(0, len(files), _FILES_PER_TASK)]
    documents: dict[str, tuple[str, list[str]]] = {}
    with Progress("reading API documentation", len(files), unit="files") as progress:
        results = map_ordered(_documents_of_files, [(task,) for task in tasks], jobs)
        for task, task_documents in zip(tasks, results, strict=True):
            for name, description, labels in task_documents:
                documents.setdefault(description, (f"{name}. {description}", labels))
            progress.advance(len(task))
    return list(documents.values())


def _documents_of_files(files: Sequence[tuple[str, str]]) -> list[tuple[str, str, list[str]]]:
    return [document for path, module in files for document in documents_of_file(path, module)]


def _split(documents: Iterable[tuple[str, list[str]]]) -> dict[str, list[tuple[str, list[str]]]]:
    splits: dict[str, list[tuple[str, list[str]]]] = {split: [] for split in _SPLITS}
    for text, labels in documents:
        tenth = int(hashlib.sha1(text.encode("utf-8")).hexdigest(), 16) % 10
        split = _SPLITS[max(0, tenth - 7)]
        splits[split].append((text, labels))
    return splits
