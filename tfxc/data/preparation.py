"""Raw files to a prepared folder: vectorise, number the labels, shuffle, write shards.

A prepared folder holds the shards, ``manifest.json``, ``labels.txt`` (the training vocabulary),
``unseen_labels.txt`` (labels of dev and test outside it), ``label_counts.npy`` (int64
(num_labels,), training examples of each label), for texts ``text_features/``, for texts of labels
``label_texts/`` and, where images were left out, ``corrupt_images.txt``; ``checksums.json`` of all
these, and ``sources.json`` (sizes and times of the sources).
"""

import glob
import itertools
import json
import shutil
from pathlib import Path

import numpy as np

from tfxc.core.config import DataSettings
from tfxc.core.errors import DataError
from tfxc.core.escaping import json_text
from tfxc.core.messages import NOTES
from tfxc.core.progress import Progress
from tfxc.core.resources import thread_count
from tfxc.core.settings import ImageSettings
from tfxc.core.storage import checksums
from tfxc.core.storage.files import SCRATCH, ensured_parent, write_array
from tfxc.core.storage.locks import locked, sweep
from tfxc.core.storage.ownership import atomic_folder
from tfxc.data.blocks.chunk_file import write_chunk
from tfxc.data.blocks.converting import BlockConverter, BlockRows
from tfxc.data.blocks.job import CHUNK, KEYS, LABELS, READ, TERMS, SplitJob
from tfxc.data.blocks.layout import dealt, in_order, shuffled_order
from tfxc.data.blocks.reading import BlockReader
from tfxc.data.blocks.tasks import convert_block, read_block
from tfxc.data.conversion import check_kind, check_width, report_unused_features
from tfxc.data.feature_sets.preparation import names_feature_sets, prepare_feature_sets
from tfxc.data.held_out import open_split, selected
from tfxc.data.images.conversion import ImageConverter, nothing_decoded
from tfxc.data.kinds import KINDS
from tfxc.data.label_ids import LabelNumbering
from tfxc.data.label_texts.preparation import LabelTextsPreparation
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
from tfxc.data.records.shard_writer import (
    IMAGE_SHARD_BYTES,
    SHARD_BYTES,
    split_info,
    write_block_shard,
)
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
from tfxc.data.text.base import learners_of, part_errors, parts_of
from tfxc.data.text.joined import given_terms
from tfxc.data.text.registry import build_text_features
from tfxc.data.text.tokens import report_truncated
from tfxc.labels.joined_labels import joined_labels
from tfxc.labels.look_alikes import warnings_of_names
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.parallel import map_tasks, workers

__all__ = ["DataSettings", "ensure_prepared", "fingerprint", "prepare", "prepared_folder"]

# Examples of a block. Large sets have larger ones, as every shard reads a part of every block.
CHUNK_EXAMPLES, _MOST_EXAMPLES, _BLOCKS = 8192, 65536, 256
CHUNK_IMAGES = 512
# Fewer blocks (with texts, and of given features), or fewer bytes of rows, are finished sooner than
# processes start.
MIN_TEXTS, MIN_BLOCKS, MIN_BYTES = 2, 64, 128 << 20


