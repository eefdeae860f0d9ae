"""Raw files to a prepared folder: vectorise, number the labels, shuffle, write shards.

A prepared folder holds the shards, ``manifest.json``, ``labels.txt`` (the training vocabulary),
``unseen_labels.txt`` (labels of dev and test outside it), ``label_counts.npy`` (int64
(num_labels,), training examples of each label), for texts ``text_features/`` and, where images were
left out, ``corrupt_images.txt``; ``checksums.json`` of all these, and ``sources.json`` (sizes and
times of the sources).
"""

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfxc.core.config import DataSettings
from tfxc.core.errors import DataError
from tfxc.core.escaping import json_text
from tfxc.core.progress import Progress
from tfxc.core.resources import thread_count
from tfxc.core.settings import ImageSettings
from tfxc.core.storage import checksums
from tfxc.core.storage.files import SCRATCH, ensured_parent
from tfxc.core.storage.locks import locked, sweep
from tfxc.core.storage.ownership import atomic_folder
from tfxc.data.chunk import Chunk
from tfxc.data.conversion import Converter, check_kind, report_unused_features
from tfxc.data.feature_sets.preparation import names_feature_sets, prepare_feature_sets
from tfxc.data.held_out import open_split
from tfxc.data.images.conversion import ImageConverter, nothing_decoded
from tfxc.data.kinds import kind_of_features
from tfxc.data.label_ids import LabelNumbering, joined_labels
from tfxc.data.manifest import (
    AGAIN,
    LABEL_COUNTS_FILE,
    LABELS_FILE,
    MANIFEST_FILE,
    TEXT_FEATURES_FOLDER,
    UNSEEN_LABELS_FILE,
    Manifest,
    fingerprint,
    fingerprints_of,
    prepared_folder,
)
from tfxc.data.records.shard_writer import SHARD_BYTES, in_order, npy_bytes, shuffled, write_split
from tfxc.data.source_files import (
    STAMPS_FILE,
    describe_sources,
    find_sources,
    is_builtin,
    refuse_changed_sources,
    save_stamps,
    source_path,
    stamps_of,
)
from tfxc.data.text.joined import given_terms
from tfxc.data.text.registry import build_text_features
from tfxc.data.text.tokens import report_truncated
from tfxc.labels.vocabulary import LabelVocabulary

__all__ = ["DataSettings", "ensure_prepared", "fingerprint", "prepare", "prepared_folder"]

# Large enough for several processes to share the texts of one chunk.
CHUNK_EXAMPLES = 8192
CHUNK_IMAGES = 512
_SAMPLE = 1000  # texts whose features stand for the size of all
_NO_FEATURES = (
    "name their file in the reader's option features, or choose other data.text_features.terms"
)


def prepare(settings: DataSettings, folder: str | Path, *, jobs: int | None = None) -> Manifest:
    """Prepares a data set; the folder is written atomically and replaces an existing one.

    The files are read twice (once for the vocabularies, once for the rows) in constant memory. The
    same files, settings and seed give the same bytes, however many processes work.

    Args:
        settings: ``DataSettings``.
        folder: the folder to write.
        jobs: processes that turn texts into features; None means all the cores there are.

    Returns:
        Manifest.

    Raises:
        DataError: a file is missing or malformed, the training split is empty or without labels.
        UserError: the disk is full or the folder cannot be written to.

    Example:
        >>> settings = DataSettings(name="bibtex", train="train.txt", test="test.txt")
        >>> prepare(settings, "prepared/bibtex").num_labels        # doctest: +SKIP
        159
    """
    sources = find_sources(settings)
    with atomic_folder(folder, "prepared data set") as scratch:
        if names_feature_sets(settings, sources):
            prepare_feature_sets(settings, sources, scratch)
        else:
            _Preparation(settings, sources, scratch, thread_count(jobs)).run()
        _record(scratch)
    return Manifest.load(folder)


