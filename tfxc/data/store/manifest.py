"""What a prepared folder holds (``Manifest``), and where it is."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic

from tfxc.core.errors import DataError
from tfxc.core.escaping import json_text
from tfxc.core.storage import checksums
from tfxc.core.storage.files import atomic_file
from tfxc.core.storage.reading import checksum, kind_of, read_json, valid_record
from tfxc.data.examples.kinds import ENCODED, KINDS
from tfxc.data.label_texts import LABEL_TEXTS_FOLDER
from tfxc.data.reading.source_files import SourceInfo

if TYPE_CHECKING:
    from tfxc.core.settings import DataSettings
    from tfxc.data.examples.kinds import FeatureKind


# 2: examples are dealt to shards block by block; 1 dealt them one by one.
FORMAT_VERSION = 2
MANIFEST_FILE = "manifest.json"
LABELS_FILE = "labels.txt"
UNSEEN_LABELS_FILE = "unseen_labels.txt"
LABEL_COUNTS_FILE = "label_counts.npy"
TEXT_FEATURES_FOLDER = "text_features"
# What a model needs to know about the data before it can be built.
DIMENSIONS = (
    "num_features",
    "num_labels",
    "feature_kind",
    "image_shape",
    "text_features",
    "vocabulary_size",
)


def fingerprint(settings: "DataSettings") -> str:
    """Returns eight hexadecimal digits that change with whatever changes the prepared records.

    The set's name, ``where``, ``rehearsal`` and ``max_line_bytes`` are no part of it. Paths count
    as they are written.
    """
    # Options that are not used are no part of it, so that a new one changes no fingerprint.
    options = ("images", "dev_share", "num_labels")
    unused = {name for name in options if getattr(settings, name) is None}
    unused |= {name for name in ("dev_part", "skip_unlabelled") if not getattr(settings, name)}
    if settings.label_texts is None:
        unused |= {"label_texts", "missing_texts", "self_part", "held_out_labels"}
    # A limit on lines decides whether a file is read, not what its records hold.
    ignored = {"name", "where", "rehearsal", "max_line_bytes"}
    values = settings.model_dump(mode="json", exclude={*ignored, *unused})
    if settings.label_texts is not None and settings.dev_share is not None:
        values["titles"] = "not held out"  # they were once
    text = json_text({**values, "format_version": FORMAT_VERSION}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def fingerprints_of(folder: str | Path, records: Mapping[str, str]) -> dict[str, str]:
    """Returns the SHA-256 of what the examples of a prepared folder consist of.

    Two folders with the same ones hold the same examples in the same order, with the same ids.

    Args:
        folder: where label names and text features are written already.
        records: {split: SHA-256 of its rows}.

    Returns:
        dict: ``"labels"``, ``"text features"`` and ``"label texts"`` where there are any,
        ``"records of train"``, ...
    """
    folder = Path(folder)
    checksum_of = {"labels": checksum(folder / LABELS_FILE)}
    folders = {"text features": TEXT_FEATURES_FOLDER, "label texts": LABEL_TEXTS_FOLDER}
    for what, name in folders.items():
        texts = folder / name
        if texts.is_dir():
            files = [path for path in texts.rglob("[!.]*") if path.is_file()]  # without the marker
            checksum_of[what] = checksums.of_files(texts, files)
    return checksum_of | {f"records of {split}": sha256 for split, sha256 in records.items()}


def prepared_folder(settings: "DataSettings", root: str | Path = "prepared") -> Path:
    """Returns the folder the prepared form of ``settings`` belongs in:
    ``<root>/<name>-<fingerprint>``.
    """
    return Path(root) / f"{settings.name}-{fingerprint(settings)}"


# What an int64 holds: more of anything is no count.
_Count = Annotated[int, pydantic.Field(ge=0, lt=1 << 63)]


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class ShardInfo(_Part):
    """One shard; ``nonzeros`` are stored feature values, ``labels`` counts label occurrences.

    Of images, a pixel's channel or a byte of an encoded file is a feature value. ``tokens`` are
    those of texts that have feature values as well.
    """

    file: str
    examples: _Count
    nonzeros: _Count
    tokens: _Count = 0
    labels: _Count
    bytes: _Count
    sha256: str

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of examples, labels, feature values and tokens, as ``Rows.counts``."""
        return self.examples, self.labels, self.nonzeros, self.tokens

    def memory_bytes(self, kind: "FeatureKind") -> int:
        """Returns bytes its rows take in memory; ``kind`` is that of
        ``tfxc.data.examples.rows.Rows``.
        """
        return kind.memory_bytes(*self.counts)


