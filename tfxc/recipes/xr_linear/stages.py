"""Pieces of training a linear ranker: matrices, measuring, reports."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text, one_line
from tfxc.core.messages import OUTPUT
from tfxc.core.resources import available_bytes, resident_bytes, thread_count
from tfxc.core.storage.files import atomic_file, write_errors
from tfxc.data.examples.kinds import DENSE, KINDS
from tfxc.data.sources.matrices import matrices
from tfxc.data.sources.shards import open_source
from tfxc.data.store.manifest import Manifest
from tfxc.inference.protocol import RunModel
from tfxc.ops.linear.solver import block_memory
from tfxc.parallel import workers
from tfxc.ranker.problem import BudgetError
from tfxc.runs.dev_examples import write_dev_examples
from tfxc.runs.refit import facts_of
from tfxc.training.evaluation import Evaluation, evaluation_of_texts, labels_of

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.ops.linear.settings import SolverSettings
    from tfxc.ranker.settings import RankerSettings
    from tfxc.recipes.base import Context
    from tfxc.runs.folder import RunFolder


_READ_BYTES = 1 << 28  # of records at once


def check_data(config: "Config", manifest: "Manifest") -> None:
    """Refuses data that a linear ranker cannot be trained on as the config says.

    Raises:
        ConfigError: no sparse or dense features, or a split is missing that something needs.
    """
    name = config.recipe.name
    if not manifest.kind.is_matrix:
        raise ConfigError(
            f"recipe {name!r} needs sparse or dense features, and these are "
            f"{manifest.feature_kind}",
            where="data",
            fix="use text features 'tfidf', or give vectors of the images",
        )
    if config.evaluation.test_on_improvement and config.refit is None:
        for split in ("dev", "test"):
            if split not in manifest.splits:
                where = "evaluation.test_on_improvement"
                raise ConfigError(
                    f"the data have no {split} split",
                    where=where,
                    fix=f"name a file in data.{split}, or remove {where}",
                )


def training_matrices(
    data_folder: str | Path, text_rows: bool = False
) -> tuple[Any, scipy.sparse.csr_matrix]:
    """Loads X and Y of a prepared folder's training split, see ``data.sources.matrices``.

    Args:
        data_folder: the folder.
        text_rows: whether the text of each label follows as one more example of it.
    """
    features, labels = matrices(open_source(data_folder, "train", _READ_BYTES))
    if text_rows:
        features, labels = with_text_rows(features, labels, label_text_matrix(data_folder))
    if scipy.sparse.issparse(features):
        features.sum_duplicates()
    return features, labels


def with_text_rows(
    features: np.ndarray | scipy.sparse.csr_matrix,
    labels: scipy.sparse.csr_matrix,
    texts: scipy.sparse.csr_matrix,
) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
    """Returns X and Y with the text of each label as one more example of it.

    Args:
        features: X, CSR or dense (examples, D).
        labels: Y, CSR (examples, num_labels).
        texts: CSR (num_labels, D); labels without features have no text.

    Example:
        >>> x, y = (scipy.sparse.csr_matrix(np.float32(m)) for m in ([[1, 2]], [[0, 1]]))
        >>> texts = scipy.sparse.csr_matrix(np.float32([[3, 0], [0, 0]]))
        >>> [matrix.toarray().tolist() for matrix in with_text_rows(x, y, texts)]
        [[[1.0, 2.0], [3.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]]
    """
    features = scipy.sparse.csr_matrix(features)
    given = np.flatnonzero(np.diff(texts.indptr))
    own = scipy.sparse.identity(labels.shape[1], np.float32, "csr")[given]
    return (
        scipy.sparse.vstack([features, texts[given]], format="csr"),
        scipy.sparse.vstack([labels, own], format="csr"),
    )


def label_text_matrix(data_folder: str | Path) -> scipy.sparse.csr_matrix:
    """Loads the features of the labels' texts, CSR (labels, num_features).

    Raises:
        DataError: the prepared folder has none.
    """
    from tfxc.data.label_texts.prepared import load_label_texts

    manifest = Manifest.load(data_folder)
    kind = KINDS[manifest.feature_kind]
    width = manifest.num_features
    rows = load_label_texts(data_folder, kind, width).rows
    return kind.matrix(rows.batch()["features"], width)


@contextmanager
def memory_of_ranker(
    memory_gb: float | None, where: str = "recipe.memory_gb"
) -> Iterator[int | None]:
    """Yields the bytes of ``recipe.memory_gb``; an error about them names that key.

    Args:
        memory_gb: as of the recipe; None for no limit.
        where: what the user sets it by.

    Yields:
        ``memory_budget`` of ``ranker.layer.Limits``.

    Raises:
        ConfigError: what is trained inside needs more; the message says how much.

    Example:
        >>> with memory_of_ranker(0.5) as budget:
        ...     print(budget)
        536870912
    """
    try:
        yield None if memory_gb is None else int(memory_gb * 2**30)
    except BudgetError as error:
        raise _too_small(error.least, memory_gb, where) from None


def check_memory(
    manifest: "Manifest", sizes: Sequence[int], settings: "RankerSettings", memory_gb: float | None
) -> None:
    """Refuses a ``recipe.memory_gb`` that will not do, before the labels are clustered.

    On a cluster it says nothing of the workers' memory.

    Args:
        manifest, sizes, settings, memory_gb: see ``estimate_lines``.

    Raises:
        ConfigError: the message says how much is needed.
    """
    if memory_gb is None or workers() is not None:
        return
    held, problem = _largest_block(manifest, sizes, settings)
    least = held + _least_bytes(problem)
    if least > int(memory_gb * 2**30):
        raise _too_small(least, memory_gb, "recipe.memory_gb")


def _too_small(least: int, memory_gb: float | None, where: str) -> ConfigError:
    needed = _in_gb(least)
    return ConfigError(
        f"{memory_gb:g} is too little for the labels' matrices and the largest block of "
        f"classifiers, which take {needed:.2f}",
        where=where,
        fix=f"set {where} to {needed:.2f}",
    )


def _in_gb(count: int) -> float:
    """Rounds up, so that a budget of it suffices."""
    return math.ceil(100 * count / 2**30) / 100


def _largest_block(
    manifest: "Manifest", sizes: Sequence[int], settings: "RankerSettings", more: int = 0
) -> tuple[int, tuple[int, int, int, int, "SolverSettings"]]:
    """Returns the bytes of all levels' label matrices, and arguments of ``block_memory``.

    These are of the first block, which is the largest.
    """
    train = manifest.split("train")
    width = manifest.num_features + more
    matrices = len(sizes) * (2 if settings.relevance_mode == "induce" else 1)
    held = matrices * (8 * train.labels + 4 * train.examples)
    entries = _entries(manifest, more)
    return held, (train.examples, entries, width, sizes[0], settings.solvers(sizes)[0])


def _entries(manifest: "Manifest", more: int) -> int:
    """Counts the entries of the feature matrix."""
    train = manifest.split("train")
    width = manifest.num_features + more
    if manifest.kind is DENSE:
        return train.examples * width
    return train.nonzeros + train.examples * more


def _least_bytes(problem: tuple[int, int, int, int, "SolverSettings"]) -> int:
    return min(block_memory(*problem), block_memory(*problem, compress=False))


def estimate_lines(
    manifest: "Manifest",
    sizes: Sequence[int],
    settings: "RankerSettings",
    memory_gb: float | None,
    threads: int | None,
    more: int = 0,
    clustering: int = 0,
) -> list[str]:
    """Lists what training will need, as lines.

    Args:
        manifest: the data's ``Manifest``.
        sizes: nodes of each level.
        settings: ``RankerSettings``.
        memory_gb, threads: as of the recipe; memory_gb None for no limit.
        more: columns that follow the features, all of whose entries count.
        clustering: bytes that are needed while the labels are clustered, before the classifiers.
    """
    train = manifest.split("train")
    entries = _entries(manifest, more)
    joined = 8 * entries if more else 0  # while the columns are appended to the features
    matrix_bytes = 8 * entries + joined + 8 * train.examples + 36 * train.labels
    held, problem = _largest_block(manifest, sizes, settings, more)
    least = _least_bytes(problem)
    widest = block_memory(*problem, threads=thread_count(threads))
    budget = math.inf if memory_gb is None else int(memory_gb * 2**30)
    process = resident_bytes()
    classifiers = max(least, min(budget - held, widest))
    total = process + matrix_bytes + max(clustering, held + classifiers)
    lines = [
        f"layers of {', '.join(f'{size:,}' for size in sizes)} nodes, the last are the labels",
        f"blocks to train: {1 + sum(sizes[:-1]):,}; the first, of all examples, is the largest, "
        "the others depend on the tree",
        "estimated memory of training:",
        f"  the process itself  {process / 2**20:10,.0f} MB",
        f"  features and labels {matrix_bytes / 2**20:10,.0f} MB",
        *([f"  clustering          {clustering / 2**20:10,.0f} MB, first"] if clustering else []),
        f"  labels by level     {held / 2**20:10,.0f} MB",
        f"  classifiers         {classifiers / 2**20:10,.0f} MB at most",
        f"  total               {total / 2**20:10,.0f} MB of "
        f"{available_bytes() / 2**20:,.0f} MB available",
    ]
    if held + least > budget:
        lines.append(f"too little: recipe.memory_gb of {_in_gb(held + least):.2f} is needed")
    return lines


def report_lines(
    reports: Sequence[Mapping[str, int]], seconds: Mapping[str, float]
) -> Iterator[str]:
    """Yields lines about what a training run did.

    Args:
        reports: of ``ranker.chain.train_ranker``.
        seconds: dict ``seconds`` and ``processor_seconds``.
    """
    layers = "1 layer" if len(reports) == 1 else f"{len(reports)} layers"
    yield (
        f"trained {layers} in {seconds['seconds']:,.1f} s "
        f"({seconds['processor_seconds']:,.1f} s of processor time)"
    )
    last = reports[-1]
    if last["without_positives"]:
        yield f"{last['without_positives']:,} labels have no example and are never predicted"
    if reports[0]["without_features"]:
        yield f"{reports[0]['without_features']:,} training examples have no features"
    unfinished = sum(report["unfinished"] for report in reports)
    if unfinished:
        yield (
            f"{unfinished:,} classifiers were not done after max_passes: raise "
            "recipe.ranker.max_passes or epsilon if accuracy matters more than time"
        )


def seconds_since(began: float, processor: float) -> dict[str, float]:
    """Returns ``seconds`` and ``processor_seconds`` since both clocks of ``time`` stood there."""
    return {
        "seconds": round(time.monotonic() - began, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
    }


def results_of(context: "Context", model: RunModel, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Measures a trained model, unless it is of all examples, and writes ``metrics.jsonl``.

    Args:
        context: of the training.
        model: what was trained.
        seconds: what it took.

    Returns:
        What the summary says of them: ``seconds``, ``dev``, ``test`` where it is requested, and of
        a model of all examples what ``facts_of`` knows of those that were held out.
    """
    run = context.folder
    if context.held_out:
        facts = facts_of(context.held_out)
        write_metrics(run, seconds, {"dev": facts["dev"]})
        return {**seconds, **facts}
    results = measure(model, context.config, context.data_folder, context.manifest, run)
    write_metrics(run, seconds, results)
    for line in headline(results):
        log(run, line)
    return {**seconds, "dev": {}, **results}


def measure(
    model: RunModel,
    config: "Config",
    data_folder: str | Path,
    manifest: "Manifest",
    run: "RunFolder",
) -> dict[str, dict[str, float]]:
    """Measures dev, and test where it is requested; ``{"dev": {name: value}}``.

    The run keeps some examples of dev, see ``tfxc.runs.dev_examples``.
    """
    splits = ("dev", "test") if config.evaluation.test_on_improvement else ("dev",)
    sources: dict[str, Any] = {
        split: open_source(data_folder, split, _READ_BYTES)
        for split in splits
        if split in manifest.splits
    }
    labels = labels_of(data_folder, model.num_labels)
    kinds = config.evaluation.exclude
    train = open_source(data_folder, "train", _READ_BYTES) if kinds else None
    texts = evaluation_of_texts(data_folder, kinds, train, **sources)
    evaluation = Evaluation(model, config, labels, None, **sources, label_texts=texts)
    results = {"dev": evaluation.of_dev(), "test": evaluation.of_test()}
    write_dev_examples(run, config, evaluation.dev_answers)
    return {split: metrics for split, metrics in results.items() if metrics}


def write_metrics(
    run: "RunFolder", seconds: Mapping[str, float], results: Mapping[str, Mapping[str, float]]
) -> None:
    """Writes ``metrics.jsonl``: one line, as there is one pass over the data."""
    values = {
        f"{split} {name}": value
        for split, metrics in results.items()
        for name, value in metrics.items()
    }
    with atomic_file(run / "metrics.jsonl") as stream:
        stream.write(json_text({"step": 1, "epoch": 1.0, **seconds, **values}) + "\n")


def log(run: "RunFolder", text: str) -> None:
    """Prints a line and appends it to the run's ``log.txt``."""
    text = one_line(text)
    OUTPUT.info(text)
    path = run / "log.txt"
    with write_errors(path), open(path, "a", encoding="utf-8") as stream:
        stream.write(text + "\n")


def headline(results: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yields the most important results as lines."""
    for split, metrics in results.items():
        names = [name for name in metrics if name.startswith(("P@", "nDCG@"))][:6]
        yield f"{split} " + "  ".join(f"{name} {100 * metrics[name]:.2f}" for name in names)
