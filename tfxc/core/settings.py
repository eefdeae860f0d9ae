"""The settings of a run as pydantic models. Nothing here imports TensorFlow."""

from typing import Annotated, Any, Literal

import pydantic

from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text

SPLITS = ("train", "dev", "test")
# Longest line of a text format: a text of three million words. A file of a megabyte can hold a line
# of a gigabyte where it is compressed.
MAX_LINE_BYTES = 16 << 20

Positive = Annotated[int, pydantic.Field(gt=0, lt=2**63)]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class About(_Section):
    """What a config stands for: paper, command, expected score and cost."""

    paper: str = ""
    command: str = ""
    expected: str = ""
    cost: str = ""


class ImageSettings(_Section):
    """How images are stored; see docs/data.md, "Images".

    Attributes:
        height, width: size of the stored images, None for both as in the first training image (all
            others must agree). An image of another size is scaled, its aspect ratio kept, until it
            covers height x width, and cut out at the centre.
        channels: 1 for grey, 3 for RGB (others are converted), None as in the first training image
            (all others must agree).
        store: ``"pixels"`` stores images decoded and resized, ``"encoded"`` the files as they are,
            decoded whenever a batch is made.
        max_corrupt: this many images that cannot be decoded are left out and named; one more, and
            the set is refused.

    Example:
        >>> ImageSettings(height=112, width=112).store
        'pixels'
    """

    height: Positive | None = None
    width: Positive | None = None
    channels: Literal[1, 3] | None = None
    store: Literal["pixels", "encoded"] = "pixels"
    max_corrupt: pydantic.NonNegativeInt = 0

    @pydantic.model_validator(mode="after")
    def _both_or_none(self):
        if (self.height is None) != (self.width is None):
            missing = "height" if self.height is None else "width"
            raise ConfigError(
                f"both height and width expected, {missing} is missing",
                where="data.images",
                fix=f"add {missing}, or remove both to take them from the first image",
            )
        return self


class DataSettings(_Section):
    """Where a data set comes from and how it is prepared.

    Attributes:
        name: the set's name, used as a folder name.
        train, dev, test: paths (``~`` and ``${VAR}`` are expanded) or ``"builtin:<name>"``.
        dev_share: share of the training file that is held out as the dev split where no ``dev`` is
            given, e.g. 0.15: the same share of each label, drawn with ``seed``. None holds out
            nothing.
        reader: the format's name; None recognises it by the file's name and first line.
        reader_options: keyword arguments of the reader.
        split_options: extra reader options of single splits, e.g.
            ``{"dev": {"split": "tst"}}``.
        text_features: what turns texts into features, e.g. ``{"name": "tfidf"}``; None means the
            features as the format gives them.
        label_names: file with one label name per line. It names the labels of a format that
            numbers them, and is the complete list of the allowed ones for a format that names them.
        images: how images are stored; None for other sets, and for images the defaults.
        num_labels: number of labels of a format that numbers them. It must be given only where
            it is far larger than the number of labels that occur in the training split.
        max_line_bytes: longest line (or row of a matrix) of a text format, decompressed; a longer
            one is refused before it is read to its end.
        min_label_count: labels rarer than this in the training split are left out.
        normalise: ``"l2"`` scales every row of given features to length 1.
        layout: layout of the records, see ``tfxc.data.records.tfrecord``.
        shard_examples: at most this many examples in a shard.
        seed: of the shuffling at writing time.
        where: one sentence: where the set comes from and which folder is expected. Shown when a
            file is missing.

    Example:
        >>> DataSettings(name="bibtex", train="~/data/bibtex/train.txt.xz").layout
        'blocks'
    """

    name: str = pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    train: str
    dev: str | None = None
    dev_share: float | None = pydantic.Field(None, gt=0, lt=1)
    test: str | None = None
    reader: str | None = None
    reader_options: dict[str, Any] = {}
    split_options: dict[Literal["train", "dev", "test"], dict[str, Any]] = {}
    text_features: dict[str, Any] | None = None
    images: ImageSettings | None = None
    label_names: str | None = None
    num_labels: Positive | None = None
    max_line_bytes: Positive = MAX_LINE_BYTES
    min_label_count: Positive = 1
    normalise: Literal["l2"] | None = None
    layout: Literal["blocks", "examples"] = "blocks"
    shard_examples: Positive = 65536
    seed: pydantic.NonNegativeInt = 0
    where: str | None = None

    @pydantic.model_validator(mode="after")
    def _features_are_normalised_once(self):
        if self.text_features is not None and self.normalise is not None:
            raise ConfigError(
                "given features expected, found features made from text",
                where="data.normalise",
                fix="remove it and set the normalisation in text_features",
            )
        return self

    @pydantic.model_validator(mode="after")
    def _images_are_nothing_else(self):
        for key in ("text_features", "normalise"):
            if self.images is not None and getattr(self, key) is not None:
                raise ConfigError(
                    "this key does not apply to images", where=f"data.{key}", fix="remove it"
                )
        return self

    @pydantic.model_validator(mode="after")
    def _one_dev_split(self):
        if self.dev is not None and self.dev_share is not None:
            raise ConfigError(
                "either dev or dev_share expected, found both",
                where="data.dev_share",
                fix="remove one of them",
            )
        return self

    def sources(self):
        """The paths of the given splits, by split, training split first."""
        paths = {split: getattr(self, split) for split in SPLITS}
        if self.dev_share is not None:
            paths["dev"] = self.train
        return {split: path for split, path in paths.items() if path is not None}


