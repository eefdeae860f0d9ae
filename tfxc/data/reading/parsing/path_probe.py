"""What is at a path of unknown format: what readers look at to recognise their own."""

import contextlib
import functools
import itertools
from pathlib import Path

from tfxc.core.errors import DataError
from tfxc.core.storage.compression import ending_of
from tfxc.data.reading.parsing.archives import is_shard_pattern, is_tar, tar_members
from tfxc.data.reading.parsing.lines import Lines

#: Endings of image files, in lower case.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_FOLDERS = 10  # folders in a folder that are looked at
_INSIDE = 100  # entries of each


class PathProbe:
    """A file, folder or pattern of shards; everything is looked at once, when it is requested.

    Args:
        path: as provided by the user.
        input_kind: the input that the model reads, for examples whose labels do not matter; a name
            in ``tfxc.data.examples.kinds.INPUTS``. None = the labels are needed.

    Attributes:
        path: ``Path``.
        input_kind: as given.
        is_pattern: whether the path is not a file but a pattern of tar shards.
        is_folder: whether it is a folder.
        is_file: whether it is a file.
        is_tar: whether it is a file whose name ends as that of a tar archive does.
    """

    def __init__(self, path: str | Path, input_kind: str | None = None) -> None:
        self.path = Path(path)
        self.input_kind = input_kind
        self.is_pattern = is_shard_pattern(path)
        self.is_folder = self.path.is_dir()
        self.is_file = self.path.is_file()
        self.is_tar = self.is_file and is_tar(self.path.name)

    def suffix(self, compressed: bool = False) -> str:
        """Returns the ending of a file's name in lower case; empty of anything else.

        Args:
            compressed: whether the file may be compressed; then the ending in front of one such as
                ``.gz``.

        Example:
            >>> PathProbe(__file__).suffix(), PathProbe(".").suffix()
            ('.py', '')
        """
        if not self.is_file:
            return ""
        return ending_of(self.path) if compressed else self.path.suffix.lower()

    @functools.cached_property
    def files(self) -> frozenset[str]:
        """Names of the files in a folder, hidden ones left out; of anything else, none."""
        return frozenset(entry.name for entry in self._entries if entry.is_file())

    @functools.cached_property
    def folders(self) -> frozenset[str]:
        """Names of the folders in a folder, hidden ones left out; in anything else, none."""
        return frozenset(entry.name for entry in self._entries if entry.is_dir())

    @functools.cached_property
    def endings(self) -> frozenset[str]:
        """The endings of ``files``, in lower case."""
        return frozenset(Path(name).suffix.lower() for name in self.files)

    @functools.cached_property
    def inner_endings(self) -> frozenset[str]:
        """The endings of files in the first folders of a folder, as far as a glance shows them."""
        folders = sorted(entry for entry in self._entries if entry.is_dir())[:_FOLDERS]
        inside = (itertools.islice(folder.iterdir(), _INSIDE) for folder in folders)
        return frozenset(entry.suffix.lower() for entries in inside for entry in entries)

    @functools.cached_property
    def has_images(self) -> bool:
        """Whether a folder has image files or, which may hold some, folders in it."""
        has_folders = len(self.files) < len(self._entries)
        return has_folders or not self.endings.isdisjoint(IMAGE_SUFFIXES)

    @functools.cached_property
    def first_line(self) -> bytes | None:
        """The first line of a text file, decompressed; None of an empty one."""
        return Lines(self.path).first()

    @functools.cached_property
    def arrays(self) -> frozenset[str]:
        """Names of the arrays of an ``.npz`` file; none where it is another one, or damaged."""
        if self.suffix() != ".npz":
            return frozenset()
        from tfxc.data.reading.parsing.arrays import array_names

        with contextlib.suppress(DataError):  # whoever reads it says what is wrong with it
            return frozenset(array_names(self.path))
        return frozenset()

    @functools.cached_property
    def first_member(self) -> str:
        """The name of the first file in a tar archive; empty if there is none."""
        if not self.is_tar:
            return ""
        with contextlib.closing(tar_members(self.path)) as members:
            return next((member.name for member, _ in members), "")

    @functools.cached_property
    def _entries(self) -> list[Path]:
        entries = self.path.iterdir() if self.is_folder else ()
        return [entry for entry in entries if not entry.name.startswith(".")]
