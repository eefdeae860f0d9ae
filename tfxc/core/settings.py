"""The settings of a run as pydantic models. Nothing here imports TensorFlow."""

from typing import Annotated, Any, Literal, TypeVar

import pydantic

from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text

SPLITS = ("train", "dev", "test")
SPLIT = "{split}"  # in paths, in place of the name of one
# Longest line of a text format: a text of three million words. A file of a megabyte can hold a line
# of a gigabyte where it is compressed.
MAX_LINE_BYTES = 16 << 20


def _section_of(value: object) -> Any:
    """Makes a section of a method's name alone, which is short for it."""
    return {"name": value} if isinstance(value, str) else value


Positive = Annotated[int, pydantic.Field(ge=1, lt=2**63)]
_Item = TypeVar("_Item")
# From Python a tuple is a list, too.
_List = Annotated[list[_Item], pydantic.Strict(False)]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class About(_Section):
    """Describes a config. Nothing here changes what is computed.

    Attributes:
        paper: the publication whose result the config reproduces.
        command: the command to run.
        expected: the score to expect, with its source or commit, seed and hardware.
        cost: time and memory that training needs.
    """

    paper: str = ""
    command: str = ""
    expected: str = ""
    cost: str = ""


class ImageSettings(_Section):
    """How images are stored; see docs/data.md, "Images".

    Attributes:
        height, width: size of the stored images, None for both as in the first training image (all
            others must agree). An image of another size is scaled, keeping its aspect ratio, until
            it covers height x width, then cropped at the centre.
        channels: 1 for grey, 3 for RGB (others are converted), None as in the first training image
            (all others must agree).
        store: ``"pixels"`` stores images decoded and resized, ``"encoded"`` stores the
            files unchanged and decodes them for every batch.
        max_corrupt: largest number of undecodable images to skip, over all splits; with more,
            preparation fails.

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
                f"height and width go together, and {missing} is missing",
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
            given, e.g. 0.15: random examples, drawn with ``seed``; those of the same text stay
            together, and with ``label_texts`` the titles of labels are not among them. None holds
            out nothing.
        dev_part: which part of that share is held out, from 0: with a ``dev_share`` of 0.2, parts 0
            to 4 are five folds.
        reader: the format's name; None recognises it by the file's name and first line.
        reader_options: keyword arguments of the reader.
        split_options: extra reader options of single splits, e.g.
            ``{"dev": {"split": "tst"}}``.
        text_features: how texts become features, e.g. ``{"name": "tfidf"}``; None uses the features
            that the format provides.
        label_names: file with one label name per line. It names the labels of a format that
            numbers them, and is the complete list of the allowed ones for a format that names them.
        images: how images are stored; None for data without images, or for the defaults.
        label_texts: a text for each label, which head ``label_text`` reads: a file of JSON lines
            ``{"label": "card_arrival", "text": "card arrival"}``, perhaps compressed, or
            ``"names"`` for the labels' names, ``_`` and ``-`` read as blanks. Labels of the file
            that have no training example can be predicted, too.
        missing_texts: ``"error"`` refuses a training label without a text; ``"free"`` leaves it to
            the label's own vector, which needs ``head.free_vectors``.
        self_part: what stands before the part of an example's text that may be a label's own text,
            e.g. ``" : "``; the part behind the first one is compared. None compares whole texts.
        held_out_labels: share of the labels that leave the training split, drawn with ``seed``, to
            measure how well labels are found that nothing was trained for; examples without
            another label leave with them. Needs ``label_texts``.
        num_labels: number of labels of a format that numbers them. It must be given only where
            it is far larger than the number of labels that occur in the training split.
        max_line_bytes: longest line (or row of a matrix) of a text format, decompressed; a longer
            one is refused before it is read to its end.
        skip_unlabelled: leave out the examples without labels of all splits, as cells that nobody
            filled in; else they are examples to which no label applies.
        min_label_count: labels with fewer training examples are dropped.
        normalise: ``"l2"`` scales every row of given features to length 1.
        layout: layout of the records, see ``tfxc.data.reading.parsing.tfrecord``.
        shard_examples: at most this many examples in a shard.
        seed: of the shuffling when records are written.
        where: one sentence: where to get the data set and in which folder to put it; shown when a
            file is missing.
        rehearsal: shape of the stand-in on which ``tfxc train --rehearse`` trains instead, e.g.
            ``"amazon670k"``; see docs/data.md, "Rehearsals".

    Example:
        >>> DataSettings(name="bibtex", train="~/data/bibtex/train.txt.xz").layout
        'blocks'
    """

    name: str = pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    train: str
    dev: str | None = None
    dev_share: float | None = pydantic.Field(None, gt=0, lt=1)
    dev_part: pydantic.NonNegativeInt = 0
    test: str | None = None
    reader: str | None = None
    reader_options: dict[str, Any] = {}
    split_options: dict[Literal["train", "dev", "test"], dict[str, Any]] = {}
    text_features: Annotated[dict[str, Any] | None, pydantic.BeforeValidator(_section_of)] = None
    images: ImageSettings | None = None
    label_names: str | None = None
    label_texts: str | None = None
    missing_texts: Literal["error", "free"] = "error"
    self_part: str | None = pydantic.Field(None, min_length=1)
    held_out_labels: float | None = pydantic.Field(None, gt=0, lt=1)
    num_labels: Positive | None = None
    max_line_bytes: Positive = MAX_LINE_BYTES
    skip_unlabelled: bool = False
    min_label_count: Positive = 1
    normalise: Literal["l2"] | None = None
    layout: Literal["blocks", "examples"] = "blocks"
    shard_examples: Positive = 65536
    seed: pydantic.NonNegativeInt = 0
    where: str | None = None
    rehearsal: str | None = None

    @pydantic.model_validator(mode="after")
    def _features_are_normalised_once(self):
        if self.text_features is not None and self.normalise is not None:
            raise ConfigError(
                "features made from texts are not normalised here",
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
    def _label_texts_are_read(self):
        defaults = {"missing_texts": "error", "self_part": None, "held_out_labels": None}
        for key, default in defaults.items():
            if self.label_texts is None and getattr(self, key) != default:
                raise ConfigError(
                    f"{key} needs label_texts",
                    where=f"data.{key}",
                    fix="name the file in data.label_texts, or 'names'; or remove it",
                )
        if self.label_texts is not None and self.text_features is None:
            raise ConfigError(
                "label_texts needs text_features",
                where="data.label_texts",
                fix="add data.text_features, with which the texts of examples and labels are read; "
                "if the examples are features, not texts, remove label_texts",
            )
        return self

    @pydantic.model_validator(mode="after")
    def _one_dev_split(self):
        if self.dev is not None and self.dev_share is not None:
            raise ConfigError(
                "dev and dev_share exclude each other",
                where="data.dev_share",
                fix="remove one of them",
            )
        parts = 1 if self.dev_share is None else round(1 / self.dev_share, 6)
        if self.dev_part and self.dev_part + 1 > parts:
            raise ConfigError(
                f"there is no part {self.dev_part} of the share",
                where="data.dev_part",
                fix=f"choose one from 0 to {int(parts) - 1}",
            )
        return self

    def sources(self) -> dict[str, str]:
        """Returns the paths of the given splits, by split, training split first."""
        paths = {split: getattr(self, split) for split in SPLITS}
        if self.dev_share is not None:
            paths["dev"] = self.train
        return {split: path for split, path in paths.items() if path is not None}


class Method(pydantic.BaseModel):
    """A method by name; its other keys are its constructor's arguments.

    The name alone is short for a section without other keys.

    Example:
        >>> Method.model_validate("mach")
        Method(name='mach')
    """

    model_config = pydantic.ConfigDict(extra="allow")
    name: str

    @pydantic.model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value):
        return _section_of(value)

    def section(self) -> dict[str, Any]:
        """Returns the section as a plain dict."""
        return self.model_dump()


