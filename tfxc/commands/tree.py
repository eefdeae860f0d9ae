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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfxc.core import cli
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import html_text, markdown_text, one_line

if TYPE_CHECKING:
    import scipy.sparse

    from tfxc.labels.cluster_tree import ClusterTree


_JOINED = ("join", "alpha")
_MIN_WIDTH = 3  # names by which a cluster is recognised


def main(argv: Sequence[str] | None = None) -> int:
    """Builds or shows a tree."""
    options = _parser().parse_args(argv)
    options.work(options)
    return 0


def _build(options: argparse.Namespace) -> None:
    """Builds the tree and prints its shape."""
    sources = [options.prepared_data, options.features or options.labels, options.label_vectors]
    if sum(source is not None for source in sources) != 1:
        options.parser.error(
            "give one of --prepared-data, --features with --labels, and --label-vectors"
        )
    joins = options.vectors == "pifa" and not options.label_vectors
    needs = [("label_features", joins, "PIFA, which is not computed")]
    needs += [(name, joins and options.label_features, "--label-features") for name in _JOINED]
    needs += [("max_nonzeros", joins and not options.label_features, "PIFA alone")]
    for name, applies, what in needs:
        if getattr(options, name) is not None and not applies:
            raise ConfigError(
                f"this option is used only with {what}",
                where=cli.option_of(name),
                fix="leave it out",
            )
    from tfxc.labels.tree_building import ClusteringSettings, build_tree

    vectors = label_vectors(options)
    begin = time.perf_counter()
    settings = ClusteringSettings(
        nr_splits=options.nr_splits,
        min_codes=options.min_codes,
        max_leaf_size=options.max_leaf_size,
        spherical=not options.means,
        max_iter=options.max_iter,
        min_sample_rate=options.min_sample_rate,
        max_sample_rate=options.max_sample_rate,
        warmup_ratio=options.warmup_ratio,
        seed=options.seed,
    )
    tree = build_tree(vectors, settings, threads=options.threads)
    seconds = time.perf_counter() - begin
    tree.save(options.output)
    print(f"{options.output}: built in {seconds:.1f} s")
    print(describe(tree, vectors))


def label_vectors(options: argparse.Namespace) -> "np.ndarray | scipy.sparse.csr_matrix":
    """Returns the vectors that the options describe."""
    from tfxc.data.reading.parsing.arrays import load_matrix
    from tfxc.data.sources.matrices import matrices
    from tfxc.labels.label_embeddings import pifa, pifa_with_label_features, pii
    from tfxc.labels.label_matrix import label_matrix

    if options.label_vectors:
        return load_matrix(options.label_vectors)
    if options.prepared_data:
        from tfxc.data.sources.shards import open_source
        from tfxc.data.store.preparation import check_prepared

        check_prepared(options.prepared_data)
        features, labels = matrices(open_source(options.prepared_data, "train"))
    else:
        if not (options.features and options.labels):
            raise ConfigError(
                "--features and --labels belong together, and one is missing", fix="add the other"
            )
        features = load_matrix(options.features)
        labels = label_matrix(load_matrix(options.labels), options.labels)
    if options.vectors == "pii":
        return pii(labels)
    if options.label_features:
        of_labels = load_matrix(options.label_features)
        joined = {"mode": options.join, "alpha": options.alpha}
        joined = {name: value for name, value in joined.items() if value is not None}
        return pifa_with_label_features(labels, features, of_labels, **joined)
    return pifa(labels, features, options.max_nonzeros or 0, options.threads)


def describe(tree: "ClusterTree", vectors: "np.ndarray | scipy.sparse.csr_matrix") -> str:
    """Returns lines on levels, leaves and labels without a vector."""
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


def _show(options: argparse.Namespace) -> None:
    """Prints or writes the tree."""
    writers = {".html": as_html, ".md": as_markdown}
    suffix = Path(options.output or "").suffix
    if options.output and suffix not in writers:
        raise ConfigError(
            f"a tree cannot be written as {options.output!r}",
            where="--output",
            fix="end the name in .html or .md",
        )
    from tfxc.core.storage.files import atomic_file
    from tfxc.labels.cluster_tree import ClusterTree

    named = NamedTree(ClusterTree.load(options.tree), options.names)
    if options.output:
        with atomic_file(options.output) as stream:
            for line in writers[suffix](named):
                stream.write(f"{line}\n")
        print(f"{options.output}: {one_line(named.title(-1, 0))}")
        return
    lines = (
        path_to(named, options.label)
        if options.label
        else as_text(named, options.depth, options.most)
    )
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
                    f"the file has {len(self.names):,} names, but the tree has "
                    f"{tree.num_labels:,} labels",
                    where="--names",
                    fix="name the labels.txt of the prepared data",
                )

    def children(self, level: int, node: int) -> list[int]:
        """Returns the nodes right under a node; the root is node 0 of level -1."""
        nodes, splits = self.tree.children(level + 1)
        return nodes[splits[node] : splits[node + 1]].tolist()

    def is_label(self, level: int) -> bool:
        """Tells whether the nodes of a level are labels."""
        return level == self.tree.depth - 1

    def title(self, level: int, node: int) -> str:
        """Returns what a node is called."""
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
    """Yields lines of the tree to a depth, indented."""
    yield "  " * (level + 1) + one_line(named.title(level, node))
    if level + 1 >= min(depth, named.tree.depth):
        return
    children = named.children(level, node)
    for child in children[:most]:
        yield from as_text(named, depth, most, level + 1, child)
    if len(children) > most:
        yield "  " * (level + 2) + f"… {len(children) - most:,} more"