def _record(folder):
    """Writes down the checksums of all files but those that change, see ``source_files``."""
    shards = [shard for split in Manifest.load(folder).splits.values() for shard in split.shards]
    known = {shard.file: (shard.bytes, shard.sha256) for shard in shards}
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    checksums.record(folder, {str(name) for name in files} - {STAMPS_FILE}, known)


def ensure_prepared(
    settings: DataSettings, root: str | Path = "prepared", *, jobs: int | None = None
) -> Path:
    """The prepared folder of ``settings``, prepared now if it is not there yet.

    Several processes may ask at once: one prepares, the others wait for it.

    Returns:
        Path: ``prepared_folder(settings, root)``.

    Raises:
        DataError: as ``prepare``; or a source has changed since it was prepared, or a file of the
            prepared folder is missing or damaged.
        UserError: as ``prepare``.
    """
    folder = prepared_folder(settings, root)
    if not folder.exists():
        find_sources(settings)  # refuses before anything is made

        def waiting(process):
            print(f"waiting for {process}, which prepares {folder}", file=sys.stderr)

        with ensured_parent(folder), locked(folder.with_name(f".{folder.name}.lock"), waiting):
            sweep(folder.parent, SCRATCH.format("*"))  # of killed preparations, also of other sets
            if not folder.exists():
                prepare(settings, folder, jobs=jobs)
    refuse_changed_sources(check_prepared(folder), folder)
    return folder


def check_prepared(folder: str | Path) -> Manifest:
    """Compares the small files of a prepared folder with their checksums, and all sizes.

    Shards are left to their readers: every record has its own checksum.

    Returns:
        Manifest.

    Raises:
        DataError: this is not a prepared folder, or a file is missing or damaged.
    """
    if not (Path(folder) / MANIFEST_FILE).is_file():
        return Manifest.load(folder)  # it says what is expected
    checksums.check_file(folder, MANIFEST_FILE, AGAIN)
    manifest = Manifest.load(folder)
    shards = {shard.file for split in manifest.splits.values() for shard in split.shards}
    checksums.check(folder, AGAIN, elsewhere=shards)
    return manifest


def report_joined_labels(names: Sequence[str], where: str | Path) -> None:
    """Warns of label names that look like several labels in one cell.

    Args:
        names: all label names of a training file whose examples have one label each.
        where: the file.
    """
    found = joined_labels(names)
    if found is None:
        return
    separator, joined = found
    print(
        f"warning: {where}: every example has one label, but {len(joined):,} of {len(names):,} "
        f"label names look like several, such as {joined[0]!r}; if they are, set "
        f"data.reader_options.label_separator to {separator!r} (CSV, TSV), or write lists",
        file=sys.stderr,
    )


def _first_texts(chunk):
    """The first texts of a chunk, with their features if there are any."""
    features = None if chunk.features is None else chunk.features[:_SAMPLE]
    return Chunk(chunk.labels[:_SAMPLE], texts=chunk.texts[:_SAMPLE], features=features)


