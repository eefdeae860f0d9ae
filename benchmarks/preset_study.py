"""Which settings of the linear ranker are best on all sets of texts together, for preset `fast`.

    python benchmarks/preset_study.py --data ../shared/data --json study.jsonl
    python benchmarks/preset_study.py --json study.jsonl --table

The first command tries every setting on parts of each training file (``_text_sets.py``): it learns
from at most ``--rows`` of its rows and is measured on others; test files are not opened for it. The
second prints, for each set, the setting that is best on average on the others and what it reaches
there, beside the setting that is best on all: no set chooses its own setting. Scores are P@1 and
P@5, relative to those of the best setting of the set.
"""

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.sparse
from _text_sets import CHARACTERS, FILES, examples

SETS = (
    "banking77",
    "clinc150",
    "cooking",
    "sentiment",
    "duee",
    "debtags",
    "genes",
    "icd10cm_categories",
    "wordnet_roles",
    "eurlex_domains",
    "eurlex57k",
)
KEYS = ("view", "cost", "epsilon", "threshold")
GRID = tuple(itertools.product(["words", "words+characters"], [0.5, 1.0, 2.0]))
# View, labels under a leaf, cost, threshold.
TREES = (
    ("words", 100, 1.0, 0.1),
    ("words", 100, 1.0, 0.03),
    ("words", 100, 2.0, 0.03),
    ("words", 400, 1.0, 0.03),
    ("words+characters", 100, 1.0, 0.1),
    ("words+characters", 100, 1.0, 0.03),
    ("words+characters", 100, 2.0, 0.03),
)
THRESHOLDS = (0.0, 0.01, 0.03, 0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--rows", type=int, default=4000, help="of training, at most")
    parser.add_argument("--labels", type=int, default=5000, help="the most frequent ones, at most")
    parser.add_argument("--epsilons", nargs="+", type=float, default=[0.1], help="of the solver")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--trees", nargs="+", choices=FILES, help="sets of many labels")
    options = parser.parse_args()
    if options.table:
        print_table([json.loads(line) for line in options.json.read_text().splitlines()])
        return
    if options.trees:
        for name in options.trees:
            study_trees(name, options)
        return
    for name in options.sets:
        study(name, options)


def parts_of(name, options):
    """Rows of the training file to learn from, and others to be measured on."""
    rows = examples(options.data, name)[0]
    order = np.random.default_rng(0).permutation(len(rows))
    held = min(2000, len(rows) // 5)
    order = order[: held + options.rows]
    return [[rows[place] for place in part] for part in (order[held:], order[:held])]


def study(name, options):
    train, test = parts_of(name, options)
    targets, truth = label_matrices(train, test, options.labels)
    texts = [[row["text"] for row in rows] for rows in (train, test)]
    for view, settings in itertools.groupby(GRID, key=lambda setting: setting[0]):
        vectors = features(name, view, *texts)
        pairs = itertools.product([cost for _, cost in settings], options.epsilons)
        for cost, epsilon in pairs:
            for line in one_level(*vectors, targets, truth, cost, epsilon):
                line = {"set": name, "view": view, "cost": cost, "epsilon": epsilon, **line}
                with open(options.json, "a") as stream:
                    stream.write(json.dumps(line) + "\n")


def features(name, view, train, test):
    """TF-IDF of words, or of words and characters, each part of the same length: rows of length 1.

    Chinese texts are cut into one to three characters in either view.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    common = {"sublinear_tf": True, "dtype": np.float32}
    if name in CHARACTERS:
        characters = {"ngram_range": (1, 3), "token_pattern": r"\S", "min_df": 2}
        parts = [TfidfVectorizer(**common, **characters)]
    else:
        parts = [TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\b\w+\b", **common)]
        if view != "words":
            parts.append(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **common))
    fitted = [part.fit_transform(train) for part in parts]
    transformed = [part.transform(test) for part in parts]
    joined = [normalize(scipy.sparse.hstack(part, "csr")) for part in (fitted, transformed)]
    for matrix in joined:
        matrix.sort_indices()
    return joined


def label_matrices(train, test, most):
    counts = {}
    for row in train:
        for label in row["labels"]:
            counts[label] = counts.get(label, 0) + 1
    names = sorted(counts, key=lambda label: (-counts[label], label))[:most]
    ids = {label: number for number, label in enumerate(names)}
    positives = [[] for _ in ids]
    for place, row in enumerate(train):
        for label in row["labels"]:
            if label in ids:
                positives[ids[label]].append(place)
    truth = [{ids.get(label, -1) for label in row["labels"]} for row in test]
    return positives, truth


def one_level(train, test, positives, truth, cost, epsilon):
    """Yields what one-versus-rest classifiers reach, for each threshold of their weights."""
    from tfxc.ops.linear.settings import SolverSettings
    from tfxc.ops.linear.solver import solve_block

    settings = SolverSettings(cost, cost, threshold=0.0, epsilon=epsilon)
    begin = time.process_time()
    block = solve_block(train, positives, settings)
    seconds = time.process_time() - begin
    bounds = np.zeros(train.shape[1] + 2, np.int64)
    bounds[block.rows + 1] = block.counts
    shape = (train.shape[1] + 1, len(positives))
    weights = scipy.sparse.csr_matrix((block.values, block.columns, np.cumsum(bounds)), shape)
    queries = scipy.sparse.hstack([test, np.ones((test.shape[0], 1), np.float32)], "csr")
    for threshold in THRESHOLDS:
        weights.data[np.abs(weights.data) < threshold] = 0
        weights.eliminate_zeros()
        yield {
            "threshold": threshold,
            "weights": weights.nnz,
            "cpu_seconds": round(seconds, 2),
            **scores(queries, weights, truth),
        }


def study_trees(name, options):
    """The same for trees of labels: leaves, thresholds, and how wide the search is."""
    from tfxc.ranker.chain import train_ranker
    from tfxc.ranker.search import Ranker
    from tfxc.ranker.settings import RankerSettings
    from tfxc.recipes.xr_linear.settings import TreeSettings

    train, test = parts_of(name, options)
    positives, truth = label_matrices(train, test, 1_000_000)
    columns = np.repeat(np.arange(len(positives)), [len(rows) for rows in positives])
    places = (np.concatenate(positives), columns)
    shape = (len(train), len(positives))
    labels = scipy.sparse.csr_matrix((np.ones(len(columns), np.float32), places), shape)
    texts = [[row["text"] for row in rows] for rows in (train, test)]
    current = None
    for view, leaf, cost, threshold in TREES:
        if view != "words" and name == "eurlex57k":
            continue
        if view != current:
            train_features, test_features = features(name, view, *texts)
            current = view
        begin = time.process_time()
        tree = TreeSettings({"max_leaf_size": leaf}).build(train_features, labels, 1)
        settings = RankerSettings(cost, cost, threshold=threshold)
        with tempfile.TemporaryDirectory() as folder:
            train_ranker(train_features, labels, tree, folder, settings)
            seconds = time.process_time() - begin
            ranker = Ranker.load(folder)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
            for beam in (10, 30):
                ids = ranker.predict(test_features, 5, beam_size=beam, threads=1)[0]
                hits = np.array(
                    [
                        [i >= 0 and i in true for i in row]
                        for row, true in zip(ids, truth, strict=True)
                    ]
                )
                line = {
                    "set": name,
                    "view": view,
                    "leaf": leaf,
                    "cost": cost,
                    "threshold": threshold,
                    "beam": beam,
                    "labels": len(positives),
                    "mb": size >> 20,
                    "cpu_seconds": round(seconds, 1),
                    "P@1": round(100 * float(hits[:, 0].mean()), 2),
                    "P@5": round(100 * float(hits.mean()), 2),
                }
                with open(options.json, "a") as stream:
                    stream.write(json.dumps(line) + "\n")


def scores(queries, weights, truth):
    hits = np.zeros(5)
    for begin in range(0, queries.shape[0], 500):
        part = (queries[begin : begin + 500] @ weights).toarray()
        best = np.argsort(-part, axis=1, kind="stable")[:, :5]
        for labels, row in zip(truth[begin : begin + 500], best, strict=True):
            hits[: len(row)] += [label in labels for label in row]
    means = np.cumsum(hits) / len(truth)
    return {"P@1": round(100 * float(means[0]), 2), "P@5": round(20 * float(means[4]), 2)}


def print_table(lines):
    table = {}
    for line in lines:
        setting = tuple(line[key] for key in KEYS)
        table.setdefault(line["set"], {})[setting] = line
    settings = set.intersection(*(set(rows) for rows in table.values()))
    loss = {
        name: {
            setting: sum(
                max(rows[other][score] for other in settings) - rows[setting][score]
                for score in ("P@1", "P@5")
            )
            for setting in settings
        }
        for name, rows in table.items()
    }

    def chosen(names):
        return min(settings, key=lambda setting: sum(loss[name][setting] for name in names))

    for name, rows in table.items():
        setting = chosen([other for other in table if other != name])
        line = rows[setting]
        print(f"{name:20}{line['P@1']:8.2f}{line['P@5']:8.2f}{loss[name][setting]:8.2f}  {setting}")
    ranked = sorted(settings, key=lambda setting: sum(loss[name][setting] for name in table))
    for setting in ranked[:12]:
        mean = sum(loss[name][setting] for name in table) / len(table)
        print(f"{mean:8.3f}  {dict(zip(KEYS, setting, strict=True))}")


if __name__ == "__main__":
    main()
