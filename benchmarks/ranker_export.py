"""The SavedModel of a linear ranker and the native search: operations, size, time, equal answers.

    python benchmarks/ranker_export.py RUN [--other FOLDER] [--queries 400] [--k 5]

Milliseconds of processor time on one thread, from sparse features to ids and scores, for single
queries and a batch of 512 of the run's dev data: 10th percentile, median and least, all programs
by turns. ``--other`` is another SavedModel of the run, such as one of an earlier version. An empty
``tf.function`` shows what a call takes. Operations are those that a call runs, without constants
and identities.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

BATCH = 512
BATCH_ROUNDS = 15
WARM_UP = 30
COMPARED = 200
NOT_COUNTED = {"Const", "Placeholder", "NoOp", "Identity"}
CALLS = {"PartitionedCall", "StatefulPartitionedCall"}


def main():
    """Exports the run, compares and measures, and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--other", metavar="FOLDER")
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--k", type=int, default=5)
    options = parser.parse_args()
    import tensorflow as tf

    import tfxc  # noqa: F401  (chooses TensorFlow's kernels)

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from tfxc.runs.loaded import load_run

    loaded = load_run(options.run)
    rows = rows_of(loaded)
    batches = [batch_of(rows, first, first + 1) for first in range(options.queries)]
    whole = batch_of(rows, 0, BATCH)
    with tempfile.TemporaryDirectory() as folder:
        programs, sizes = programs_of(loaded, Path(folder) / "served", options.other, options.k)
        compare(programs, [whole, *batches[:COMPARED]])
        print(f"{'':20}{'operations':>12}{'MB':>8}" + " p10, p50, min: single    batch of 512")
        single = measured(programs, batches)
        many = measured(programs, [whole] * BATCH_ROUNDS)
    for name in programs:
        operations, size = sizes.get(name, ("-", None))
        megabytes = "-" if size is None else f"{size / 1e6:.1f}"
        print(f"{name:20}{operations:>12}{megabytes:>8}{shown(single[name])}{shown(many[name])}")
    return 0


def shown(seconds):
    """10th percentile, median and least in milliseconds."""
    return "  " + " ".join(f"{1e3 * np.percentile(seconds, share):8.3f}" for share in (10, 50, 0))


def rows_of(loaded):
    """``Rows`` of the first examples of the run's dev data."""
    from tfxc.data.examples.kinds import SPARSE
    from tfxc.data.reading.held_out import open_split

    recipe = loaded.config.recipe.name
    if recipe != "xr_linear" or loaded.kind is not SPARSE:
        sys.exit(f"{recipe} on {loaded.kind.name} is not xr_linear on sparse features")
    return next(iter(loaded.rows(open_split(loaded.config.data, "dev"), size=BATCH)))


def batch_of(rows, first, last):
    """A batch as arrays and as tensors."""
    import tensorflow as tf

    arrays = rows.slice(first, last).batch()["features"]
    arrays = {
        "ids": np.asarray(arrays["ids"], np.int32),
        "weights": np.asarray(arrays["weights"], np.float32),
        "row_splits": np.asarray(arrays["row_splits"], np.int64),
    }
    return arrays, {name: tf.constant(array) for name, array in arrays.items()}


def programs_of(loaded, folder, other, k):
    """``{name: function of a batch -> (ids, scores)}``; operations and bytes of SavedModels."""
    import tensorflow as tf

    from tfxc.exports.savedmodel import export_savedmodel
    from tfxc.recipes.xr_linear.model import LinearModel

    export_savedmodel(loaded, folder, k)
    model = LinearModel(loaded.folder.path, threads=1)
    programs = {}
    sizes = {}
    for name, path in (("SavedModel", folder), ("other SavedModel", other)):
        if path is not None:
            kept = tf.saved_model.load(str(path))
            programs[name] = caller(kept.signatures["features"], kept)
            files = [file for file in Path(path).rglob("*") if file.is_file()]
            size = sum(file.stat().st_size for file in files)
            sizes[name] = operations_of(kept.signatures["features"]), size
    programs["native search"] = lambda batch: model.find_top_k(batch[0], k)
    given = {"ids": tf.int32, "weights": tf.float32, "row_splits": tf.int64}
    empty = tf.function(
        lambda ids, weights, row_splits: {"ids": ids[:k], "scores": weights[:k]}, autograph=False
    ).get_concrete_function(*(tf.TensorSpec([None], kind, name) for name, kind in given.items()))
    programs["empty tf.function"] = caller(empty)
    return programs, sizes


def caller(function, kept=None):
    """Function of a batch that calls another with its tensors; ``kept`` is what that needs."""

    def call(batch, kept=kept):
        outputs = function(**batch[1])
        return outputs["ids"].numpy(), outputs["scores"].numpy()

    return call


def operations_of(signature):
    """How many operations a call runs, functions that it calls included."""
    graph = signature.graph.as_graph_def()
    bodies = {function.signature.name: function.node_def for function in graph.library.function}

    def count(nodes):
        counted = [node for node in nodes if node.op not in NOT_COUNTED | CALLS]
        called = [bodies[node.attr["f"].func.name] for node in nodes if node.op in CALLS]
        return len(counted) + sum(map(count, called))

    return count(graph.node)


def compare(programs, batches):
    """Prints how far the answers of SavedModels are from those of the native search."""
    for name in ("SavedModel", "other SavedModel"):
        if name not in programs:
            continue
        same = 0
        rows = 0
        worst = 0.0
        for batch in batches:
            ids, scores = programs[name](batch)
            expected, wanted = programs["native search"](batch)
            same += int((ids == expected).all(1).sum())
            rows += len(ids)
            known = expected >= 0
            worst = max(worst, float((np.abs(scores - wanted)[known] / wanted[known]).max()))
        print(f"{name}: ids of {same} of {rows} queries as the native search's, "
              f"scores within {worst:.1e} of their size")  # fmt: skip


def measured(programs, batches):
    """Seconds of each call, ``{name: list}``; the programs take turns on the same batches."""
    times = {name: [] for name in programs}
    warm_up = batches[: min(WARM_UP, len(batches) // 3)]
    for number, batch in enumerate([*warm_up, *batches]):
        for name, program in programs.items():
            begin = time.process_time()
            program(batch)
            if number >= len(warm_up):
                times[name].append(time.process_time() - begin)
    return times


if __name__ == "__main__":
    sys.exit(main())