class _Preparation:
    """One run of ``prepare``: learn from the training split, then write every split."""

    def __init__(self, settings, sources, folder, jobs):
        self.settings, self.sources, self.folder, self.jobs = settings, sources, folder, jobs
        self.text_features = self.numbering = None
        self.fingerprints, self.given, self.num_train, self.num_features = {}, None, 0, 0
        self.images = self.recounted = None  # an ImageConverter, for a set of images
        self.given_bytes, self.characters, self.sample = 0, 0, None

    def run(self):
        """Fills the folder."""
        stamps = stamps_of(self.settings)
        self._learn()
        (scratch := self.folder / "scratch").mkdir()
        infos = {split: self._write(split, scratch) for split in self.sources}
        scratch.rmdir()
        self._save(infos, stamps)
        save_stamps(self.folder, stamps)

    def _learn(self):
        """Reads the training split once: label counts, text statistics, widths."""
        settings, where = self.settings, self.sources["train"]
        reader, names = self._open("train"), settings.label_names
        if names is not None:
            names = LabelVocabulary.load(source_path(names))
        elif getattr(reader, "label_names", None) is not None:
            names = LabelVocabulary(reader.label_names)  # in the order of the format
        self.numbering = LabelNumbering(
            reader.num_labels, names, settings.label_names, settings.num_labels
        )
        if settings.text_features is not None:
            self.text_features = build_text_features(settings.text_features)
        texts = self._counted(reader)
        first = next(texts, None)
        if not self.num_train:
            raise DataError(
                "a training split with examples expected, found an empty one", where=where,
                fix="check the file and the reader's options",
            )  # fmt: skip
        texts = itertools.chain([first], texts)
        if self.text_features is not None:
            self.text_features.fit(texts, jobs=self.jobs)
        # Given and hashed features learn nothing: what is left of the stream is read here.
        with Progress("reading train", reader.num_examples, "examples") as progress:
            for _ in texts:
                progress.advance(self.num_train - progress.done)
        vocabulary = self.numbering.freeze(settings.min_label_count, where)
        if self.numbering.most_labels == 1:
            report_joined_labels(vocabulary.names, where)
        if (given := given_terms(self.text_features)) is not None:
            given.take_width(self.num_features, where)
        if self.text_features is not None:
            self.num_features = self.text_features.num_features
        if self.images is not None:
            self.images.check_learned(where)
            self.num_features = self.images.num_values

    def _counted(self, reader):
        """Yields the texts of a reader's chunks after counting their labels and widths."""
        where = self.sources["train"]
        for chunk in reader.chunks(self._chunk_size):
            self._choose_kind(chunk, where)
            self.numbering.count(chunk.labels, where, self.num_train)
            if self.images is not None:
                self.images.count(chunk)
            elif self.text_features is None:
                self._count_features(chunk, reader)
                values = self.given.values(chunk.features).size
                self.given_bytes += self.given.columns[0].value_bytes * values
            else:
                if given_terms(self.text_features) is not None:
                    self._count_features(chunk, reader)
                self.characters += sum(map(len, chunk.texts))
                self.sample = self.sample or _first_texts(chunk)
            self.num_train += len(chunk)
            yield chunk.texts

    def _count_features(self, chunk, reader):
        """Kind and width of given features so far."""
        self.given = kind_of_features(chunk.features, self.sources["train"])
        width = self.given.num_features(chunk.features)
        self.num_features = max(self.num_features, reader.num_features or 0, width)

    def _choose_kind(self, chunk, where):
        """Checks what the chunk holds; the first one decides whether this is a set of images."""
        settings = self.settings
        unspecified = settings.text_features is None and settings.normalise is None
        if not self.num_train and (settings.images or (unspecified and chunk.images is not None)):
            self.images = ImageConverter(settings.images or ImageSettings())
        wanted = "features" if settings.text_features is None else "texts"
        check_kind(chunk, wanted if self.images is None else "images", where, fix=None)
        if given_terms(self.text_features) is not None:
            check_kind(chunk, "features", where, fix=_NO_FEATURES)
        elif not self.num_train and wanted == "texts":
            report_unused_features(chunk, where, "train")

    @property
    def _chunk_size(self):
        # Before the first chunk only the settings show that images are coming.
        if self.images is not None:
            return self.images.chunk_images(CHUNK_IMAGES)
        return CHUNK_IMAGES if self.settings.images else CHUNK_EXAMPLES

    def _write(self, split, scratch):
        """Writes the shards of one split; returns its ``SplitInfo``."""
        settings, training = self.settings, split == "train"
        rows, most = self._rows(split, training), settings.shard_examples
        if self.images is not None:
            most, left_out = self.images.shard_examples(most), len(self.images.corrupt)
        if training:
            count = max(-(-self.num_train // most), -(-self._train_bytes() // SHARD_BYTES))
            shards = shuffled(rows, min(count, self.num_train), settings.seed, scratch)
        else:
            shards = in_order(rows, most)
        num_labels = len(self.numbering.vocabulary)
        info = write_split(self.folder, split, shards, settings.layout, num_labels)
        if self.images is not None:
            info.corrupt_images = len(self.images.corrupt) - left_out
        return info

    def _train_bytes(self):
        """About what the rows of the training split take; of texts by those at its beginning."""
        if self.images is not None:
            return 0  # counted by shard_examples
        size = self.given_bytes
        if self.text_features is not None and self.sample:
            arrays = self._converter().arrays_of(self.sample, self.sources["train"]).values()
            share = self.characters / max(1, sum(map(len, self.sample.texts)))
            size = int(share * sum(array.nbytes for array in arrays))
        return size + 4 * int(self.numbering.label_counts.sum()) + 16 * self.num_train

    def _rows(self, split, training):
        converter = self._converter()
        reader, cut = self._open(split), getattr(self.text_features, "num_truncated", 0)
        total = self.num_train if training else reader.num_examples
        with Progress(f"preparing {split}", total, "examples") as progress:
            chunks = reader.chunks(self._chunk_size)
            for rows in converter.rows(chunks, self.sources[split], training=training):
                progress.advance(len(rows))
                if training and self.images is not None:
                    self._recount(rows)
                yield rows
        if training and not progress.done:
            raise nothing_decoded(self.sources[split])
        report_truncated(self.text_features, cut, progress.done, split)

    def _converter(self):
        return Converter(
            numbering=self.numbering, num_features=self.num_features, kind=self._kind,
            text_features=self.text_features, normalise=self.settings.normalise, jobs=self.jobs,
            images=self.images,
        )  # fmt: skip

    def _recount(self, rows):
        """Counts the training labels of images once more, without those of images left out."""
        if self.recounted is None:
            self.recounted = np.zeros(len(self.numbering.vocabulary), np.int64)
            self.numbering.label_counts = self.recounted
        self.recounted += np.bincount(rows.label_ids, minlength=len(self.recounted))

    def _open(self, split):
        reader = open_split(self.settings, split)
        if is_builtin(self.sources[split]):
            self.fingerprints[split] = reader.source_fingerprint
        return reader

    def _save(self, infos, stamps):
        settings, unseen, images = self.settings, self.numbering.unseen_vocabulary(), self.images
        text_settings = None
        if self.text_features is not None:
            self.text_features.save(self.folder / TEXT_FEATURES_FOLDER)
            # Through JSON, so that what is loaded equals what was saved (tuples become lists).
            text_settings = json.loads(
                json_text({**settings.text_features, **self.text_features.settings()})
            )
        self.numbering.vocabulary.save(self.folder / LABELS_FILE)
        unseen.save(self.folder / UNSEEN_LABELS_FILE)
        if images is not None:
            images.save_corrupt(self.folder)
        counts = npy_bytes(self.numbering.label_counts)
        (self.folder / LABEL_COUNTS_FILE).write_bytes(counts)
        Manifest(
            name=settings.name, settings_fingerprint=fingerprint(settings),
            layout=settings.layout, feature_kind=self._kind.decoded.name,
            image_shape=images and images.shape, image_store=images and images.store,
            num_features=self.num_features, num_labels=len(self.numbering.vocabulary),
            vocabulary_size=getattr(self.text_features, "vocabulary_size", None),
            num_unseen_labels=len(unseen), text_features=text_settings,
            row_normalise=settings.normalise,
            sources=describe_sources(settings, self.sources, self.fingerprints, stamps),
            splits=infos,
            fingerprints=fingerprints_of(
                self.folder, {split: info.sha256 for split, info in infos.items()}
            ),
        ).save(self.folder)  # fmt: skip

    @property
    def _kind(self):
        """The kind of the rows; of given features that of the last chunk."""
        makers = (self.images, self.text_features)
        return next((maker.kind for maker in makers if maker is not None), self.given)
