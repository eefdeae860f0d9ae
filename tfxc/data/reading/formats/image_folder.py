"""Folders of image files, one sub-folder per class."""

import collections
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.reading import existing_file, read_errors
from tfxc.data.examples.kinds import IMAGE
from tfxc.data.reading.formats.base import EncodedImageReader, split_error, warn_once
from tfxc.data.reading.parsing.label_checks import check_label_name
from tfxc.data.reading.parsing.path_probe import IMAGE_SUFFIXES, PathProbe

# Names of the folders of splits; and images that TensorFlow does not decode.
_SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test")
_OTHER_IMAGES = (".webp", ".tif", ".tiff", ".heic", ".avif", ".jp2", ".ppm", ".svg")


class ImageFolder(EncodedImageReader):
    """Reads the image files of a folder; the name of the sub-folder is the label.

    Classes come in the order of their names, and so do the files of a class; files in deeper
    folders belong to the class too. Hidden files and folders, and files that are not images by
    their ending, are skipped; a warning counts those that are images of another format. The images
    come as the bytes of their files.

    Args:
        path: the folder with one sub-folder per class.
        split: of a folder with one folder per split, called train, val and so on: the one to read.
        extensions: endings of image files, or a single one, in lower case; upper case is read too.
        skip_empty: leave sub-folders without images out.
        labelled: False reads all images at any depth, without labels.

    Raises:
        ConfigError: one of the ``extensions`` is empty.
        DataError: the path is not a folder, a class has no image, an image is outside the classes,
            there are no images at all.

    Example:
        >>> reader = ImageFolder("imagenet/train")         # doctest: +SKIP
        >>> next(reader.chunks(1)).labels                  # doctest: +SKIP
        [['n01440764']]
    """

    summary = "a folder of images per class"

    @classmethod
    def splits_of(cls, path: Path) -> list[str]:
        return _splits(path)

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        return probe.is_folder and (probe.has_images or probe.input_kind == IMAGE.name)

    def __init__(
        self,
        path: str | Path,
        *,
        split: str | None = None,
        extensions: str | Annotated[Sequence[str], MinLen(1)] = IMAGE_SUFFIXES,
        skip_empty: bool = False,
        labelled: bool = True,
    ) -> None:
        super().__init__(path)
        names = [extensions] if isinstance(extensions, str) else extensions
        self._extensions = tuple("." + name.lower().lstrip(".") for name in names)
        if "." in self._extensions:
            raise ConfigError(
                f"an ending is empty in {extensions!r}",
                where="extensions",
                fix="list endings such as .jpg",
            )
        if not self.path.is_dir():
            raise DataError("this is a file", where=self.path, fix="give the folder of images")
        if labelled or split is not None:
            self.path = _split_folder(self.path, split)
        self._folders: dict[str | None, Path] = {None: self.path}
        self._skipped = collections.Counter[str]()
        if labelled:
            classes = self._classes(skip_empty)
            self._folders = dict(classes.items())
            self.label_names = list(classes)
            self.num_labels = len(classes)
        self._skipped.clear()
        self.num_examples = sum(1 for _ in self.files())
        if self._skipped:
            counts = (f"{count:,} {ending}" for ending, count in sorted(self._skipped.items()))
            warn_once(
                f"{self.path}: {', '.join(counts)} files are skipped; convert them to JPEG or PNG"
            )
        if not self.num_examples:
            raise DataError(
                f"the folder has no image files ({', '.join(self._extensions)})",
                where=self.path,
                fix="check the folder and the option extensions",
            )

    def _examples(self) -> Iterator[tuple[str, bytes, list[str]]]:
        for label, file in self.files():
            # A name that is not UTF-8 could not be written into a report.
            name = file.relative_to(self.path).as_posix()
            name = name.encode("utf-8", "backslashreplace").decode("utf-8")
            with read_errors(file):
                content = existing_file(file).read_bytes()
            yield name, content, [] if label is None else [label]

    def files(self) -> Iterator[tuple[str | None, Path]]:
        """Yields label and path of each image, the label None without labels."""
        for label, folder in self._folders.items():
            for file in self._images(folder):
                yield label, file

    def _images(self, folder: Path) -> Iterator[Path]:
        """Yields the image files below ``folder``, sorted."""
        names: list[str] = []
        folders: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink() and entry.is_dir():
                    target = Path(os.path.realpath(entry.path))
                    if Path(os.path.realpath(folder)).is_relative_to(target):
                        raise DataError(
                            f"this link points back to {target}", where=entry.path, fix="remove it"
                        )
                (folders if entry.is_dir() else names).append(entry.name)
        for name in sorted(names):
            if name.lower().endswith(self._extensions):
                yield Path(folder, name)
            elif (ending := Path(name).suffix.lower()) in _OTHER_IMAGES:
                self._skipped[ending] += 1
        for name in sorted(folders):
            yield from self._images(Path(folder, name))

    def _classes(self, skip_empty: bool) -> dict[str, Path]:
        """Returns class name -> folder."""
        entries = [entry for entry in sorted(self.path.iterdir()) if entry.name[0] != "."]
        folders = {entry.name: entry for entry in entries if entry.is_dir()}
        for entry in entries:
            if not entry.is_dir() and entry.name.lower().endswith(self._extensions):
                raise DataError(
                    f"the image {entry.name} is not in the sub-folder of a class",
                    where=self.path,
                    fix="move it into the folder of its class, or read without labels "
                    "(labelled=False)",
                )
        for name, folder in list(folders.items()):
            check_label_name(name, folder)
            if next(self._images(folder), None) is not None:
                continue
            if not skip_empty and next(folder.glob("*.txt"), None) is not None:
                raise DataError(
                    "the files of the class are texts, and a folder per class is read for images",
                    where=folder,
                    fix="write texts and labels as two columns of one .csv or .jsonl file",
                )
            if not skip_empty:
                raise DataError(
                    f"the class {name!r} has no image files ({', '.join(self._extensions)})",
                    where=folder,
                    fix="delete the folder, or set the option skip_empty",
                )
            del folders[name]
        return folders


def _splits(folder: Path) -> list[str]:
    """Returns the sub-folders, if each is named as a split and holds folders: of classes."""
    folders = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_dir())
    if len(folders) < 2 or not all(path.name.lower() in _SPLITS for path in folders):
        return []
    has_classes = all(any(entry.is_dir() for entry in path.iterdir()) for path in folders)
    return [path.name for path in folders] if has_classes else []


def _split_folder(folder: Path, split: str | None) -> Path:
    """Returns the folder of a split; ``folder`` itself where there are none."""
    splits = _splits(folder)
    if split in splits:
        return folder / split
    if not splits and split is None:
        return folder
    if splits:
        raise split_error(folder, splits, split)
    raise DataError(
        f"the folder has no splits, so it has no split {split!r}",
        where=folder,
        fix="leave the option split out",
    )