def path_to(named: NamedTree, name: str) -> Iterator[str]:
    """Yields lines from the root to a label, then the labels that share its leaf."""
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
    """Yields lines of the whole tree as a nested list."""
    yield "  " * (level + 1) + f"- {markdown_text(named.title(level, node))}"
    if not named.is_label(level):
        for child in named.children(level, node):
            yield from as_markdown(named, level + 1, child)


def as_html(named: NamedTree) -> Iterator[str]:
    """Yields lines of a page on which every node unfolds."""
    yield '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Label tree</title>'
    yield "<style>body{font-family:sans-serif}details,p{margin:.2em 0 .2em 1.2em}</style>"
    yield "</head><body>"
    yield from _unfolding(named, -1, 0)
    yield "</body></html>"


def _unfolding(named: NamedTree, level: int, node: int) -> Iterator[str]:
    title = html_text(named.title(level, node))
    if named.is_label(level):
        yield f"<p>{title}</p>"
        return
    yield f"<details{' open' if level < 0 else ''}><summary>{title}</summary>"
    for child in named.children(level, node):
        yield from _unfolding(named, level + 1, child)
    yield "</details>"


def _parser() -> argparse.ArgumentParser:
    options = cli.parser("tree", __doc__)
    kinds = options.add_subparsers(metavar="WORK", required=True, title="work")

    def add(
        name: str, work: Callable[[argparse.Namespace], None], help_text: str
    ) -> argparse.ArgumentParser:
        kind = kinds.add_parser(name, help=help_text, description=help_text)
        kind.set_defaults(work=work, parser=kind)
        return kind

    _add_build_options(add("build", _build, "build a tree and write it to a file"))
    show = add("show", _show, "show a tree with the labels' names")
    show.add_argument("tree", metavar="FILE", help="tree that tfxc tree build has written")
    show.add_argument(
        "--names", metavar="FILE", help="file of the labels' names, one per line (default: numbers)"
    )
    show.add_argument(
        "--depth", type=cli.positive, default=2, help="levels to print (default: %(default)s)"
    )
    show.add_argument(
        "--most",
        type=cli.positive,
        default=20,
        help="most children of a node to print (default: %(default)s)",
    )
    show.add_argument("--label", metavar="NAME", help="show the path to this label")
    show.add_argument(
        "--output", metavar="FILE", help="write the complete tree to a .html or .md file"
    )
    return options


def _add_build_options(options: argparse.ArgumentParser) -> None:
    data = options.add_argument_group("data")
    data.add_argument("--prepared-data", metavar="FOLDER", help="prepared folder")
    data.add_argument(
        "--features", metavar="FILE", help="features X: a matrix with one row per example"
    )
    data.add_argument(
        "--labels",
        metavar="FILE",
        help="labels Y: a matrix with one row per example and one column per label",
    )
    data.add_argument(
        "--label-vectors",
        metavar="FILE",
        help="vectors of your own: a matrix with one row per label",
    )
    data.add_argument(
        "--vectors",
        choices=("pifa", "pii"),
        default="pifa",
        help="vectors to cluster the labels by (default: %(default)s)",
    )
    data.add_argument(
        "--max-nonzeros",
        type=cli.positive,
        help="keep this many of the greatest numbers in each label's PIFA, for less time and "
        "memory (default: all)",
    )
    data.add_argument(
        "--label-features",
        metavar="FILE",
        help="features to add to PIFA: a matrix with one row per label",
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
    tree = options.add_argument_group("tree")
    tree.add_argument(
        "--nr-splits",
        type=cli.positive,
        default=16,
        help="number of children of a node (default: 16)",
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
        help="share of the labels that the centres at the root are computed from (default: 1)",
    )
    tree.add_argument(
        "--max-sample-rate",
        type=cli.number,
        default=1.0,
        help="share of the labels that the centres at the leaves are computed from (default: 1)",
    )
    tree.add_argument(
        "--warmup-ratio",
        type=cli.number,
        default=0.4,
        help="share of the levels over which the first share changes to the second (default: "
        "%(default)s)",
    )
    tree.add_argument(
        "--seed", type=cli.seed, default=0, help="seed of the first centres (default: 0)"
    )
    tree.add_argument(
        "--threads", type=cli.positive, help="number of threads (default: one per core)"
    )
