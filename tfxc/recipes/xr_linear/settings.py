"""The sections ``tree`` and ``ranker`` of a recipe's config, checked."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import MinLen

from tfxc.core.declared import Count, Natural, Share, check, check_section, checked
from tfxc.core.errors import ConfigError, inside
from tfxc.data.reading.parsing.arrays import load_matrix
from tfxc.data.reading.source_files import expand
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.label_embeddings import Mode, pifa, pifa_with_label_features, pii
from tfxc.labels.tree_building import ClusteringSettings, build_tree
from tfxc.ranker.negatives import scheme_of
from tfxc.ranker.settings import RankerSettings

if TYPE_CHECKING:
    import scipy.sparse

    from tfxc.core.settings import DataSettings


#: Keys of the section ``ranker`` that name a matrix of the training examples, and which setting
#: needs one of them.
MATRIX_FILES = {
    "relevance_file": "ranker-only",
    "negative_labels_file": "usn",
    "negative_clusters_file": "usn",
}
# What determines the sizes of the levels.
_SHAPE = ("nr_splits", "min_codes", "max_leaf_size")
_ABOVE = ("nr_splits", "min_codes")
_TEXTS = "texts"  # in place of a file: the features of data.label_texts


_FileName = Annotated[str, MinLen(1)]


@checked
@dataclasses.dataclass(frozen=True)
class TreeSection(ClusteringSettings):
    """The keys of a config's section ``tree``, see ``TreeSettings``."""

    label_embedding: Literal["pifa", "pii", "given"] = "pifa"
    label_features: _FileName | None = None
    join: Mode = "concat"
    alpha: Share = 0.5
    max_nonzeros: Natural = 0
    file: _FileName | None = None
    threads: Count | None = None


