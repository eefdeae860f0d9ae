"""Raw files to a prepared folder: vectorise, number the labels, shuffle, write shards.

A prepared folder holds the shards, ``manifest.json``, ``labels.txt`` (the training vocabulary),
``unseen_labels.txt`` (labels of dev and test outside it), ``label_counts.npy`` (int64
(num_labels,), training examples of each label) and, for texts, ``text_features/``.
"""

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import sys

import scipy.sparse

from tfxc.config import DataSettings
from tfxc.data.conversion import Converter, check_kind
from tfxc.data.formats import open_reader
from tfxc.data.label_ids import LabelNumbering
from tfxc.data.manifest import Manifest, fingerprint, prepared_folder
from tfxc.data.shard_writer import in_order, npy_bytes, shuffled, write_split
from tfxc.data.source_files import (
    describe_sources,
    expand,
    find_sources,
    is_builtin,
    refuse_changed_sources,
)
from tfxc.data.text_features import build_text_features
from tfxc.errors import DataError
from tfxc.files import atomic_folder
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.progress import Progress

__all__ = ["DataSettings", "ensure_prepared", "fingerprint", "prepare", "prepared_folder"]

LABELS_FILE = "labels.txt"
UNSEEN_LABELS_FILE = "unseen_labels.txt"
LABEL_COUNTS_FILE = "label_counts.npy"
TEXT_FEATURES_FOLDER = "text_features"
# Large enough for several processes to share the texts of one chunk.
_CHUNK_EXAMPLES = 8192