class EarlyStopping(_Section):
    """When training stops before its last epoch.

    Attributes:
        metric: name of the dev metric to watch, as evaluations print it.
        patience: training stops after this many evaluations in a row without an improvement.
        min_delta: smallest change of the metric, in its better direction, that counts as an
            improvement.
    """

    metric: str = "P@1"
    patience: Positive = 3
    min_delta: float = 0.0


class TrainingSettings(_Section):
    """The training loop; see docs/training.md.

    Attributes:
        batch_size: examples per weight update, over all devices and micro-batches together.
        epochs: passes over the training split; may be a fraction.
        optimizer: the optimizer; without a name, the keys are arguments of ``adam``.
        schedule: the learning-rate schedule; without a name, the keys are arguments of
            ``constant``.
        augmentation: augmentations of training images, applied in order.
        clip_norm: largest Euclidean norm of the gradient of ``clip_part``; a larger gradient is
            scaled down to it. None does not clip.
        clip_part: weights whose gradients ``clip_norm`` limits; the other gradients are not
            changed.
        accumulate: number of micro-batches that a batch is split into to save memory; the result
            is the same.
        group_by_length: whether a batch holds texts of similar length, which saves padding; each
            epoch still holds each text once.
        precision: precision of the activations; weights are always float32.
        strategy: ``"none"`` trains on one device, ``"mirrored"`` on several of one machine,
            ``"multi_worker"`` on several machines, which are named in ``TF_CONFIG``.
        devices: devices of ``mirrored``, e.g. ``["GPU:0", "GPU:1"]``; None uses all GPUs.
        evaluate_every: steps between evaluations of the dev split; None evaluates where an
            epoch ends.
        early_stopping: when to stop before the last epoch; None never does.
        watch: dev metric that ``keep: best`` and ``evaluation.test_on_improvement`` use; None
            watches the first one. With ``early_stopping``, its ``metric`` is watched.
        keep: weights that the finished run keeps: the last, or the best by the watched metric. The
            default is ``best`` with ``early_stopping``.
        checkpoint_every: steps between checkpoints; None saves once per epoch.
        keep_checkpoints: number of checkpoints that a finished run keeps, the last ones; more
            ``epochs`` continue from the last. With the slots of the optimizer each is several
            times as large as the weights; 0 keeps none, as do the levels of recipe
            ``xr_transformer``.
        compile_encoder: whether XLA compiles the layers of encoder ``pretrained`` or
            ``transformer`` in training; texts are then padded to multiples of 32 tokens, as each
            length of a batch is compiled once. Results are equal up to rounding.
        steps_per_call: most steps that TensorFlow is given at a time; a call ends where something
            is due, so that results are the same. More than 1 may help where a GPU needs less time
            for a step than Python for a call; a signal waits for the end of the call.
        log_every: steps between lines of loss and speed; None logs the first step and every 50th,
            in a training of fewer than 500 steps every tenth part of it.
        trackers: what metrics are reported to in addition to the run folder: ``tensorboard``,
            ``mlflow``, ``wandb``.
        memory_gb: a split of at most this many GiB is held in memory; a larger one is read
            in windows and shuffled within them.

    Example:
        >>> TrainingSettings(early_stopping={"patience": 5}).keep
        'best'
    """

    batch_size: Positive = 256
    epochs: float = pydantic.Field(default=10, gt=0, le=1e9)
    optimizer: Method = Method(name="adam")
    schedule: Method = Method(name="constant")
    augmentation: _List[Method] = []
    clip_norm: pydantic.PositiveFloat | None = None
    clip_part: Literal["all", "encoder"] = "all"
    accumulate: Positive = 1
    group_by_length: bool = False
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    strategy: Literal["none", "mirrored", "multi_worker"] = "none"
    devices: _List[str] | None = None
    evaluate_every: Positive | None = None
    early_stopping: EarlyStopping | None = None
    watch: str | None = None
    keep: Literal["best", "last"] = "last"
    checkpoint_every: Positive | None = None
    keep_checkpoints: pydantic.NonNegativeInt = 1
    compile_encoder: bool = False
    steps_per_call: Positive = 1
    log_every: Positive | None = None
    trackers: _List[str] = ["tensorboard"]
    memory_gb: pydantic.PositiveFloat = 2.0

    @pydantic.model_validator(mode="after")
    def _a_part_is_clipped_to_a_norm(self):
        if self.clip_part != "all" and self.clip_norm is None:
            raise ConfigError(
                "clip_part needs clip_norm",
                where="training.clip_part",
                fix="add training.clip_norm",
            )
        return self

    @pydantic.model_validator(mode="after")
    def _one_metric_is_watched(self):
        if self.watch is not None and self.early_stopping is not None:
            raise ConfigError(
                "the metric to watch is set twice",
                where="training.watch",
                fix="remove watch: training.early_stopping.metric is used",
            )
        return self

    @pydantic.model_validator(mode="before")
    @classmethod
    def _dependent_defaults(cls, values):
        """Lets arguments be set without repeating the default method's name; see ``keep``."""
        if not isinstance(values, dict):
            return values  # refused by pydantic, with the key's name
        values = dict(values)
        for key, name in (("optimizer", "adam"), ("schedule", "constant")):
            if isinstance(values.get(key), dict):
                values[key] = {"name": name, **values[key]}
        if values.get("early_stopping") is not None:
            # The last weights are those of the evaluations after the best one.
            values.setdefault("keep", "best")
        return values


