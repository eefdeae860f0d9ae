"""Build a tree of label clusters and write it to a file.

    python tools/build_tree.py --prepared-data prepared/eurlex57k-6e451f99 --output tree.npz
    python tools/build_tree.py --features X.trn.npz --labels Y.trn.npz --output tree.npz
    python tools/build_tree.py --label-vectors Z.npy --output tree.npz

Labels are clustered by what their training examples have in common (PIFA), by which examples they
share (PII), or by vectors you provide. Matrices are sparse .npz or dense .npy files.
tools/show_tree.py shows the result, docs/xr_linear.md describes the settings.
"""

import time

import numpy as np

from tfxc.core import cli
from tfxc.core.errors import ConfigError

_JOINED = ("join", "alpha")


def main(argv=None):
    """Builds the tree and prints its shape."""
    options = _parser()
    found = options.parse_args(argv)
    given = [found.prepared_data, found.features or found.labels, found.label_vectors]
    if sum(value is not None for value in given) != 1:
        options.error("give one of --prepared-data, --features with --labels, and --label-vectors")
    _refuse_unused(found)
    from tfxc.labels.tree_building import ClusteringSettings, build_tree

    vectors = label_vectors(found)
    begin = time.perf_counter()
    settings = ClusteringSettings(
        nr_splits=found.nr_splits,
        min_codes=found.min_codes,
        max_leaf_size=found.max_leaf_size,
        spherical=not found.means,
        max_iter=found.max_iter,
        min_sample_rate=found.min_sample_rate,
        max_sample_rate=found.max_sample_rate,
        warmup_ratio=found.warmup_ratio,
        seed=found.seed,
    )
    tree = build_tree(vectors, settings, threads=found.threads)
    seconds = time.perf_counter() - begin
    tree.save(found.output)
    print(f"{found.output}: built in {seconds:.1f} s")
    print(describe(tree, vectors))
    return 0


def _refuse_unused(found):
    joins = found.vectors == "pifa" and not found.label_vectors
    needs = [("label_features", joins, "PIFA, which is not computed")]
    needs += [(name, joins and found.label_features, "--label-features") for name in _JOINED]
    for name, good, what in needs:
        if getattr(found, name) is not None and not good:
            raise ConfigError(
                f"this option is used only with {what}",
                where=f"--{name.replace('_', '-')}",
                fix="leave it out",
            )


def label_vectors(found):
    """The vectors that the options describe."""
    from tfxc.data.parsing.arrays import load_matrix
    from tfxc.data.sources.matrices import matrices
    from tfxc.labels.label_embeddings import pifa, pifa_with_label_features, pii

    if found.label_vectors:
        return load_matrix(found.label_vectors)
    if found.prepared_data:
        from tfxc.data.preparation import check_prepared
        from tfxc.data.sources.shards import open_source

        check_prepared(found.prepared_data)
        features, labels = matrices(open_source(found.prepared_data, "train"))
    else:
        if not (found.features and found.labels):
            raise ConfigError(
                "both --features and --labels expected, found one", fix="add the other"
            )
        features, labels = load_matrix(found.features), load_matrix(found.labels)
    if found.vectors == "pii":
        return pii(labels)
    if found.label_features:
        given = load_matrix(found.label_features)
        joined = {"mode": found.join, "alpha": found.alpha}
        joined = {name: value for name, value in joined.items() if value is not None}
        return pifa_with_label_features(labels, features, given, **joined)
    return pifa(labels, features)


def describe(tree, vectors):
    """Lines on levels, leaves and labels without a vector."""
    lines = [f"levels: {', '.join(f'{size:,}' for size in tree.sizes)} (the last are the labels)"]
    leaves = np.diff(tree.children(tree.depth - 1)[1])
    lines.append(
        f"leaves: {len(leaves):,} of {leaves.min():,} to {leaves.max():,} labels, "
        f"{leaves.mean():.1f} on average"
    )
    empty = int(np.sum(np.asarray(abs(vectors).sum(axis=1)).ravel() == 0))
    if empty:
        lines.append(f"labels without an example or a vector: {empty:,}, put where there was room")
    return "\n".join(lines)


def _parser():
    options = cli.tool_parser("build_tree", __doc__)
    data = options.add_argument_group("data")
    data.add_argument("--prepared-data", metavar="FOLDER", help="prepared folder")
    data.add_argument("--features", metavar="FILE", help="matrix X, one row per example")
    data.add_argument(
        "--labels", metavar="FILE", help="matrix Y, one row per example, one column per label"
    )
    data.add_argument("--label-vectors", metavar="FILE", help="matrix, one row per label")
    data.add_argument(
        "--vectors",
        choices=("pifa", "pii"),
        default="pifa",
        help="vectors of the labels (default: %(default)s)",
    )
    data.add_argument(
        "--label-features", metavar="FILE", help="matrix, one row per label, to add to PIFA"
    )
    data.add_argument(
        "--join",
        choices=("concat", "convex"),
        help="concatenate PIFA and label features, or use alpha PIFA + (1 - alpha) label features "
        "(default: concat)",
    )
    data.add_argument(
        "--alpha", type=cli.number, help="weight of PIFA with --join convex (default: 0.5)"
    )
    options.add_argument("--output", required=True, metavar="FILE", help=".npz file to write")
    _add_tree_options(options.add_argument_group("tree"))
    return options


def _add_tree_options(tree):
    tree.add_argument(
        "--nr-splits", type=cli.positive, default=16, help="children per node (default: 16)"
    )
    tree.add_argument(
        "--min-codes",
        type=cli.positive,
        help="largest number of nodes of the first level (default: --nr-splits)",
    )
    tree.add_argument(
        "--max-leaf-size",
        type=cli.positive,
        default=100,
        help="largest number of labels per leaf (default: 100)",
    )
    tree.add_argument("--means", action="store_true", help="do not scale centres to unit length")
    tree.add_argument(
        "--max-iter", type=cli.positive, default=20, help="iterations of 2-means (default: 20)"
    )
    tree.add_argument(
        "--min-sample-rate", type=cli.number, default=1.0,
        help="share of the labels from which centres are found at the root (default: 1)",
    )  # fmt: skip
    tree.add_argument(
        "--max-sample-rate",
        type=cli.number,
        default=1.0,
        help="the same at the leaves (default: 1)",
    )
    tree.add_argument(
        "--warmup-ratio", type=cli.number, default=0.4,
        help="share of the levels over which the share increases (default: %(default)s)",
    )  # fmt: skip
    tree.add_argument(
        "--seed", type=cli.seed, default=0, help="seed of the first centres (default: 0)"
    )
    tree.add_argument(
        "--threads", type=cli.positive, help="number of threads (default: one per core)"
    )


if __name__ == "__main__":
    cli.run(main)