class SplitInfo(_Part):
    """One split: totals, labels per example, and its shards in order.

    ``unseen_labels`` counts the occurrences of labels that training does not know,
    ``corrupt_images`` the images that were left out because they cannot be decoded. ``blocks`` are
    the numbers of examples that were shuffled together (of the training split), which decide on the
    order of all, see ``tfxc.data.store.blocks.layout``.
    """

    examples: _Count
    nonzeros: _Count
    labels: _Count
    min_labels: _Count
    max_labels: _Count
    without_labels: _Count
    unseen_labels: _Count
    corrupt_images: _Count = 0
    blocks: list[_Count] = []
    shards: list[ShardInfo]

    @property
    def mean_labels(self) -> float:
        """Mean number of labels per example."""
        return self.labels / max(self.examples, 1)

    @property
    def single_label(self) -> bool:
        """Whether every example has exactly one label."""
        return (self.min_labels, self.max_labels) == (1, 1)

    @property
    def sha256(self) -> str:
        """SHA-256 of the shards' content, in their order."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode()).hexdigest()


def _known_kind(name: str) -> str:
    if name not in KINDS:
        raise ValueError(f"{name!r} is not a kind of features; the kinds are {', '.join(KINDS)}")
    return name


class Manifest(_Part):
    """What a prepared folder holds.

    Attributes:
        layout: of the records; ``"feature_set"`` where there are none, and the sources are feature
            sets that are read where they are.
        num_features: width of the feature space, or length of the dense vectors, or values of an
            image.
        vocabulary_size: number of token ids of texts that have features as well, else None.
        image_shape: (height, width, channels) of every image, or None.
        image_store: how images are stored, ``"pixels"`` or ``"encoded"``, or None.
        num_labels: number of labels of the training vocabulary (``labels.txt``).
        num_unseen_labels: labels of dev and test outside it (``unseen_labels.txt``); they have
            the ids ``num_labels`` and up.
        num_trained_labels: those of them that the training split has, and its file of label texts
            more; None without label texts.
        text_features: the settings of the fitted text features, or None.
        row_normalise: ``"l2"`` where the given rows were scaled to length 1.
        fingerprints: see ``fingerprints_of``; empty for runs without prepared data.
    """

    format_version: int = FORMAT_VERSION
    name: str
    settings_fingerprint: str
    layout: Literal["blocks", "examples", "feature_set"]
    feature_kind: Annotated[str, pydantic.AfterValidator(_known_kind)]
    num_features: _Count
    vocabulary_size: _Count | None = None
    image_shape: tuple[_Count, _Count, _Count] | None = None
    image_store: Literal["pixels", "encoded"] | None = None
    num_labels: _Count
    num_trained_labels: _Count | None = None
    num_unseen_labels: _Count
    text_features: dict | None
    row_normalise: Literal["l2"] | None
    sources: dict[str, SourceInfo]
    splits: dict[str, SplitInfo]
    fingerprints: dict[str, str] = {}

    @property
    def kind(self) -> "FeatureKind":
        """The ``tfxc.data.examples.kinds.FeatureKind`` that models read."""
        return KINDS[self.feature_kind]

    @property
    def row_kind(self) -> "FeatureKind":
        """The kind of ``tfxc.data.examples.rows.Rows`` the shards hold."""
        return ENCODED if self.image_store == "encoded" else self.kind

    @property
    def dimensions(self) -> dict[str, Any]:
        """What ``tfxc.model.build_model`` needs to know about the data, as keyword arguments."""
        sizes = {name: getattr(self, name) for name in DIMENSIONS}
        return {**sizes, "num_examples": self.split("train").examples}

    def split(self, name: str) -> "SplitInfo":
        """Returns the ``SplitInfo`` of that name.

        Raises:
            DataError: there is no such split.
        """
        if name not in self.splits:
            raise DataError(
                f"there is no prepared split {name!r}, only {', '.join(self.splits)}",
                where=f"data.{name}",
                fix=f"name a file for {name!r} in the data settings and run prepare again",
            )
        return self.splits[name]

    def save(self, folder: str | Path) -> None:
        """Writes ``manifest.json``."""
        with atomic_file(Path(folder) / MANIFEST_FILE) as stream:
            stream.write(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> "Manifest":
        """Reads the manifest of a prepared folder.

        Raises:
            DataError: not a prepared folder, one of another version, or a damaged manifest.
        """
        path = Path(folder) / MANIFEST_FILE
        if kind_of(path) is None and not path.is_symlink():
            is_folder = Path(folder).is_dir()
            raise DataError(
                f"this folder is not prepared: it has no {MANIFEST_FILE}"
                if is_folder
                else "there is no such folder",
                where=folder,
                fix="run prepare first",
            )
        values = read_json(path, fix="run prepare again")
        if values.get("format_version") != FORMAT_VERSION:
            raise DataError(
                f"the folder was prepared in format {values.get('format_version')}, but this tfxc "
                f"reads format {FORMAT_VERSION}",
                where=path,
                fix="run prepare again, from the same files",
            )
        return valid_record(values, cls, path, fix="run prepare again")
