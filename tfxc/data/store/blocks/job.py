"""What the tasks of one split work on: blocks of its examples, in files of a scratch folder.

A block is some thousand examples in their order in the source. Two tasks belong to each: the first
(``reading``) cuts its texts and says which labels and terms it has; the second (``converting``),
once labels and terms are numbered, makes rows of it. What learns from all blocks stands between
them (``tfxc.data.store.preparation``). Files of a block:

* ``chunk``: its examples, if the source can be read from its beginning only;
* ``read``: what the first task found, labels and terms by their places among those of the block;
* ``labels``, ``terms``: which ones these are;
* ``keys``: of its texts, where labels have texts as well;
* ``rows``: its rows, of the training split in random order.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfxc.core.escaping import json_text
from tfxc.core.settings import DataSettings
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.kinds import ROW_KINDS
from tfxc.data.reading.held_out import open_split
from tfxc.data.text.base import learners_of
from tfxc.data.text.registry import build_text_features, load_text_features
from tfxc.parallel import not_on_storage

CHUNK = "chunk"
READ = "read"
LABELS = "labels"
TERMS = "terms"
KEYS = "keys"
ROWS = "rows"
_JOB_FILE = "job.json"
_LABEL_IDS = "label-ids.npy"
_TERM_IDS = "term-ids-{}.npy"


class SplitJob:
    """A split and what is known about it, for the tasks of one process.

    Args:
        folder: scratch folder of the split; ``describe`` has been called for it.

    Attributes:
        settings: ``DataSettings``.
        split, where: its name, and the source for messages.
        limit: label numbers have to be below it; None if that is not known.
        kind, num_features: of the rows; None while they are being learned.
        num_labels: of the vocabulary; None while it is being learned.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / _JOB_FILE).is_file():
            raise not_on_storage("the blocks to prepare", folder, moved="the prepared data")
        known = json.loads((self.folder / _JOB_FILE).read_text(encoding="utf-8"))
        self.settings = DataSettings.model_validate(known["settings"])
        self.split = known["split"]
        self.where = known["where"]
        self.limit = known["limit"]
        self.num_features = known["num_features"]
        self.num_labels = known["num_labels"]
        self.kind = None if known["kind"] is None else ROW_KINDS[known["kind"]]
        self._features_folder = known["features"]

    @staticmethod
    def describe(folder: Path, settings: DataSettings, **known: Any) -> None:
        """Writes what the tasks of a split have to know.

        Args:
            folder: scratch folder of the split.
            settings: of the set.
            **known: ``split``, ``where``, ``limit``, ``features`` (folder of fitted text features),
                ``kind`` (its name), ``num_features`` and ``num_labels``, None if not known.
        """
        values = {**known, "settings": settings.model_dump(mode="json")}
        (folder / _JOB_FILE).write_text(json_text(values), encoding="utf-8")

    @property
    def training(self) -> bool:
        """Whether this is the training split."""
        return self.split == "train"

    def file(self, what: str, number: int, part: str = "") -> Path:
        """Returns the path of a file of a block, see the module; ``part`` is one of the text
        features.
        """
        return self.folder / f"{what}-{number:08d}{part and '-'}{part}"

    @property
    def label_ids_file(self) -> Path:
        """Ids of all labels that the training split has, by their codes."""
        return self.folder / _LABEL_IDS

    def term_ids_file(self, part: str) -> Path:
        """Returns the ids of all terms that the training split has, by their numbers."""
        return self.folder / _TERM_IDS.format(part)

    @functools.cached_property
    def text_features(self) -> Any:
        """Those of the settings, fitted if that was done; None if there are none."""
        if self._features_folder is not None:
            return load_text_features(self._features_folder)
        section = self.settings.text_features
        return None if section is None else build_text_features(section)

    @functools.cached_property
    def learning(self) -> set[str]:
        """Names of the parts of the text features that learn from the split's texts."""
        if self.kind is not None or self.text_features is None:
            return set()
        return set(learners_of(self.text_features))

    @functools.cached_property
    def rows_of_source(self) -> Callable[[int, int], Chunk]:
        """The source's examples from a first one to another (exclusive)."""
        rows = open_split(self.settings, self.split).ranges(self.folder)
        assert rows is not None, "the source can be read from any example on"
        return rows


@functools.lru_cache(maxsize=1)
def job_of(folder: str, stage: str) -> SplitJob:
    """Returns the ``SplitJob`` of a folder, opened once by each process.

    Args:
        folder: scratch folder of the split.
        stage: changes whenever the job's description does.
    """
    return SplitJob(folder)
