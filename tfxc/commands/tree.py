"""Build a tree of label clusters, or show one with the labels' names.

    tfxc tree build --prepared-data prepared/eurlex57k-6e451f99 --output tree.npz
    tfxc tree build --features X.trn.npz --labels Y.trn.npz --output tree.npz
    tfxc tree build --label-vectors Z.npy --output tree.npz
    tfxc tree show tree.npz --names prepared/SET/labels.txt
    tfxc tree show tree.npz --names labels.txt --label baking
    tfxc tree show tree.npz --names labels.txt --output tree.html

Labels are clustered by what their training examples have in common (PIFA), by which examples they
share (PII), or by vectors you provide. Matrices are sparse .npz or dense .npy files.
docs/xr_linear.md describes the settings.

A node is shown as its number of labels and a few of their names. --label shows the path to a label
and its neighbours. --output writes the complete tree, as .html that can be unfolded, or as .md.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core import cli
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import html_text, markdown_text, one_line

if TYPE_CHECKING:
    from tfxc.labels.cluster_tree import ClusterTree


_JOINED = ("join", "alpha")
_MIN_WIDTH = 3  # names by which a cluster is recognised


def main(argv: Sequence[str] | None = None) -> int:
    """Builds or shows a tree."""
    options = _parser().parse_args(argv)
    options.work(options)
    return 0


def _build(found):
    """Builds the tree and prints its shape."""
    given = [found.prepared_data, found.features or found.labels, found.label_vectors]
    if sum(value is not None for value in given) != 1:
        found.parser.error(
            "give one of --prepared-data, --features with --labels, and --label-vectors"
        )
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


def _refuse_unused(found):
    joins = found.vectors == "pifa" and not found.label_vectors
    needs = [("label_features", joins, "PIFA, which is not computed")]
    needs += [(name, joins and found.label_features, "--label-features") for name in _JOINED]
    needs += [("max_nonzeros", joins and not found.label_features, "PIFA alone")]
    for name, good, what in needs:
        if getattr(found, name) is not None and not good:
            raise ConfigError(
                f"this option is used only with {what}",
                where=cli.option_of(name),
                fix="leave it out",
            )


def label_vectors(found: argparse.Namespace) -> Any:
    """The vectors that the options describe."""
    from tfxc.data.parsing.arrays import load_matrix
    from tfxc.data.sources.matrices import matrices
    from tfxc.labels.label_embeddings import pifa, pifa_with_label_features, pii
    from tfxc.labels.label_matrix import label_matrix

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
        features = load_matrix(found.features)
        labels = label_matrix(load_matrix(found.labels), found.labels)
    if found.vectors == "pii":
        return pii(labels)
    if found.label_features:
        given = load_matrix(found.label_features)
        joined = {"mode": found.join, "alpha": found.alpha}
        joined = {name: value for name, value in joined.items() if value is not None}
        return pifa_with_label_features(labels, features, given, **joined)
    return pifa(labels, features, found.max_nonzeros or 0, found.threads)


def describe(tree: "ClusterTree", vectors: Any) -> str:
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


def _show(found):
    """Prints or writes the tree."""
    writers = {".html": as_html, ".md": as_markdown}
    suffix = Path(found.output).suffix if found.output else None
    if found.output and suffix not in writers:
        raise ConfigError(
            f"a name that ends in .html or .md expected, found {found.output!r}", where="--output"
        )
    from tfxc.core.storage.files import atomic_file
    from tfxc.labels.cluster_tree import ClusterTree

    named = NamedTree(ClusterTree.load(found.tree), found.names)
    if found.output:
        with atomic_file(found.output) as stream:
            stream.writelines(f"{line}\n" for line in writers[suffix](named))
        print(f"{found.output}: {one_line(named.title(-1, 0))}")
        return
    lines = path_to(named, found.label) if found.label else as_text(named, found.depth, found.most)
    print("\n".join(lines))


class NamedTree:
    """A tree whose labels have names.

    Args:
        tree: ``ClusterTree``.
        path: file with a name per label; None = the labels' numbers.

    Raises:
        ConfigError: the file has another number of names.
    """

    def __init__(self, tree: "ClusterTree", path: str | None = None) -> None:
        from tfxc.labels.vocabulary import LabelVocabulary

        self.tree = tree
        self.names = [str(label) for label in range(tree.num_labels)]
        if path:
            self.names = LabelVocabulary.load(path).names
            if len(self.names) != tree.num_labels:
                raise ConfigError(
                    f"{tree.num_labels:,} names, one for each label of the tree, expected, "
                    f"found {len(self.names):,}",
                    where="--names",
                )

    def children(self, level: int, node: int) -> list[int]:
        """Nodes of the level below that are under a node; the root is node 0 of level -1."""
        nodes, splits = self.tree.children(level + 1)
        return nodes[splits[node] : splits[node + 1]].tolist()

    def is_label(self, level: int) -> bool:
        """Whether the nodes of a level are labels."""
        return level == self.tree.depth - 1

    def title(self, level: int, node: int) -> str:
        """What a node is called."""
        if self.is_label(level):
            return self.names[node]
        labels = range(len(self.names)) if level < 0 else self.tree.labels_under(level, node)
        names = ", ".join(self.names[label] for label in labels[:_MIN_WIDTH])
        more = ", …" if len(labels) > _MIN_WIDTH else ""
        what = "all" if level < 0 else f"cluster {level}.{node}"
        return f"{what}: {len(labels):,} labels ({names}{more})"


def as_text(
    named: NamedTree, depth: int, most: int, level: int = -1, node: int = 0
) -> Iterator[str]:
    """Lines of the tree to a depth, indented."""
    yield "  " * (level + 1) + one_line(named.title(level, node))
    if level + 1 >= min(depth, named.tree.depth):
        return
    children = named.children(level, node)
    for child in children[:most]:
        yield from as_text(named, depth, most, level + 1, child)
    if len(children) > most:
        yield "  " * (level + 2) + f"… {len(children) - most:,} more"


def path_to(named: NamedTree, name: str) -> Iterator[str]:
    """Lines from the root to a label, then the labels that share its leaf."""
    from tfxc.core.registry import nearest

    if name not in named.names:
        raise ConfigError(f"unknown label {name!r}{nearest(name, named.names)}", where="--label")
    way = [named.names.index(name)]
    for parents in named.tree.parents[:0:-1]:
        way.insert(0, int(parents[way[0]]))
    above = 0 if len(way) == 1 else way[-2]
    last = named.tree.depth - 1
    for level, node in enumerate([0, *way], -1):
        yield "  " * (level + 1) + one_line(named.title(level, node))
    others = [label for label in named.children(last - 1, above) if label != way[-1]]
    names = ", ".join(one_line(named.names[label]) for label in others)
    yield f"next to it: {names or 'nothing'}"


def as_markdown(named: NamedTree, level: int = -1, node: int = 0) -> Iterator[str]:
    """Lines of the whole tree as a nested list."""
    yield "  " * (level + 1) + f"- {markdown_text(named.title(level, node))}"
    if not named.is_label(level):
        for child in named.children(level, node):
            yield from as_markdown(named, level + 1, child)


def as_html(named: NamedTree) -> Iterator[str]:
    """Lines of a page on which every node unfolds."""
    yield '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Label tree</title>'
    yield "<style>body{font-family:sans-serif}details,p{margin:.2em 0 .2em 1.2em}</style>"
    yield "</head><body>"
    yield from _unfolding(named, -1, 0)
    yield "</body></html>"


def _unfolding(named, level, node):
    title = html_text(named.title(level, node))
    if named.is_label(level):
        yield f"<p>{title}</p>"
        return
    yield f"<details{' open' if level < 0 else ''}><summary>{title}</summary>"
    for child in named.children(level, node):
        yield from _unfolding(named, level + 1, child)
    yield "</details>"


def _parser():
    options = cli.parser("tree", __doc__)
    kinds = options.add_subparsers(metavar="WORK", required=True, title="work")

    def add(name, work, help_text):
        kind = kinds.add_parser(name, help=help_text, description=help_text)
        kind.set_defaults(work=work, parser=kind)
        return kind

    _add_build_options(add("build", _build, "build a tree and write it to a file"))
    _add_show_options(add("show", _show, "show a tree with the labels' names"))
    return options


def _add_build_options(options):
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
        "--max-nonzeros",
        type=cli.positive,
        help="of PIFA the greatest numbers of each label, for less time and memory (default: all)",
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
        "--min-sample-rate",
        type=cli.number,
        default=1.0,
        help="share of the labels from which centres are found at the root (default: 1)",
    )
    tree.add_argument(
        "--max-sample-rate",
        type=cli.number,
        default=1.0,
        help="the same at the leaves (default: 1)",
    )
    tree.add_argument(
        "--warmup-ratio",
        type=cli.number,
        default=0.4,
        help="share of the levels over which the share increases (default: %(default)s)",
    )
    tree.add_argument(
        "--seed", type=cli.seed, default=0, help="seed of the first centres (default: 0)"
    )
    tree.add_argument(
        "--threads", type=cli.positive, help="number of threads (default: one per core)"
    )


def _add_show_options(options):
    options.add_argument("tree", metavar="FILE", help="tree that tfxc tree build has written")
    options.add_argument(
        "--names", metavar="FILE", help="file of the labels' names, one per line (default: numbers)"
    )
    options.add_argument(
        "--depth", type=cli.positive, default=2, help="levels to print (default: %(default)s)"
    )
    options.add_argument(
        "--most",
        type=cli.positive,
        default=20,
        help="most children of a node to print (default: %(default)s)",
    )
    options.add_argument("--label", metavar="NAME", help="show the path to this label")
    options.add_argument(
        "--output", metavar="FILE", help="write the complete tree to a .html or .md file"
    )
