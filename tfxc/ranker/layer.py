"""Training of one layer of the ranker: block by block, from the features to the layer's files."""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfxc.core.progress import Progress
from tfxc.core.resources import limited_threads, thread_count
from tfxc.ops.linear.settings import SolverSettings
from tfxc.parallel import workers
from tfxc.ranker.block_queue import Pause, blocks_written, finished
from tfxc.ranker.problem import Blocks, BudgetError, LayerProblem
from tfxc.ranker.shared_layer import SharedBlocks, SharedFiles
from tfxc.ranker.store import LayerWriter, is_complete, notes_of


class Limits(NamedTuple):
    """What training may use of the machine; the weights do not depend on it.

    Attributes:
        memory_budget: bytes in addition to the arguments; None for no limit. It decides how many
            blocks are solved at a time.
        threads: at most this many; None means all cores.
    """

    memory_budget: int | None = None
    threads: int | None = None


NO_LIMITS = Limits()


class LayerReport(NamedTuple):
    """What training a layer reports.

    Attributes:
        trained: nodes with weights.
        without_positives: nodes that no example belongs to; they are never predicted.
        unfinished: nodes whose weights ``max_passes`` were too few for.
    """

    trained: int
    without_positives: int
    unfinished: int


def train_layer(
    problem: LayerProblem,
    folder: str | Path,
    settings: SolverSettings | None = None,
    *,
    limits: Limits = NO_LIMITS,
    held: int = 0,
    title: str = "training a layer",
    shared: SharedFiles | None = None,
) -> LayerReport:
    """Trains the classifiers of a level's nodes and writes the layer's folder.

    The features are read block by block, a block being the examples of one parent; memory-mapped
    ones stay on the disk. A killed training run resumes after its last finished block.

    Args:
        problem: ``LayerProblem``.
        folder: where ``tfxc.ranker.search.load_layer`` will find the layer.
        settings: ``tfxc.ops.linear.settings.SolverSettings``; None means its defaults.
        limits: ``Limits``.
        held: bytes of the memory budget that are taken already.
        title: of the progress line.
        shared: files of these features for a cluster, if several layers have the same features.

    Returns:
        ``LayerReport``.

    Raises:
        DataError: shapes that do not fit.
        BudgetError: the budget is too small for a block; the message says the least that works.
        UserError: the folder cannot be written.
    """
    steps = layer_steps(
        problem, folder, settings, limits=limits, held=held, title=title, shared=shared
    )
    return finished([steps], 1)[0]


def layer_steps(
    problem: LayerProblem,
    folder: str | Path,
    settings: SolverSettings | None = None,
    *,
    limits: Limits = NO_LIMITS,
    held: int = 0,
    title: str = "training a layer",
    shared: SharedFiles | None = None,
) -> Generator[Pause, None, LayerReport]:
    """Does what ``train_layer`` does, for ``block_queue.finished``, several layers at a time.

    Args:
        problem, folder, settings, limits, held, title, shared: see ``train_layer``.

    Yields:
        ``Pause``s.

    Returns:
        ``LayerReport``.
    """
    settings = settings or SolverSettings()
    work = Blocks(problem, settings)
    print_of_all = work.fingerprint()
    trained = np.diff(work.targets.indptr) > 0
    if not is_complete(folder, print_of_all):
        writer = LayerWriter(folder, work.children, work.child_splits, print_of_all)
        try:
            nodes = int(work.child_splits[writer.blocks])
            with (
                Progress(title, total=len(trained), unit="nodes", start=nodes) as progress,
                contextlib.ExitStack() as files,
            ):
                if shared is None:
                    shared = files.enter_context(SharedFiles(work.features, writer.folder.parent))
                cluster = workers()
                if cluster is None:
                    plan = work.plan(limits.memory_budget, held, thread_count(limits.threads))
                    yield from blocks_written(work, writer, plan, progress)
                else:
                    # One block at a time has to fit into a worker; how many workers there are is
                    # nothing to it.
                    plan = work.plan(cluster.memory, 0, 1)
                    plan = plan._replace(blocks=cluster.tasks, budget=None)
                    part = files.enter_context(shared.layer(work, writer.folder.name))
                    yield from blocks_written(SharedBlocks(work, part), writer, plan, progress)
            with limited_threads(thread_count(limits.threads)):
                writer.finish(trained)
        finally:
            writer.close()
    unfinished = notes_of(folder).get("unfinished", 0)
    return LayerReport(int(trained.sum()), int((~trained).sum()), unfinished)


def min_budget(problem: LayerProblem, settings: SolverSettings, budget: int, held: int) -> int:
    """Returns the ``memory_budget`` that training a layer needs: the one given if it suffices.

    Args:
        problem, settings, held: see ``train_layer``.
        budget: bytes.
    """
    try:
        Blocks(problem, settings).plan(budget, held, 1)
    except BudgetError as error:
        return error.least
    return budget