class TreeSettings:
    """How the labels are clustered.

    Args:
        section: what differs from the defaults of ``labels.tree_building.ClusteringSettings``, and
            what the labels are clustered by: ``label_embedding``, ``"pifa"``, ``"pii"`` or
            ``"given"``; ``max_nonzeros`` of PIFA, see ``labels.label_embeddings.pifa``;
            ``label_features``, a ``.npy`` or ``.npz`` file with a row for each label, or
            ``"texts"`` for the features of the labels' texts, which is taken as given or joins PIFA
            as ``join`` (``"concat"`` or ``"convex"``) and ``alpha`` say. Or ``file`` alone, a tree
            to take as it is: one of ``tfxc tree build``, or one of PECOS, see
            ``labels.pecos_tree.load_tree``; with
            ``nr_splits`` and ``min_codes`` if it has leaves only. Rows and tree are in the order of
            the prepared data's ``labels.txt``.
        seed: where ``section`` has none.
        where: config key, for messages.
        where_shape: the same for what determines the levels' sizes; None means ``where``.
        above: ``nr_splits`` and ``min_codes`` of a file with leaves only; the section's count more.

    Raises:
        ConfigError: an unknown key, an invalid value, or keys that cannot be combined.

    Example:
        >>> TreeSettings({"max_leaf_size": 10}).arguments
        {'seed': 0, 'max_leaf_size': 10}
    """

    def __init__(
        self,
        section: Mapping[str, Any] | None = None,
        seed: int = 0,
        where: str = "recipe.tree",
        where_shape: str | None = None,
        above: Mapping[str, Any] | None = None,
    ) -> None:
        check_section(TreeSection, _mapping(section, where), where, "the tree")
        rest = dict(section or {})
        self._where = where
        self._where_shape = where_shape or where
        self.file = rest.pop("file", None)
        self._above: dict[str, Any] = {}
        if self.file is not None:
            self._above = {key: rest.pop(key) for key in _ABOVE if key in rest}
        self._default_above = dict(above or {})
        if self.file is not None and rest:
            raise ConfigError(
                "this key is not used with a tree from a file",
                where=f"{where}.{next(iter(rest))}",
                fix="remove it, or the file",
            )
        self.label_embedding = rest.pop("label_embedding", "pifa")
        self.label_features = rest.pop("label_features", None)
        self.max_nonzeros = rest.pop("max_nonzeros", 0)
        self.joined: dict[str, Any] = {
            key: rest.pop(key) for key in ("join", "alpha") if key in rest
        }
        self.arguments = {"seed": seed, **rest}
        if "alpha" in self.joined and self.joined.get("join") != "convex":
            raise ConfigError(
                "this key is used only with join 'convex'",
                where=f"{self._where}.alpha",
                fix="remove it, or set join",
            )
        features = self.label_features is not None
        kind = self.label_embedding
        if self.max_nonzeros and (features or kind != "pifa"):
            raise ConfigError(
                "this key is used only with label_embedding 'pifa' without label_features",
                where=f"{self._where}.max_nonzeros",
                fix="remove it",
            )
        useless: list[str] = [] if features and kind == "pifa" else list(self.joined)
        if features and kind == "pii":
            useless = ["label_features"]
        if useless:
            raise ConfigError(
                "this key is used only with label_embedding 'pifa' and label_features",
                where=f"{self._where}.{useless[0]}",
                fix="remove it",
            )
        if kind == "given" and not features:
            raise ConfigError(
                "label_embedding 'given' needs label_features",
                where=f"{self._where}.label_features",
                fix="name their file there, or use another label_embedding",
            )

    def sizes(self, num_labels: int, num_features: int) -> list[int]:
        """Counts the nodes of every level from the top; checks files against the data.

        Args:
            num_labels: of the data.
            num_features: by which the labels are clustered.

        Raises:
            ConfigError: the labels cannot be clustered so, or a file is of other labels.
            DataError: a file is missing or damaged.
        """
        if self.label_features is not None and not self.reads_texts:
            self._label_features(num_labels, num_features)
        if self.file is not None:
            return self._tree(num_labels).sizes
        return self._clustering.level_sizes(num_labels)

    @property
    def reads_texts(self) -> bool:
        """Whether the labels are clustered by their texts, too."""
        return self.label_features == _TEXTS

    def check_texts(self, data: "DataSettings") -> None:
        """Refuses to cluster by texts that there are not.

        Args:
            data: of the config.

        Raises:
            ConfigError: it has no label texts.
        """
        if self.reads_texts and data.label_texts is None:
            raise self._no_texts()

    def _no_texts(self) -> ConfigError:
        return ConfigError(
            "'texts' needs data.label_texts",
            where=f"{self._where}.label_features",
            fix="name their file there, or 'names'; or name a file of vectors here",
        )

    def build(
        self,
        features: "np.ndarray | scipy.sparse.csr_matrix",
        labels: "scipy.sparse.csr_matrix",
        threads: int | None = None,
        texts: "Callable[[], scipy.sparse.csr_matrix] | None" = None,
    ) -> ClusterTree:
        """Builds the ``ClusterTree`` of label matrix Y and feature matrix X.

        Args:
            features, labels: of the training examples.
            threads: at most this many; None means all cores.
            texts: function that returns the features of the labels' texts, (labels, any), where
                ``reads_texts``.
        """
        threads = self.arguments.get("threads", threads)
        if self.file is not None:
            return self._tree(labels.shape[1])
        if self.label_embedding == "given":
            vectors = self._label_features(labels.shape[1], features.shape[1], texts)
        elif self.label_features is not None:
            label_features = self._label_features(labels.shape[1], features.shape[1], texts)
            mode = self.joined.get("join", "concat")
            alpha = self.joined.get("alpha", 0.5)
            vectors = pifa_with_label_features(labels, features, label_features, mode, alpha)
        elif self.label_embedding == "pii":
            vectors = pii(labels)
        else:
            vectors = pifa(labels, features, self.max_nonzeros, threads)
        return build_tree(vectors, self._clustering, threads=threads)

    @property
    def _clustering(self) -> ClusteringSettings:
        arguments = {key: value for key, value in self.arguments.items() if key != "threads"}
        not_of_shape = [key for key in arguments if key not in _SHAPE]
        with inside(self._where, not_of_shape), inside(self._where_shape, _SHAPE):
            return ClusteringSettings(**arguments)

    def _tree(self, num_labels: int) -> ClusterTree:
        """Loads the tree of the file, which has to be over this many labels."""
        from tfxc.labels.pecos_tree import is_leaf_matrix, load_tree

        path = expand(self.file)
        if self._above and not is_leaf_matrix(path):
            raise ConfigError(
                "this key has no effect on a complete tree, only on a matrix of labels and leaves",
                where=f"{self._where}.{next(iter(self._above))}",
                fix="remove it, or the file",
            )
        with inside(self._where):
            tree = load_tree(path, {**self._default_above, **self._above})
        if tree.num_labels != num_labels:
            raise ConfigError(
                f"the tree has {tree.num_labels:,} labels, the data {num_labels:,}",
                where=f"{self._where}.file",
                fix="build it from the prepared data",
            )
        return tree

    def _label_features(
        self,
        num_labels: int,
        num_features: int,
        texts: "Callable[[], scipy.sparse.csr_matrix] | None" = None,
    ) -> "np.ndarray | scipy.sparse.csr_matrix":
        """Loads the labels' vectors from the file, or makes them from their texts."""
        if self.reads_texts:
            if texts is None:
                raise self._no_texts()
            features = texts()
        else:
            features = load_matrix(expand(self.label_features))
        width = num_features if self.joined.get("join") == "convex" else features.shape[1]
        if features.shape != (num_labels, width):
            raise ConfigError(
                f"the matrix has the shape {features.shape} instead of {(num_labels, width)}: a "
                "row for each label",
                where=f"{self._where}.label_features",
                fix="give the rows in the order of the prepared data's labels.txt",
            )
        return features


