"""One vector per label, which the encoder makes of the label's text."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Unpack

import keras
import numpy as np
import tensorflow as tf
from annotated_types import Ge, Le

from tfxc.core.declared import Count, FromData, LayerArguments, Natural, Positive
from tfxc.core.errors import ConfigError
from tfxc.core.progress import Progress
from tfxc.data.examples.kinds import TOKENS
from tfxc.data.label_texts.prepared import LabelTexts
from tfxc.heads.base import Head, seen_labels
from tfxc.heads.label_text.columns import Columns, columns_of, drawn_labels, without_twins
from tfxc.heads.label_text.queue import WEIGHT, LabelQueue
from tfxc.heads.label_text.text_table import TextTable
from tfxc.ops.logit_group import LogitGroup
from tfxc.ops.margins import at_positives, unit_rows
from tfxc.ops.randomness import current_examples, in_training_step, random_bits
from tfxc.ops.search.nearest import InnerProducts
from tfxc.ops.search.similarity import cosines_to_row
from tfxc.ops.search.top_k import read_once, rows_between
from tfxc.ops.tables.large_weights import assign_rows

if TYPE_CHECKING:
    from tfxc.data.sources.providers import TrainingData

_LARGEST_SCALE = 100.0  # of the cosines: one over the temperature
_START = 0.01  # of the own vectors of labels without a text
_AT_ONCE = 256  # texts encoded at a time
_BLOCK = 65_536  # labels whose vectors are in memory twice
_MINED = 1 << 20  # added to the seed where mined labels are drawn
_COLUMNS = 1024  # assumed where memory is estimated


def _label_counts(data: "TrainingData") -> np.ndarray:
    return data.source.label_counts()


def _label_texts(data: "TrainingData") -> "LabelTexts":
    data.make()
    texts = data.source.label_texts()
    if texts is None:
        raise ConfigError(
            "head 'label_text' needs texts of the labels",
            where="data.label_texts",
            fix="name their file, or 'names' for the labels' names",
        )
    return texts


@keras.saving.register_keras_serializable("tfxc")
class LabelText(Head):
    """Cosines between an example's vector and those of the labels' texts, by the same encoder.

    The vector of label l is ``unit(unit(E(text)) + r)``, with ``r = 0`` without ``free_vectors``. A
    step scores some labels (*columns*): true labels of the batch's examples, and others that are
    hard to tell from them. Labels without a training example are found as well, by their texts;
    they are no columns, as they would be taught to be always wrong.

    After training the vectors of all labels are weights of the run (``label_vectors``): a search
    reads these and no text.

    Args:
        num_labels: number of labels N (from the data).
        columns: ``"batch"``: the true labels of all examples of the batch, over all replicas;
            ``"all"``: every label with training examples, for up to some thousand.
        positives: how many true labels of each example are columns, drawn for each step; None
            for all of them. The others do not count as wrong.
        self_negatives: whether the label whose text is the example's own is a column, as a wrong
            one unless it is true: it is the nearest by its text. See ``data.self_part``.
        mined: how many labels that are hard to tell from the true ones are columns for each
            example, drawn for each step out of its ``mined_candidates``; 0 for none.
        mined_candidates: wrong labels that a search of the training split finds first.
        mine_from: epochs before the first search, or the first near batches.
        refresh: epochs between two searches, or before batches are made of other groups.
        batching: ``"random"``, or ``"near"``: a batch is made of groups of examples whose vectors
            are near each other, so that its columns are hard to tell apart.
        near_size: most examples of such a group.
        pre_batch: how many batches before have their columns scored as wrong ones, too, by the
            vectors that they had then and with half the score; needs ``columns="batch"``.
        margin: what the cosine of a true label falls short by in training.
        temperature: of the scores, which are cosines divided by it; at least 0.01.
        train_temperature: whether it is trained, from this one on.
        score_bias: added to all scores and trained, from this one on; for objectives that decide on
            each label, such as ``sigmoid``, for which a cosine of 0 should not be a probability of
            one half. None for no bias; those that only compare labels need none.
        free_vectors: whether each label has a trained vector r of its own in addition, from zero.
        label_chunk: texts of labels that are encoded at a time, once more in the backward pass, so
            that a step needs the memory of so many activations; 0 for all at once.
        label_length: tokens of a label's text that are read; None for all.
        seen_penalty: subtracted from the cosine of labels with training examples in a search, as
            they are found too often in comparison with others, or, below zero, too seldom.
        seed: of the draws.
        label_counts: (N,) training examples of each label (from the data).
        label_texts: ``LabelTexts`` (from the data), which training reads; None afterwards.

    Input: float (batch, dim). Output of ``call``: scores of all labels (batch, N).

    Example:
        >>> head = LabelText(num_labels=3)
        >>> ids, scores = head.top_k(tf.ones((2, 4)), k=2)
        >>> ids.shape
        TensorShape([2, 2])

    Reference: Dahiya et al., "SiameseXML", ICML 2021; Gupta et al., "Dual-Encoders for Extreme
    Multi-Label Classification", ICLR 2024, arXiv 2310.10636; Wang et al., "SimKGC", ACL 2022; the
    bias: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023, arXiv 2303.15343.
    """

    providers: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "label_counts": _label_counts,
        "label_texts": _label_texts,
    }
    data_statistics = ("trained", "penalty")  # the latter is its own argument
    full_softmax = True
    reads_label_texts = True
    has_inner_products = True

    def __init__(
        self,
        num_labels: FromData[int],
        *,
        columns: Literal["batch", "all"] = "batch",
        positives: Count | None = 1,
        self_negatives: bool = False,
        mined: Natural = 0,
        mined_candidates: Count = 100,
        mine_from: Natural = 5,
        refresh: Count = 5,
        batching: Literal["random", "near"] = "random",
        near_size: Annotated[int, Ge(2)] = 32,
        pre_batch: Natural = 0,
        margin: Annotated[float, Ge(0), Le(2)] = 0.02,
        temperature: Positive = 0.05,
        train_temperature: bool = True,
        score_bias: float | None = None,
        free_vectors: bool = False,
        label_chunk: Natural = 0,
        label_length: Count | None = None,
        seen_penalty: Annotated[float, Ge(-2), Le(2)] = 0.0,
        seed: int = 0,
        label_counts: FromData[Sequence[int] | np.ndarray | None] = None,
        label_texts: FromData[LabelTexts | None] = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.num_labels = num_labels
        self.columns = columns
        self.positives = positives
        self.self_negatives = self_negatives
        self.mined = mined
        self.mined_candidates = mined_candidates
        self.mine_from = mine_from
        self.refresh_every = refresh
        self.batching = batching
        self.near_size = near_size
        self.pre_batch = pre_batch
        self.margin = margin
        self.temperature = temperature
        self.train_temperature = train_temperature
        self.free_vectors = free_vectors
        self.score_bias = score_bias
        self.label_chunk = label_chunk
        self.label_length = label_length
        self.seen_penalty = seen_penalty
        self.seed = seed
        _check_numbers(self)
        self._label_counts = label_counts
        self._texts = label_texts
        self._table: TextTable | None = None
        self._groups: tuple[np.ndarray, np.ndarray] | None = None
        self._given = self._own_labels = self._always = self._same_text = None
        self._some_missing = False
        #: Function of examples' numbers (batch,) -> int32 (batch, any) hard labels, padded with
        #: -1, see ``training.negatives``; None without them.
        self.candidates: Callable[[tf.Tensor], tf.Tensor] | None = None
        self.queue: LabelQueue | None = None
        if label_texts is not None:
            self.read_texts(label_texts)

    def read_texts(self, texts: "LabelTexts") -> None:
        """Takes the texts of all labels, which training and ``refresh`` read.

        Raises:
            ConfigError: they do not fit the arguments.
        """
        if len(texts) != self.num_labels:
            raise ValueError(
                f"there are texts of {len(texts):,} labels, but {self.num_labels:,} labels"
            )
        missing = np.zeros(self.num_labels, bool)  # of a run that is loaded nothing is trained
        if self._label_counts is not None:
            missing = ~texts.given & (np.asarray(self._label_counts) > 0)
        if missing.any() and not self.free_vectors:
            raise ConfigError(
                f"{np.count_nonzero(missing):,} labels have neither a text nor a vector",
                where="free_vectors",
                fix="set it to true, or set data.missing_texts to 'error' and give all texts",
            )
        if self.label_length is not None and not texts.rows.kind.holds(TOKENS):
            raise ConfigError(
                f"only tokens can be cut off, not {texts.rows.kind.description}",
                where="label_length",
                fix="remove it",
            )
        self._texts = texts
        self._groups = None
        self._table = TextTable(texts.rows, self.label_length)
        groups, sizes = self.text_groups
        with tf.init_scope(), tf.device("CPU"):
            self._given = tf.constant(texts.given)
            self._some_missing = not texts.given.all()
            if sizes.max(initial=1) > 1:
                self._same_text = tf.constant(groups)
            if self.self_negatives and texts.own_labels is not None:
                self._own_labels = tf.constant(texts.own_labels, tf.int64)
            if self.columns == "all" and self._label_counts is not None:
                counts = np.asarray(self._label_counts)
                self._always = tf.constant(np.flatnonzero(counts > 0), tf.int64)

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the labels' vectors, which ``refresh`` fills, and the temperature."""
        shape = (self.num_labels, input_shape[-1])
        own: dict[str, Any] = {"autocast": False}
        self.label_vectors = self.add_weight(
            shape, "zeros", trainable=False, name="label_vectors", **own
        )
        self.trained = self.add_weight(
            shape[:1], self._is_trained, "float32", trainable=False, name="trained", **own
        )
        self.log_scale = self.add_weight(
            (), keras.initializers.Constant(-np.log(self.temperature)),
            trainable=self.train_temperature, name="log_scale", **own,
        )  # fmt: skip
        self.bias = None
        if self.score_bias is not None:
            start = keras.initializers.Constant(self.score_bias)
            self.bias = self.add_weight((), start, name="bias", **own)
        self.penalty = self.add_weight(
            (), keras.initializers.Constant(self.seen_penalty),
            trainable=False, name="seen_penalty", **own,
        )  # fmt: skip
        self.free = None
        if self.free_vectors:
            self.free = self.add_weight(shape, self._free_start, name="free_vectors", **own)

    def _is_trained(self, shape, dtype=None):
        if self._label_counts is None:  # the weights are loaded
            return tf.ones(shape, dtype)
        occurs = np.reshape(np.asarray(self._label_counts) > 0, shape)
        return tf.constant(occurs.astype(np.float32))

    def _free_start(self, shape, dtype=None):
        """Zeros, but of labels that are trained without a text: their vectors need a direction."""
        if self._given is None:
            return tf.zeros(shape, dtype)
        drawn = tf.random.stateless_normal(shape, (self.seed, 0), stddev=_START)
        needs_none = self._given | ~tf.constant(np.asarray(self._label_counts) > 0)
        return tf.where(needs_none[:, None], 0.0, drawn)

    @property
    def scale(self) -> tf.Tensor:
        """One over the temperature, float32 scalar."""
        return tf.exp(tf.minimum(self.log_scale.value, np.log(_LARGEST_SCALE)))

    def _scores(self, cosines):
        scores = self.scale * cosines
        return scores if self.bias is None else scores + self.bias.value

    @property
    def training_columns(self) -> int:
        """Estimate: the labels of a batch count as 1,024."""
        if self._always is not None:
            return int(self._always.shape[0])
        return min(self.num_labels, _COLUMNS if self.columns == "batch" else self.num_labels)

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the scores of all labels by their vectors."""
        return self.all_scores(features)

    def label_chunks(self, batch: int | None) -> int:
        """Returns in how many parts the texts of a step's columns are encoded.

        Args:
            batch: examples of a replica; None where that is not known.
        """
        if not self.label_chunk:
            return 1
        most = self.num_labels if self._always is None else int(self._always.shape[0])
        if batch is not None:
            context = tf.distribute.get_replica_context()
            replicas = 1 if context is None else context.num_replicas_in_sync
            most = min(most, self.most_columns(batch * replicas))
        return -(-most // self.label_chunk)

    def most_columns(self, batch: int) -> int:
        """Returns the largest number of columns of a step.

        Args:
            batch: examples of all replicas.
        """
        if self._always is not None or self.positives is None:
            return self.num_labels
        of_each = self.positives + int(self.self_negatives) + self.mined
        return min(self.num_labels, batch * of_each)

    def keep_columns(self, batch: int) -> LabelQueue:
        """Starts the queue of ``pre_batch``, which is empty.

        Args:
            batch: examples of all replicas.

        Returns:
            The queue, whose variables a checkpoint of the training holds.
        """
        dim = self.label_vectors.shape[1]
        self.queue = LabelQueue(self.pre_batch, self.most_columns(batch), dim)
        return self.queue

    def columns_of(self, labels: np.ndarray | tf.Tensor) -> Columns:
        """Returns the labels that a step scores.

        Args:
            labels: int32 (batch, max_labels) padded with -1.
        """
        drawn = labels = _seen(labels, self)
        if self.positives is not None:
            rows = tf.range(tf.shape(labels)[0])
            places = tf.range(tf.shape(labels)[1])
            bits = random_bits(rows[:, None], places[None, :], self.seed)
            drawn = drawn_labels(labels, bits, self.positives)
        columns = columns_of(labels, drawn, self.trained.value > 0, self._others(), self._always)
        if self._same_text is None:
            return columns
        return without_twins(columns, labels, self._same_text)

    def _others(self):
        """Returns the labels that are columns beside the true ones, int64 (batch, any), or None."""
        examples = current_examples()
        hard_labels = []
        if examples is not None and self._own_labels is not None:
            hard_labels.append(tf.gather(self._own_labels, examples)[:, None])
        if examples is not None and self.candidates is not None:
            listed = tf.cast(self.candidates(examples), tf.int64)
            rows = tf.range(tf.shape(listed)[0])
            places = tf.range(tf.shape(listed)[1])
            bits = random_bits(rows[:, None], places[None, :], self.seed + _MINED)
            hard_labels.append(drawn_labels(listed, bits, self.mined))
        return tf.concat(hard_labels, axis=1) if hard_labels else None

    @property
    def num_trained(self) -> int:
        """How many labels have training examples."""
        return int(np.count_nonzero(self.trained.numpy()))

    @property
    def text_groups(self) -> tuple[np.ndarray, np.ndarray]:
        """Which labels have the same text: int64 (num_labels,) numbers of groups, and their sizes.

        A label without a text is a group of its own.
        """
        assert self._texts is not None, "there are texts in training"
        if self._groups is None:
            keys = self._texts.keys
            given = self._texts.given
            _, groups = np.unique(keys, return_inverse=True)
            alone = np.flatnonzero(~given)
            groups = groups.astype(np.int64)
            groups[alone] = len(keys) + alone
            _, groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
            self._groups = groups.astype(np.int64), sizes
        return self._groups

    def label_features(self, ids: tf.Tensor) -> Any:
        """Returns the features of labels' texts, for the encoder.

        Args:
            ids: int64 (n,).
        """
        if self._table is None:
            raise TypeError("there are no label texts: they come with the training data")
        return self._table(ids)

    def vectors_of(self, ids: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
        """Returns the vectors of labels, float32 (n, dim), of length 1.

        Args:
            ids: int64 (n,).
            encoded: float (n, dim), what the encoder made of their texts.
        """
        rows = unit_rows(encoded)
        if self._some_missing:
            rows = tf.where(tf.gather(self._given, ids)[:, None], rows, 0.0)
        if self.free is None:
            return rows
        return unit_rows(rows + tf.gather(self.free.value, ids))

    def training_groups(
        self,
        features: tf.Tensor,
        labels: np.ndarray | tf.Tensor,
        columns: Columns | None = None,
        rows: tf.Tensor | None = None,
    ) -> tuple[LogitGroup, ...]:
        """Returns one group over the columns of a step.

        Args:
            features: float (batch, dim).
            labels: of the examples.
            columns: those of ``columns_of``.
            rows: float32 (C, dim), the columns' vectors.
        """
        if columns is None or rows is None:
            raise TypeError("columns and their vectors are missing, see XCModel.groups_of_passes")
        features = unit_rows(features)
        cosines = tf.matmul(features, rows, transpose_b=True)
        if self.margin:
            cosines = at_positives(cosines, columns.positives, lambda true: true - self.margin)
        valid = columns.valid
        if self.queue is not None and in_training_step():
            older, wrong = self.queue.wrong(columns, _seen(labels, self), self._same_text)
            of_older = WEIGHT * tf.matmul(features, older, transpose_b=True)
            cosines = tf.concat([cosines, of_older], axis=1)
            valid = tf.concat([valid, wrong], axis=1)
        return (LogitGroup(self._scores(cosines), columns.positives, valid),)

    def groups_of_passes(
        self,
        passes: Sequence[tf.Tensor],
        labels: np.ndarray | tf.Tensor,
        columns: Columns | None = None,
        rows: tf.Tensor | None = None,
    ) -> list[tuple[LogitGroup, ...]]:
        """Returns groups with the same columns for all passes, see ``training_groups``."""
        groups = [self.training_groups(features, labels, columns, rows) for features in passes]
        if self.queue is not None and columns is not None and in_training_step():
            self.queue.push(columns.ids, rows, tf.gather(self.trained.value > 0, columns.ids))
        return groups

    def tile_scores(self, features: tf.Tensor) -> Callable[..., tf.Tensor]:
        """Returns a function that scores a range of labels by their vectors."""
        features = unit_rows(features)
        vectors = read_once(self.label_vectors.value)
        trained = self.trained.value
        penalty = self.penalty.value

        def score(begin, end):
            cosines = tf.matmul(features, rows_between(vectors, begin, end), transpose_b=True)
            return self._scores(cosines - penalty * trained[begin:end])

        return score

    def refresh(self, encode: Callable[[np.ndarray], np.ndarray]) -> None:
        """Makes the vectors of all labels anew; does nothing where there are no texts.

        Args:
            encode: function of int64 ids (n,) -> float32 vectors (n, dim) of length 1.
        """
        if self._texts is None:
            return
        by_length = self._texts.rows.by_length()
        with Progress("encoding label texts", self.num_labels, "labels") as progress:
            for begin in range(0, self.num_labels, _BLOCK):
                end = min(begin + _BLOCK, self.num_labels)
                ids = by_length[(by_length >= begin) & (by_length < end)].astype(np.int64)
                vectors = np.empty((end - begin, self.label_vectors.shape[1]), np.float32)
                for some in np.split(ids, range(_AT_ONCE, len(ids), _AT_ONCE)):
                    vectors[some - begin] = encode(some)
                    progress.advance(len(some))
                assign_rows(self.label_vectors.value, begin, vectors)

    def inner_products(self) -> InnerProducts:
        """Returns cosines over the temperature; penalty and bias count as the weight of a
        feature.
        """
        vectors = read_once(self.label_vectors.value)
        trained = self.trained.value
        penalty = self.penalty.value
        scale = self.scale
        bias = 0.0 if self.bias is None else self.bias.value / scale

        def rows(begin, end):
            part = rows_between(vectors, begin, end)
            return tf.concat([part, penalty * trained[begin:end, None] - bias], axis=1)

        def queries(features):
            units = unit_rows(features)
            return scale * tf.concat([units, -tf.ones([tf.shape(units)[0], 1])], axis=1)

        return InnerProducts(rows, queries, vectors.shape[1] + 1)

    def label_similarities(self, label: int) -> np.ndarray:
        """Returns the cosines of the labels' vectors."""
        rows = partial(rows_between, read_once(self.label_vectors.value))
        return cosines_to_row(rows, label, self.num_labels)


def _check_numbers(head):
    """Refuses arguments that contradict each other or the largest scale."""
    if head.mined > head.mined_candidates:
        raise ConfigError(
            f"must be at most mined_candidates, {head.mined_candidates}, not {head.mined}",
            where="mined",
            fix="lower it, or raise mined_candidates",
        )
    for name, value in (("mined", head.mined), ("batching", head.batching == "near")):
        if value and head.columns == "all":
            raise ConfigError(
                "has no effect with columns 'all', as all labels are negatives then",
                where=name,
                fix="leave it out, or change columns",
            )
    if head.pre_batch and (head.columns == "all" or head.positives is None):
        obstacle = "columns 'all'" if head.columns == "all" else "positives null"
        raise ConfigError(
            f"does not go with {obstacle}",
            where="pre_batch",
            fix="set it to 0, or change the other",
        )
    if head.temperature < 1 / _LARGEST_SCALE:
        raise ConfigError(
            f"must be at least {1 / _LARGEST_SCALE:g}, not {head.temperature:g}",
            where="temperature",
            fix="raise it",
        )


def _seen(labels, head):
    """Returns int64 labels, -1 in place of those the head does not have."""
    return tf.cast(seen_labels(labels, head.num_labels), tf.int64)
