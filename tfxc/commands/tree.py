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

Each node shows its number of labels and a few of their names. --label shows the path to a label and
its neighbours. --output writes the complete tree, as .html that can be unfolded, or as .md.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from tfxc.core.bounds import Count, Option, Share
from tfxc.core.command_options import parse
from tfxc.core.errors import ConfigError, option_of
from tfxc.core.escaping import html_text, markdown_text, one_line
from tfxc.labels.tree_building import ClusteringSettings, build_tree

if TYPE_CHECKING:
    import scipy.sparse

    from tfxc.labels.cluster_tree import ClusterTree

_JOINED = ("join", "alpha")
_MIN_WIDTH = 3  # names by which a cluster is recognised


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The vectors that labels are clustered by.

    Attributes:
        prepared_data: folder of the prepared data.
        features: features X: a matrix with one row per example.
        labels: labels Y: a matrix with one row per example and one column per label.
        label_vectors: your own vectors: a matrix with one row per label.
        vectors: vectors to cluster the labels by.
        max_nonzeros: keep only this many of the largest numbers in each label's PIFA, to save time
            and memory; None means all.
        label_features: features to add to PIFA: a matrix with one row per label.
        join: concatenate PIFA and label features, or use alpha PIFA + (1 - alpha) label features;
            None means concat.
        alpha: weight of PIFA with --join convex; None means 0.5.
    """

    prepared_data: Annotated[str | None, Option("FOLDER")] = None
    features: Annotated[str | None, Option("FILE")] = None
    labels: Annotated[str | None, Option("FILE")] = None
    label_vectors: Annotated[str | None, Option("FILE")] = None
    vectors: Literal["pifa", "pii"] = "pifa"
    max_nonzeros: Count | None = None
    label_features: Annotated[str | None, Option("FILE")] = None
    join: Literal["concat", "convex"] | None = None
    alpha: Share | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Build a tree and write it to a file.

    Attributes:
        output: .npz file to write.
        means: do not scale centres to unit length.
        threads: number of threads; None means one per core.
        data: data
        tree: tree
    """

    output: Annotated[str, Option("FILE", mirror="writes")]
    means: bool = False
    threads: Count | None = None
    data: DataOptions = dataclasses.field(default_factory=DataOptions)
    tree: ClusteringSettings = dataclasses.field(default_factory=ClusteringSettings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """Show a tree with the labels' names.

    Attributes:
        tree: tree that tfxc tree build has written.
        names: file with the labels' names, one per line; None means numbers.
        depth: levels to print.
        most: print at most this many children of a node.
        label: show the path to this label.
        output: write the complete tree to a .html or .md file.
    """

    tree: Annotated[str, Option("FILE", positional=True)]
    names: Annotated[str | None, Option("FILE")] = None
    depth: Count = 2
    most: Count = 20
    label: Annotated[str | None, Option("NAME")] = None
    output: Annotated[str | None, Option("FILE", mirror="writes")] = None


Options = {"build": BuildOptions, "show": ShowOptions}


def main(argv: Sequence[str] | None = None) -> int:
    """Builds or shows a tree."""
    options: object = parse(Options, argv, "tree", __doc__)
    if isinstance(options, BuildOptions):
        _build(options)
    elif isinstance(options, ShowOptions):
        _show(options)
    return 0


def _build(options: BuildOptions) -> None:
    """Builds the tree and prints its shape."""
    data = options.data
    sources = [data.prepared_data, data.features or data.labels, data.label_vectors]
    if sum(source is not None for source in sources) != 1:
        raise ConfigError(
            "labels are clustered by one of --prepared-data, --features with --labels, and "
            "--label-vectors",
            fix="give one of these",
        )
    joins = data.vectors == "pifa" and not data.label_vectors
    needs = [("label_features", joins, "PIFA, which is not computed")]
    needs += [
        (name, joins and data.label_features is not None, "--label-features") for name in _JOINED
    ]
    needs += [("max_nonzeros", joins and not data.label_features, "PIFA alone")]
    for name, applies, what in needs:
        if getattr(data, name) is not None and not applies:
            raise ConfigError(
                f"this option is used only with {what}",
                where=option_of(name),
                fix="leave it out",
            )
    vectors = label_vectors(data, options.threads)
    begin = time.perf_counter()
    settings = dataclasses.replace(options.tree, spherical=not options.means)
    tree = build_tree(vectors, settings, threads=options.threads)
    seconds = time.perf_counter() - begin
    tree.save(options.output)
    print(f"{options.output}: built in {seconds:.1f} s")
    print(describe(tree, vectors))


def label_vectors(
    options: DataOptions, threads: int | None = None
) -> "np.ndarray | scipy.sparse.csr_matrix":
    """Returns the vectors that the options describe.

    Args:
        options: of the vectors.
        threads: number of threads; None means one per core.
    """
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
                "--features and --labels need each other, and one is missing", fix="add the other"
            )
        features = load_matrix(options.features)
        labels = label_matrix(load_matrix(options.labels), options.labels)
    if options.vectors == "pii":
        return pii(labels)
    if options.label_features:
        of_labels = load_matrix(options.label_features)
        alpha = 0.5 if options.alpha is None else options.alpha
        return pifa_with_label_features(
            labels, features, of_labels, options.join or "concat", alpha
        )
    return pifa(labels, features, options.max_nonzeros or 0, threads)


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


def _show(options: ShowOptions) -> None:
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
