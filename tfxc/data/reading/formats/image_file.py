"""Single image files."""

from collections.abc import Iterator
from pathlib import Path

from tfxc.core.storage.reading import existing_file, read_errors
from tfxc.data.examples.kinds import IMAGE
from tfxc.data.reading.formats.base import EncodedImageReader
from tfxc.data.reading.parsing.path_probe import IMAGE_SUFFIXES, PathProbe


class ImageFile(EncodedImageReader):
    """Reads one image file as the only example, for a model that finds its labels.

    Args:
        path: the file.

    Raises:
        DataError: it is missing or cannot be read.

    Example:
        >>> len(next(ImageFile("cat.jpg").chunks(8)))                # doctest: +SKIP
        1
    """

    summary = "an image file"
    has_labels = False

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        return probe.input_kind == IMAGE.name and probe.suffix().lower() in IMAGE_SUFFIXES

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.num_examples = 1

    def _examples(self) -> Iterator[tuple[str, bytes, list[str]]]:
        with read_errors(self.path):
            content = existing_file(self.path).read_bytes()
        yield str(self.path), content, []