def check_exclusion(kind: str, where: str) -> None:
    """Refuses what is no entry of ``evaluation.exclude``.

    Args:
        kind: the entry.
        where: the key or option, for the message.

    Raises:
        ConfigError: it is none.
    """
    if kind not in ("train", "self") and SPLIT not in kind:
        raise ConfigError(
            f"{kind!r} is neither 'train' nor 'self' nor a path with {SPLIT} in it",
            where=where,
            fix=f"write the split's name in the path as {SPLIT}, e.g. filter_labels_{SPLIT}.txt",
        )


class EvaluationSettings(_Section):
    """What is measured on the dev and test splits.

    Attributes:
        k: cut-offs of P@k, nDCG@k, R@k and the other ranking metrics.
        batch_size: examples that are searched at a time.
        threshold: score from which a label counts as predicted, for precision, recall, F1 and
            accuracy; None applies the rule of docs/training.md ("What is measured").
        propensity: constants (A, B) of Jain et al. (2016) for the propensity-scored metrics, or
            the name of a family of data sets: ``"default"``, ``"wikipedia"`` or ``"amazon"``.
        full_loss: whether to add the cross-entropy of the softmax over all labels; None adds it
            if the objective sees only some of the labels and the head has a softmax over all.
        train_slice: training examples, always the same ones, on which each evaluation during
            training measures the full loss too; 0 for none.
        test_on_improvement: whether to measure the test split whenever the watched dev metric is
            the best so far.
        ranks: whether to measure the exact rank of each true label among all, whatever its place:
            MRR and H@k over the pairs of example and label. Needs a head with a score per label.
        exclude: labels that do not count for an example that is measured, unless they are true:
            ``"train"``, those that the training split gives the same text; ``"self"``, the label
            whose text is the example's own, which both need ``data.label_texts``; or a path with
            ``{split}`` in it, of a file of lines with an example's number, from 0, and a label.
        examples: texts of the dev split that the run keeps in ``examples.jsonl``, with what it
            predicts of them; 0 keeps none.
    """

    k: _List[Positive] = [1, 3, 5]
    batch_size: Positive = 256
    threshold: float | None = None
    propensity: Annotated[tuple[float, float], pydantic.Strict(False)] | str = "default"
    full_loss: bool | None = None
    train_slice: pydantic.NonNegativeInt = 4096
    test_on_improvement: bool = False
    ranks: bool = False
    exclude: _List[str] = []
    examples: pydantic.NonNegativeInt = 3

    @pydantic.field_validator("exclude")
    @classmethod
    def _known_exclusions(cls, found):
        for kind in found:
            check_exclusion(kind, "evaluation.exclude")
        return found