def prepare(settings, folder, *, jobs=None):
    """Prepares a data set; the folder appears whole or not at all and replaces an existing one.

    The files are read twice (once for the vocabularies, once for the rows) in constant memory. The
    same files, settings and seed give the same bytes, however many processes work.

    Args:
        settings: ``DataSettings``.
        folder: the folder to write.
        jobs: processes that turn texts into features; None takes all the cores there are.

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
    jobs = jobs or len(os.sched_getaffinity(0))
    with atomic_folder(folder) as scratch:
        _Preparation(settings, sources, scratch, jobs).run()
    return Manifest.load(folder)


def ensure_prepared(settings, root="prepared", *, jobs=None):
    """The prepared folder of ``settings``, prepared now if it is not there yet.

    Several processes may ask at once: one prepares, the others wait for it.

    Returns:
        Path: ``prepared_folder(settings, root)``.

    Raises:
        DataError: as ``prepare``; or a source file has changed since it was prepared.
        UserError: as ``prepare``.
    """
    folder = prepared_folder(settings, root)
    if not folder.exists():
        find_sources(settings)  # refuses before anything is made
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(folder):
            if not folder.exists():
                return _prepare_beside(settings, folder, jobs)
    refuse_changed_sources(Manifest.load(folder), folder)
    return folder


def _prepare_beside(settings, folder, jobs):
    """Prepares under another name and renames; whoever renames first has won."""
    rival = folder.with_name(f".{folder.name}.{os.getpid()}")
    prepare(settings, rival, jobs=jobs)
    try:
        rival.rename(folder)
    except OSError:
        shutil.rmtree(rival)
        if not folder.exists():
            raise
    return folder


@contextlib.contextmanager
def _only_one(folder):
    """Lets one process at a time prepare ``folder``; the others wait here."""
    path = folder.with_name(f".{folder.name}.lock")
    with open(path, "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that prepares {folder}", file=sys.stderr)
            fcntl.flock(stream, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


class _Preparation:
    """One run of ``prepare``: learn from the training split, then write every split."""

    def __init__(self, settings, sources, folder, jobs):
        self.settings, self.sources, self.folder, self.jobs = settings, sources, folder, jobs
        self.text_features = self.numbering = None
        self.fingerprints = {}
        self.num_train = self.num_features = 0
        self.dense = False

    def run(self):
        """Fills the folder."""
        self._learn()
        scratch = self.folder / "scratch"
        scratch.mkdir()
        infos = {split: self._write(split, scratch) for split in self.sources}
        scratch.rmdir()
        self._save(infos)

    def _learn(self):
        """Reads the training split once: label counts, text statistics, widths."""
        settings, where = self.settings, self.sources["train"]
        reader = self._open("train")
        names = settings.label_names
        if names is not None:
            names = LabelVocabulary.load(expand(names))
        self.numbering = LabelNumbering(reader.num_labels, names, settings.label_names)
        texts = self._counted(reader)
        first = next(texts, None)
        if not self.num_train:
            raise DataError(
                "a training split with examples expected, found an empty one",
                where=where,
                fix="check the file and the reader's options",
            )
        texts = itertools.chain([first], texts)
        if settings.text_features is not None:
            self.text_features = build_text_features(settings.text_features)
            self.text_features.fit(texts, jobs=self.jobs)
        # Given features have nothing to fit, and hashed ones learn nothing from the texts: what is
        # left of the stream is read here.
        with Progress("reading train", reader.num_examples, "examples") as progress:
            for _ in texts:
                progress.advance(self.num_train - progress.done)
        self.numbering.freeze(settings.min_label_count, where)
        if self.text_features is not None:
            self.num_features = self.text_features.num_features

    def _counted(self, reader):
        """Yields the texts of a reader's chunks after counting their labels and widths."""
        where = self.sources["train"]
        for chunk in reader.chunks(_CHUNK_EXAMPLES):
            check_kind(chunk, self.settings.text_features is not None, where)
            self.numbering.count(chunk.labels, where, self.num_train)
            if self.settings.text_features is None:
                self.dense = not scipy.sparse.issparse(chunk.features)
                widths = (self.num_features, reader.num_features or 0, chunk.features.shape[1])
                self.num_features = max(widths)
            self.num_train += len(chunk)
            yield chunk.texts

    def _write(self, split, scratch):
        """Writes the shards of one split; returns its ``SplitInfo``."""
        settings, training = self.settings, split == "train"
        rows = self._rows(split, training)
        if training:
            shards = shuffled(rows, self.num_train, settings.shard_examples, settings.seed, scratch)
        else:
            shards = in_order(rows, settings.shard_examples)
        num_labels = len(self.numbering.vocabulary)
        return write_split(self.folder, split, shards, settings.layout, num_labels)

    def _rows(self, split, training):
        converter = Converter(
            numbering=self.numbering, num_features=self.num_features, dense=self.dense,
            text_features=self.text_features, normalise=self.settings.normalise, jobs=self.jobs,
        )  # fmt: skip
        reader = self._open(split)
        total = self.num_train if training else reader.num_examples
        with Progress(f"preparing {split}", total, "examples") as progress:
            chunks = reader.chunks(_CHUNK_EXAMPLES)
            for rows in converter.rows(chunks, self.sources[split], training=training):
                progress.advance(len(rows))
                yield rows

    def _open(self, split):
        options = {**self.settings.reader_options, **self.settings.split_options.get(split, {})}
        reader = open_reader(self.sources[split], name=self.settings.reader, **options)
        if is_builtin(self.sources[split]):
            self.fingerprints[split] = reader.source_fingerprint
        return reader

    def _save(self, infos):
        settings, unseen = self.settings, self.numbering.unseen_vocabulary()
        text_settings = None
        if self.text_features is not None:
            self.text_features.save(self.folder / TEXT_FEATURES_FOLDER)
            # Through JSON, so that what is loaded equals what was saved (tuples become lists).
            text_settings = json.loads(
                json.dumps({**settings.text_features, **self.text_features.settings()})
            )
        self.numbering.vocabulary.save(self.folder / LABELS_FILE)
        unseen.save(self.folder / UNSEEN_LABELS_FILE)
        counts = npy_bytes(self.numbering.label_counts)
        (self.folder / LABEL_COUNTS_FILE).write_bytes(counts)
        Manifest(
            name=settings.name, settings_fingerprint=fingerprint(settings),
            layout=settings.layout, feature_kind="dense" if self.dense else "sparse",
            num_features=self.num_features, num_labels=len(self.numbering.vocabulary),
            num_unseen_labels=len(unseen), text_features=text_settings,
            row_normalise=settings.normalise,
            sources=describe_sources(settings, self.sources, self.fingerprints), splits=infos,
        ).save(self.folder)  # fmt: skip