def ranker_settings(
    section: Mapping[str, Any] | None = None,
    seed: int = 0,
    provided: Collection[str] = (),
) -> RankerSettings:
    """Returns the ``RankerSettings`` of a config section.

    Args:
        section: dict, keys see ``RankerSettings``; those whose value may differ between layers may
            have a list.
        seed: where ``section`` has none.
        provided: values (``"usn"``, ``"ranker-only"``) whose matrices there are.

    Raises:
        ConfigError: an unknown key, a value of another kind, or one that needs a matrix that is not
            provided.

    Example:
        >>> ranker_settings({"threshold": 0.01}).threshold
        0.01
    """
    section = _mapping(section, "recipe.ranker")
    for key in MATRIX_FILES:
        if key in section:
            raise ConfigError(
                "only a training with recipe 'xr_linear' reads matrices of the training examples",
                where=f"recipe.ranker.{key}",
                fix="remove it",
            )
    check_section(RankerSettings, section, "recipe.ranker", "the ranker")
    settings = RankerSettings(**{"seed": seed, **section})
    negatives = settings.negatives
    schemes = [negatives] if isinstance(negatives, str) else negatives
    where = "recipe.ranker.negatives"
    parts = {part for text in schemes for part in scheme_of(text, where=where)}
    modes = {settings.relevance_mode}
    for key, value, used in (("negatives", "usn", parts), ("relevance_mode", "ranker-only", modes)):
        if value in used and value not in provided:
            raise ConfigError(
                f"{value!r} needs a matrix",
                where=f"recipe.ranker.{key}",
                fix="leave it out, or with recipe 'xr_linear' name a file: "
                + " or ".join(name for name, of in MATRIX_FILES.items() if of == value),
            )
    return settings


def checked_settings(settings: RankerSettings, sizes: Sequence[int]) -> RankerSettings:
    """Checks the settings of a ranker that finds labels by itself, on levels of these sizes.

    Raises:
        ConfigError: they do not fit.
    """
    if settings.mode != "full-model":
        raise ConfigError(
            f"must be 'full-model' here, not {settings.mode!r}",
            where="recipe.ranker.mode",
            fix="set it to 'full-model'",
        )
    settings.check(sizes, "recipe.ranker")
    return settings


def _mapping(section: Mapping[str, Any] | None, where: str) -> Mapping[str, Any]:
    return check(Mapping[str, Any], where, {} if section is None else section)