class Method(pydantic.BaseModel):
    """A method by name; its other keys are its constructor's arguments."""

    model_config = pydantic.ConfigDict(extra="allow")
    name: str

    def section(self):
        """The section as a plain dict."""
        return self.model_dump()


class EarlyStopping(_Section):
    """Stop when ``metric`` on the dev split has not improved for ``patience`` evaluations."""

    metric: str = "P@1"
    patience: Positive = 3
    min_delta: float = 0.0


class TrainingSettings(_Section):
    """The training loop. ``batch_size`` is the global batch of one weight update.

    ``augmentation`` lists what is done to training images, in order; see
    ``tfxc.data.images.augmentation``. ``clip_norm`` is the largest Euclidean norm of the gradient
    of the part ``clip_part``; a larger one is scaled down, and the other part's left alone.
    ``watch`` is the dev metric that ``keep: best`` and ``evaluation.test_on_improvement`` go by,
    None for the first; with ``early_stopping`` it is that one's. ``keep`` says which weights the
    run ends with; the default is ``best`` with ``early_stopping``, else ``last``.
    ``group_by_length`` puts texts of similar length into a batch, which saves padding; each epoch
    still holds each text once. ``keep_checkpoints`` is how many checkpoints a finished run keeps:
    with the slots of the optimizer they are several times as large as its weights.
    """

    batch_size: Positive = 256
    epochs: float = pydantic.Field(default=10, gt=0, le=1e9)
    optimizer: Method = Method(name="adam")
    schedule: Method = Method(name="constant")
    augmentation: list[Method] = []
    clip_norm: pydantic.PositiveFloat | None = None
    clip_part: Literal["all", "encoder"] = "all"
    accumulate: Positive = 1
    group_by_length: bool = False
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    strategy: Literal["none", "mirrored", "multi_worker"] = "none"
    devices: list[str] | None = None
    evaluate_every: Positive | None = None
    early_stopping: EarlyStopping | None = None
    watch: str | None = None
    keep: Literal["best", "last"] = "last"
    checkpoint_every: Positive | None = None
    keep_checkpoints: pydantic.NonNegativeInt = 0
    log_every: Positive = 50
    memory_gb: pydantic.PositiveFloat = 2.0

    @pydantic.model_validator(mode="after")
    def _a_part_is_clipped_to_a_norm(self):
        if self.clip_part != "all" and self.clip_norm is None:
            raise ConfigError(
                "clip_norm expected with clip_part, found none",
                where="training.clip_part",
                fix="add training.clip_norm",
            )
        return self

    @pydantic.model_validator(mode="after")
    def _one_metric_is_watched(self):
        if self.watch is not None and self.early_stopping is not None:
            raise ConfigError(
                "the metric to watch is given twice",
                where="training.watch",
                fix="remove watch: training.early_stopping.metric is used",
            )
        return self

    @pydantic.model_validator(mode="before")
    @classmethod
    def _dependent_defaults(cls, values):
        """An argument can be set without repeating the default method's name; see ``keep``."""
        if not isinstance(values, dict):
            return values  # refused by pydantic, with the key's name
        values = dict(values)
        for key, name in (("optimizer", "adam"), ("schedule", "constant")):
            if isinstance(values.get(key), dict):
                values[key] = {"name": name, **values[key]}
        if values.get("early_stopping") is not None:
            # The last weights are those of the evaluations that waited for a better one in vain.
            values.setdefault("keep", "best")
        return values


class EvaluationSettings(_Section):
    """What is reported: cut-offs k, and the batch size of the search.

    ``propensity`` is (A, B) of Jain et al. or the name of a data set family; ``threshold`` is the
    score from which a label counts as predicted, for F1. ``full_loss`` adds the cross-entropy of
    the softmax over all labels; None adds it where the objective sees a part of the labels and the
    head has such a softmax. With it, each evaluation during training measures this loss on
    ``train_slice`` training examples too, always the same ones; 0 for none.
    ``test_on_improvement`` measures the test split whenever the watched dev metric is the best so
    far.
    """

    k: list[Positive] = [1, 3, 5]
    batch_size: Positive = 256
    threshold: float | None = None
    propensity: tuple[float, float] | str = "default"
    full_loss: bool | None = None
    train_slice: pydantic.NonNegativeInt = 4096
    test_on_improvement: bool = False


class Config(_Section):
    """Everything a run needs. Method sections are checked against their constructors.

    The recipe decides which of ``encoder``, ``head`` and ``objective`` are required.
    """

    about: About = About()
    seed: int = pydantic.Field(default=0, ge=0, lt=2**32)
    run: str
    data: DataSettings
    encoder: Method | None = None
    head: Method | None = None
    objective: Method | None = None
    techniques: list[Method] = []
    recipe: Method = Method(name="fit")
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @property
    def network_sections(self) -> dict[str, Method | None]:
        """``encoder``, ``head`` and ``objective`` by name; None if there is no such section."""
        return {"encoder": self.encoder, "head": self.head, "objective": self.objective}

    def to_json(self):
        """The resolved config as indented JSON text."""
        return json_text(self.model_dump(mode="json"), indent=2)