def prepare(settings: DataSettings, folder: str | Path, *, jobs: int | None = None) -> Manifest:
    """Prepares a data set; the folder is written atomically and replaces an existing one.

    The files are read once, block by block, in memory that does not depend on their size. The same
    files, settings and seed give the same bytes, however many processes work.

    Args:
        settings: ``DataSettings``.
        folder: the folder to write.
        jobs: processes that read, cut and write; None means all the cores there are. On a cluster
            (``tfxc.parallel.cluster``) its workers do so.

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
            _Preparation(settings, sources, scratch, _processes(jobs)).run()
        _record(scratch)
    return Manifest.load(folder)


def _processes(jobs):
    """How many tasks run at a time; on a cluster never only one, which would stay here."""
    found = workers()
    return thread_count(jobs) if found is None else max(2, found.tasks)


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
            NOTES.info(f"waiting for {process}, which prepares {folder}")

        with ensured_parent(folder), locked(folder.with_name(f".{folder.name}.lock"), waiting):
            sweep(folder.parent, SCRATCH.format("*"))  # of killed preparations, also of other sets
            if not folder.exists():
                prepare(settings, folder, jobs=jobs)
    else:  # a killed one may have left what it had replaced
        sweep(folder.parent, SCRATCH.format(glob.escape(folder.name)))
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


class _Preparation:
    """One run of ``prepare``: learn from the training split, then write every split."""

    def __init__(self, settings, sources, folder, jobs):
        self.settings, self.sources, self.folder, self.jobs = settings, sources, folder, jobs
        self.text_features = self.numbering = self.kind = self.images = self.label_texts = None
        self.fingerprints, self.num_features, self.num_train = {}, None, 0
        self.splits_cells = False

    def run(self):
        """Fills the folder."""
        stamps = stamps_of(self.settings)
        infos = {split: _Split(self, split).run() for split in self.sources}
        self._save(infos, stamps)
        save_stamps(self.folder, stamps)

    def open(self, split):
        """The reader of a split; that of the training split decides what there is to learn."""
        reader = open_split(self.settings, split)
        if is_builtin(self.sources[split]):
            self.fingerprints[split] = reader.source_fingerprint
        if split == "train":
            self._begin(reader)
        return reader

    def _begin(self, reader):
        settings, names = self.settings, self.settings.label_names
        if names is not None:
            names = LabelVocabulary.load(source_path(names))
        elif getattr(reader, "label_names", None) is not None:
            names = LabelVocabulary(reader.label_names)  # in the order of the format
        else:
            self.splits_cells = "label_separator" in getattr(reader, "label_options", ())
        self.numbering = LabelNumbering(
            reader.num_labels, names, settings.label_names, settings.num_labels
        )
        if settings.text_features is not None:
            self.text_features = build_text_features(settings.text_features)
        if settings.label_texts is not None:
            self.label_texts = LabelTextsPreparation(
                settings, self.text_features, getattr(reader, "held_out", ())
            )

    def number_labels(self):
        """Fixes the labels; returns the texts of those that text features learn from."""
        settings, where = self.settings, self.sources["train"]
        vocabulary = self.numbering.freeze(settings.min_label_count, where)
        options = {**settings.reader_options, **settings.split_options.get("train", {})}
        # The user has said which texts are labels.
        settled = settings.label_names is not None or options.get("label_separator", "") is None
        if self.numbering.most_labels == 1 and not settled:
            labelled = int(self.numbering.label_counts.sum())
            joined = joined_labels(vocabulary.names, labelled)
            if joined is not None:
                NOTES.warning(joined.warning(where, self.splits_cells))
        return [] if self.label_texts is None else self.label_texts.number(self.numbering)

    def learned(self, kind, num_features, num_train):
        """Takes the kind and width of what a training split is made of."""
        where = self.sources["train"]
        if (given := given_terms(self.text_features)) is not None:
            given.take_width(num_features, where)
        if self.text_features is not None:
            kind, num_features = self.text_features.kind, self.text_features.num_features
            self.text_features.save(self.folder / TEXT_FEATURES_FOLDER)
        if self.images is not None:
            if self.images.shape is None or not num_train:
                raise nothing_decoded(where)
            kind, num_features = self.images.kind, self.images.num_values
        self.kind, self.num_features, self.num_train = kind, num_features, num_train

    def _save(self, infos, stamps):
        settings, unseen, images = self.settings, self.numbering.unseen_vocabulary(), self.images
        where = self.sources["train"]
        if not is_builtin(where):
            for line in warnings_of_names([*self.numbering.vocabulary.names, *unseen.names]):
                NOTES.warning(f"{where}: {line}")
        text_settings = None
        if self.text_features is not None:
            # Through JSON, so that what is loaded equals what was saved (tuples become lists).
            text_settings = json.loads(
                json_text({**settings.text_features, **self.text_features.settings()})
            )
        self.numbering.vocabulary.save(self.folder / LABELS_FILE)
        unseen.save(self.folder / UNSEEN_LABELS_FILE)
        if images is not None:
            images.save_corrupt(self.folder)
        if self.label_texts is not None:
            self.label_texts.save(self.folder, self.numbering.vocabulary.names, self.text_features)
        write_array(self.folder / LABEL_COUNTS_FILE, self.numbering.label_counts)
        Manifest(
            name=settings.name, settings_fingerprint=fingerprint(settings),
            layout=settings.layout, feature_kind=self.kind.decoded.name,
            image_shape=images and images.shape, image_store=images and images.store,
            num_features=self.num_features, num_labels=len(self.numbering.vocabulary),
            num_trained_labels=self.label_texts and self.label_texts.num_trained,
            vocabulary_size=getattr(self.text_features, "vocabulary_size", None),
            num_unseen_labels=len(unseen), text_features=text_settings,
            row_normalise=settings.normalise,
            sources=describe_sources(settings, self.sources, self.fingerprints, stamps),
            splits=infos,
            fingerprints=fingerprints_of(
                self.folder, {split: info.sha256 for split, info in infos.items()}
            ),
        ).save(self.folder)  # fmt: skip


class _Split:
    """One split of a preparation: its blocks are read, converted and dealt to shards."""

    def __init__(self, preparation, split):
        self._all, self._split, self._training = preparation, split, split == "train"
        self._settings, self._where = preparation.settings, preparation.sources[split]
        self._scratch = preparation.folder / f"scratch-{split}"
        self._job, self._learners = None, {}
        self._examples, self._kinds, self._truncated, self._width = [], [], 0, 0

    def run(self):
        """Writes the shards; returns the ``SplitInfo``."""
        self._scratch.mkdir()
        reader, images = self._all.open(self._split), self._all.images
        left_out = len(images.corrupt) if images else 0
        if self._training and self._all.text_features is not None:
            self._learners = learners_of(self._all.text_features)
        self._describe("learning" if self._training else "known")
        self._read(reader)
        if self._training:
            self._learn()
            self._describe("known")
        blocks = self._convert()
        count = sum(block.examples for block in blocks)
        report_truncated(self._all.text_features, self._truncated, count, self._split)
        info = self._write_shards(blocks)
        if self._all.label_texts is not None:
            self._save_keys(info)
        if (images := self._all.images) is not None:
            info.corrupt_images = len(images.corrupt) - left_out
        shutil.rmtree(self._scratch)
        return info

    def _save_keys(self, info):
        """What the examples' texts have in common with those of labels, in the records' order."""
        keys = [np.load(self._job.file(KEYS, number)) for number in range(len(self._examples))]
        keys = np.concatenate(keys) if keys else np.zeros((0, 2), np.uint64)
        if self._training:
            keys = keys[shuffled_order(info.blocks, len(info.shards), self._settings.seed)]
        self._all.label_texts.save_examples(self._all.folder, self._split, keys)

    def _describe(self, stage):
        """Writes down what tasks have to know, and opens it for those of this process."""
        found, texts = self._all, None
        known = stage == "known"
        if known and found.text_features is not None:
            texts = str(found.folder / TEXT_FEATURES_FOLDER)
        SplitJob.describe(
            self._scratch, self._elsewhere(), split=self._split, where=str(self._where),
            limit=found.numbering.limit, features=texts,
            kind=found.kind.name if known else None, num_features=found.num_features,
            num_labels=len(found.numbering.vocabulary) if known else None,
        )  # fmt: skip
        self._stage, self._job = stage, SplitJob(self._scratch)
        self._job.text_features, self._job.learning = found.text_features, set(self._learners)

    def _elsewhere(self):
        """The settings with paths that do not depend on the current folder of a process."""
        settings = self._settings
        paths = {
            split: str(Path(source).absolute())
            for split, source in self._all.sources.items()
            if not is_builtin(source) and getattr(settings, split) is not None
        }
        return settings.model_copy(update=paths)

    def _read(self, reader):
        """The first task of all blocks; what is found is counted."""
        total, self._width = reader.num_examples, reader.num_features or 0
        with Progress(f"reading {self._split}", total, "examples") as progress:
            for read in self._blocks_read(reader):
                number = len(self._examples)
                self._count(read, number)
                self._examples.append(read.examples)
                progress.advance(read.examples)
        if not sum(self._examples):
            kind = "training" if self._training else self._split
            raise DataError(
                f"a {kind} split with examples expected, found an empty one",
                where=self._where,
                fix="check the file and the reader's options"
                + ("" if self._training else f", or remove data.{self._split}"),
            )

    def _blocks_read(self, reader):
        """Yields the ``BlockRead`` of every block in its order."""
        here = BlockReader(self._job)
        ranges = getattr(reader, "ranges", lambda folder: None)(self._scratch)
        if ranges is not None and self._all.images is None and not self._settings.images:
            tasks, processes = self._row_ranges(reader.num_examples)
            if processes == 1:
                yield from (here.read(ranges(a, b), n, a) for _, _, n, a, b in tasks)
                return
            yield from map_tasks(read_block, tasks, processes)
            return
        images = self._settings.images or self._all.images
        chunks = reader.chunks(CHUNK_IMAGES if images else CHUNK_EXAMPLES)
        first = next(chunks, None)
        if first is None:
            return
        chunks = itertools.chain([first], chunks)
        if self._is_images(first):
            yield from self._images_read(here, chunks)
        elif self._all.jobs > 1 and len(first) == CHUNK_EXAMPLES and self._all.text_features:
            yield from map_tasks(read_block, self._chunk_files(chunks), self._all.jobs)
        else:
            start = 0
            for number, chunk in enumerate(chunks):
                yield here.read(chunk, number, start)
                start += len(chunk)

    def _row_ranges(self, total):
        """Tasks for ranges of rows, and how many processes they are worth."""
        size = min(_MOST_EXAMPLES, max(CHUNK_EXAMPLES, total // _BLOCKS // 4096 * 4096))
        starts = range(0, total, size)
        tasks = [
            (str(self._scratch), self._stage, number, start, min(total, start + size))
            for number, start in enumerate(starts)
        ]
        return tasks, self._processes(len(tasks))

    def _processes(self, num_blocks):
        """How many processes the tasks of so many blocks are worth."""
        least = MIN_BLOCKS if self._all.text_features is None else MIN_TEXTS
        return self._all.jobs if num_blocks >= least else 1

    def _chunk_files(self, chunks):
        """Yields tasks for chunks, which are written to files."""
        start = 0
        for number, chunk in enumerate(chunks):
            write_chunk(self._job.file(CHUNK, number), chunk)
            yield str(self._scratch), self._stage, number, start, None
            start += len(chunk)

    def _is_images(self, first):
        """Whether this is a set of images; the first chunk of the training split decides."""
        settings = self._settings
        unspecified = settings.text_features is None and settings.normalise is None
        if self._training and (settings.images or (unspecified and first.images is not None)):
            self._all.images = ImageConverter(settings.images or ImageSettings())
        return self._all.images is not None

    def _images_read(self, here, chunks):
        images, start, number = self._all.images, 0, 0
        for chunk in chunks:
            if self._training:
                check_kind(chunk, "images", self._where, fix=None)
                images.count(chunk)
            size = images.chunk_images(CHUNK_IMAGES)
            for place in range(0, len(chunk), size):
                part = selected(chunk, np.arange(place, min(place + size, len(chunk))))
                yield here.read_images(part, number, start, images)
                start, number = start + len(part), number + 1

    def _count(self, read, number):
        """Numbers the labels and the terms of a block."""
        numbering = self._all.numbering
        # Not by the task: if its worker is lost before the result is here, it runs once more.
        self._job.file(CHUNK, number).unlink(missing_ok=True)
        if self._training:
            codes = numbering.count(read.labels, self._where)
        else:
            codes = numbering.ids_of(read.labels.values)
        write_array(self._job.file(LABELS, number), codes)
        for part, learner in self._learners.items():
            terms = learner.add(read.cuts[part])
            if parts_of(self._all.text_features)[part].cuts_once:
                write_array(self._job.file(TERMS, number, part or "all"), terms)
        self._truncated += read.truncated
        if read.kind is not None:
            self._count_features(read, number)

    def _count_features(self, read, number):
        """Checks the kind of given features; notes their width."""
        made = self._all.text_features
        if made is not None and given_terms(made) is None:
            if self._training and not number:
                report_unused_features(self._where, self._split)
            return
        self._kinds.append((KINDS[read.kind], read.width))

    def _learn(self):
        """Fixes the vocabularies, and writes down the ids of labels and terms."""
        parts, texts = parts_of(self._all.text_features), self._all.number_labels()
        for name, learner in self._learners.items():
            with part_errors(name):
                if texts:
                    learner.add(parts[name].cut(texts))
                ids = learner.finish()
            if parts[name].cuts_once:
                write_array(self._job.term_ids_file(name), ids)
        kind, width = None, self._width
        if self._kinds:
            kind, width = self._kinds[-1][0], max(width, *(width for _, width in self._kinds), 0)
        if self._all.text_features is None:
            for found, own in self._kinds:
                check_width(found, own, kind, width, self._where)
        self._all.learned(kind, width, sum(self._examples))
        write_array(self._job.label_ids_file, self._all.numbering.ids)

    def _convert(self):
        """The second task of all blocks; returns the ``BlockRows`` of each."""
        here, images = BlockConverter(self._job), self._all.images
        recount = self._training and images is not None  # without those that were left out
        blocks, counts = [], 0
        with Progress(f"preparing {self._split}", sum(self._examples), "examples") as progress:
            for number, found in self._converted(here, recount):
                blocks += [BlockRows(0, 0, 0, None)] * (number - len(blocks))
                blocks.append(found)
                self._truncated += found.truncated
                counts = counts + found.label_counts if recount else counts
                progress.advance(found.examples)
                for what in (READ, LABELS):
                    self._job.file(what, number).unlink()
        if recount:
            self._all.numbering.label_counts = counts
        return blocks

    def _converted(self, here, recount):
        """Yields number and ``BlockRows`` of the blocks that have examples."""
        numbers = [number for number, count in enumerate(self._examples) if count]
        processes = self._processes(len(numbers))
        if processes == 1 or self._all.images is not None:
            yield from ((number, here.convert(number, recount)) for number in numbers)
            return
        tasks = ((str(self._scratch), self._stage, number, recount) for number in numbers)
        found = map_tasks(convert_block, tasks, processes)
        yield from zip(numbers, found, strict=True)

    def _write_shards(self, blocks):
        """The third task, of all shards; returns the ``SplitInfo``."""
        found, sizes = self._all, [block.examples for block in blocks]
        most = SHARD_BYTES if found.images is None else IMAGE_SHARD_BYTES
        total = sum(block.nbytes for block in blocks)
        if self._training:
            examples = sum(sizes)
            count = max(-(-examples // self._settings.shard_examples), -(-total // most))
            count = min(count, examples)
            shards = (dealt(sizes, count, number) for number in range(count))
        else:
            each = [block.nbytes // max(1, block.examples) for block in blocks]
            shards = in_order(sizes, each, self._settings.shard_examples, most)
            count = len(shards)
        where = str(self._scratch), self._stage, str(found.folder)
        tasks = ((*where, number, count, segments) for number, segments in enumerate(shards))
        processes = found.jobs if total >= MIN_BYTES else 1
        written = []
        with Progress(f"writing {self._split}", count, "shards") as progress:
            for shard in map_tasks(write_block_shard, tasks, processes):
                written.append(shard)
                progress.advance(1)
        return split_info(written, sizes if self._training else [])
