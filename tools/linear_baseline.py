"""Train a linear classifier per label with scikit-learn and print its scores next to a run's.

    python tools/linear_baseline.py --config configs/quickstart.json --run runs/quickstart

Records, features and metrics are the same, so only the classifiers are compared. The baseline is
one-versus-rest logistic regression (SGDClassifier), one label after the other, so that its weights
are never in memory all at once.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import joblib
import numpy as np
import scipy.sparse
from sklearn.linear_model import SGDClassifier

from tfxc.core import cli
from tfxc.core.bounds import Option
from tfxc.core.command_options import parse
from tfxc.core.progress import Progress
from tfxc.core.shared_options import ConfigOptions
from tfxc.core.storage.reading import read_json

SETTINGS = {"loss": "log_loss", "alpha": 1e-5, "max_iter": 4, "tol": None, "random_state": 0}
_LABELS_PER_TASK = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ConfigOptions):
    """Options of the tool.

    Attributes:
        run: run folder whose evaluation is printed next to it; None means none.
        split: split to evaluate.
    """

    run: Annotated[str | None, Option("RUN", mirror="reads")] = None
    split: str = "test"


def main(argv=None):
    """Measures the baseline on the split that the run was evaluated on."""
    options = parse(Options, argv, "tools/linear_baseline.py", __doc__)
    from tfxc.data.reading.inspection.completion import load_config
    from tfxc.data.store.preparation import ensure_prepared
    from tfxc.metrics.suite import build_metrics

    config = load_config(options.config, options.set)
    folder = ensure_prepared(config.data, options.prepared)
    features, targets = matrices(folder, "train")
    questions, _ = matrices(folder, options.split)
    metrics = build_metrics(ks=tuple(config.evaluation.k))
    ids, scores = best_labels(features, targets, questions, max(config.evaluation.k))
    metrics.update(ids, scores, padded_labels(folder, options.split))
    print(table(metrics.result(), options.run, options.split))
    return 0


def matrices(folder, split):
    """Returns features (n, num_features) and label indicator (n, num_labels) of a split, both
    CSR.
    """
    batch, source = _whole(folder, split)
    bag = batch["features"]
    shape = (source.num_examples, source.num_features)
    features = scipy.sparse.csr_matrix((bag["weights"], bag["ids"], bag["row_splits"]), shape)
    rows, places = np.nonzero((batch["labels"] >= 0) & (batch["labels"] < source.num_labels))
    columns = batch["labels"][rows, places]
    shape = (source.num_examples, source.num_labels)
    return features, scipy.sparse.csc_matrix((np.ones(len(rows)), (rows, columns)), shape)


def padded_labels(folder, split):
    """Returns true labels (n, max_labels) padded with -1."""
    return _whole(folder, split)[0]["labels"]


def _whole(folder, split):
    from tfxc.data.sources.shards import ShardSource

    source = ShardSource(folder, split)
    return next(source.sequential(source.num_examples)), source


def best_labels(features, targets, questions, k):
    """Returns the best k labels of ``questions`` by one logistic regression per label of
    ``targets``.
    """
    tasks = [
        range(first, min(first + _LABELS_PER_TASK, targets.shape[1]))
        for first in range(0, targets.shape[1], _LABELS_PER_TASK)
    ]
    parallel = joblib.Parallel(n_jobs=-1, return_as="generator")
    jobs = (
        joblib.delayed(_score)(features, targets[:, task.start : task.stop], questions)
        for task in tasks
    )
    parts = []
    with Progress("linear baseline", targets.shape[1], "labels") as progress:
        for task, part in zip(tasks, parallel(jobs), strict=True):
            parts.append(part)
            progress.advance(len(task))
    scores = np.concatenate(parts, axis=1)
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return ids.astype(np.int32), np.take_along_axis(scores, ids, axis=1)


def _score(features, targets, questions):
    """Returns logits (n, labels) of a block of labels; -inf if no training example has it, inf if
    all.
    """
    scores = np.full((questions.shape[0], targets.shape[1]), -np.inf, np.float32)
    for number in range(targets.shape[1]):
        truth = targets[:, [number]].toarray().ravel() > 0
        if truth.all():
            scores[:, number] = np.inf
        elif truth.any():
            model = SGDClassifier(**SETTINGS).fit(features, truth)
            scores[:, number] = model.decision_function(questions)
    return scores


def table(baseline, run, split):
    """Returns both results as text."""
    names = [name for name in baseline if name.startswith(("P@", "nDCG@"))]
    rows = [("linear, one vs rest", baseline)]
    path = Path(run or "") / f"evaluation-{split}.json"
    if run and path.exists():
        rows.insert(0, (str(run), read_json(path)["metrics"]))
    lines = ["".join([f"{'':24}", *(f"{name:>8}" for name in names)])]
    for title, values in rows:
        lines.append("".join([f"{title:24}", *(f"{100 * values[name]:8.2f}" for name in names)]))
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main)