class AbstainSettings(_Section):
    """When an example gets no label at all. A number alone is short for ``below``.

    Attributes:
        below: probability of the best label that an answer needs; of a model without, its score.
        risk: share of the examples answered whose best label may be wrong, instead: what an answer
            needs is learned.
    """

    below: float | None = None
    risk: float | None = pydantic.Field(None, gt=0, lt=1)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _number_alone(cls, value):
        return {"below": value} if isinstance(value, int | float) else value

    @pydantic.model_validator(mode="after")
    def _below_or_risk(self):
        if (self.below is None) == (self.risk is None):
            raise ConfigError(
                "both below and risk are set" if self.risk else "neither below nor risk is set",
                where="decision.abstain",
                fix="set one of them, e.g. decision.abstain.risk=0.05",
            )
        return self


class DecisionSettings(_Section):
    """How scores become labels to act on; learned on the dev split when training is finished.

    Attributes:
        probabilities: how probabilities are learned of the scores; None learns none, so that they
            are the model's own, if it has any.
        labels: how it is learned which labels are returned; None learns nothing.
        k: best labels of an example that are considered.
        abstain: when an example gets no label at all; None means by ``labels`` alone.
    """

    probabilities: Method | None = None
    labels: Method | None = None
    k: Positive = 20
    abstain: AbstainSettings | None = None


class RefitSettings(_Section):
    """What is held out of the training file before the model is trained on all of it.

    A model is trained without these examples and measured on them: it chooses the number of epochs
    and teaches the probabilities of scores. Then the run itself is trained on all examples.

    Attributes:
        share: of the examples, drawn as by ``data.dev_share``.
        folds: number of folds instead: as many models are trained, each without one of them, so
            that each example is measured once. For few examples.
    """

    share: float | None = pydantic.Field(None, gt=0, lt=1)
    folds: int | None = pydantic.Field(None, ge=2)

    @pydantic.model_validator(mode="after")
    def _share_or_folds(self):
        if (self.share is None) == (self.folds is None):
            raise ConfigError(
                "share and folds are both set" if self.folds else "neither share nor folds is set",
                where="refit",
                fix="set one of them, e.g. refit.share=0.15",
            )
        return self


class Config(_Section):
    """Everything a run needs. The keys of a method's section are arguments of its constructor.

    Attributes:
        about: paper, command, expected score and cost of the config.
        seed: of the initial weights, the order of examples, dropout and all other random numbers.
        run: the run folder.
        data: the data set.
        encoder: what turns the features of an example into a vector.
        head: what turns vectors into scores of labels.
        objective: what turns scores into a loss. Which of encoder, head and objective are needed
            depends on the recipe.
        techniques: training techniques, in order.
        recipe: the stages of training.
        training: the training loop.
        refit: what is held out first, before the model is trained on all examples; None trains
            once, on the training split.
        evaluation: what is measured.
        decision: which labels are returned, and with which probability; None applies the rule of
            docs/training.md ("What is measured").
    """

    about: About = About()
    seed: int = pydantic.Field(default=0, ge=0, lt=2**32)
    run: str
    data: DataSettings
    encoder: Method | None = None
    head: Method | None = None
    objective: Method | None = None
    techniques: _List[Method] = []
    recipe: Method = Method(name="fit")
    training: TrainingSettings = TrainingSettings()
    refit: RefitSettings | None = None
    evaluation: EvaluationSettings = EvaluationSettings()
    decision: DecisionSettings | None = None

    @pydantic.model_validator(mode="after")
    def _excluded_labels_have_texts(self):
        of_texts = [kind for kind in self.evaluation.exclude if SPLIT not in kind]
        if of_texts and self.data.label_texts is None:
            raise ConfigError(
                f"{of_texts[0]!r} needs data.label_texts",
                where="evaluation.exclude",
                fix="name the file in data.label_texts, or 'names'; or remove it",
            )
        return self

    @pydantic.model_validator(mode="after")
    def _refit_holds_out_the_dev_split(self):
        for key in ("dev", "dev_share") if self.refit is not None else ():
            if getattr(self.data, key) is not None:
                raise ConfigError(
                    "refit holds the dev examples out of the training file itself",
                    where=f"data.{key}",
                    fix="remove it, or remove refit",
                )
        return self

    @property
    def network_sections(self) -> dict[str, Method | None]:
        """``encoder``, ``head`` and ``objective`` by name; None if there is no such section."""
        return {"encoder": self.encoder, "head": self.head, "objective": self.objective}

    def to_json(self) -> str:
        """Returns the resolved config as indented JSON text."""
        return json_text(self.model_dump(mode="json"), indent=2)
