"""What every reader must do; a format's test class inherits it and gives a sample."""

import bz2
import gzip
import lzma

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.reading.formats import open_reader


class ReaderContract:
    """Inherit, and write ``write_sample``.

    Attributes:
        format: the format's name.
        options: options of the reader.
        label_type: ``str`` or ``int``.
    """

    format = None
    options = {}  # noqa: RUF012 (read only)
    label_type = str

    def write_sample(self, folder):
        """Writes valid data of at least 8 examples and returns its path."""
        raise NotImplementedError

    def write_compressed(self, folder):
        """Writes data that notices when it is cut; yields ``(path to open, file to cut)``."""
        raise NotImplementedError

    def open(self, path):
        return open_reader(path, self.format, **self.options)

    @pytest.mark.parametrize("size", [1, 7, 4096])
    def test_chunk_sizes_give_the_same_examples(self, tmp_path, size):
        reader = self.open(self.write_sample(tmp_path))
        chunks = list(reader.chunks(size))
        assert all(len(chunk) == size for chunk in chunks[:-1])
        assert 0 < len(chunks[-1]) <= size
        assert_same(concatenated(chunks), concatenated(reader.chunks(10**6)))

    def test_types_and_lengths(self, tmp_path):
        reader = self.open(self.write_sample(tmp_path))
        chunk = concatenated(reader.chunks())
        assert len(chunk) >= 8
        assert reader.num_examples in (None, len(chunk))
        given = (chunk.texts, chunk.features, chunk.images)
        assert sum(part is not None for part in given) >= 1
        for labels in chunk.labels:
            assert type(labels) is list
            assert all(type(label) is self.label_type for label in labels)
            assert len(set(labels)) == len(labels)
            if self.label_type is int and reader.num_labels is not None:
                assert all(0 <= label < reader.num_labels for label in labels)
        if chunk.texts is not None:
            assert len(chunk.texts) == len(chunk)
            assert all(type(text) is str for text in chunk.texts)
        if chunk.features is not None:
            assert chunk.features.shape == (len(chunk), reader.num_features)
            assert chunk.features.dtype == np.float32
        if chunk.images is not None:
            assert_images(chunk)

    def test_reading_twice_is_the_same(self, tmp_path):
        reader = self.open(self.write_sample(tmp_path))
        next(reader.chunks(2))  # left unfinished
        first = concatenated(reader.chunks(5))
        assert_same(first, concatenated(reader.chunks(5)))

    def test_progress(self, tmp_path):
        reader = self.open(self.write_sample(tmp_path))
        if reader.total_bytes is not None:
            concatenated(reader.chunks())
            assert reader.bytes_read in (0, reader.total_bytes)

    def test_missing(self, tmp_path):
        with pytest.raises(DataError, match=r"absent.*no such file"):
            self.open(tmp_path / "absent")

    def test_bad_chunk_size(self, tmp_path):
        with pytest.raises(ConfigError, match="chunk size"):
            self.open(self.write_sample(tmp_path)).chunks(0)

    def test_unknown_option(self, tmp_path):
        with pytest.raises(ConfigError, match="has no argument 'colour'"):
            open_reader(self.write_sample(tmp_path), self.format, colour="red")

    def test_compressed_reads_whole_and_truncated_is_refused(self, tmp_path):
        cases = list(self.write_compressed(tmp_path))
        if not cases:
            pytest.skip("nothing in this format is compressed")
        for path, compressed in cases:
            assert len(concatenated(self.open(path).chunks(3))) >= 8
            content = compressed.read_bytes()
            for length in (0, len(content) // 2, len(content) - 3):
                compressed.write_bytes(content[:length])
                with pytest.raises(DataError, match=r"truncated or damaged") as caught:
                    concatenated(self.open(path).chunks(3))
                assert str(caught.value).startswith(str(compressed))
            compressed.write_bytes(content)


def concatenated(chunks):
    """All chunks as one."""
    chunks = list(chunks)
    texts, features, images, names = None, None, None, None
    if chunks[0].texts is not None:
        texts = [text for chunk in chunks for text in chunk.texts]
    if scipy.sparse.issparse(chunks[0].features):
        features = scipy.sparse.vstack([chunk.features for chunk in chunks], format="csr")
    elif chunks[0].features is not None:
        features = np.concatenate([chunk.features for chunk in chunks])
    if isinstance(chunks[0].images, np.ndarray):
        images = np.concatenate([chunk.images for chunk in chunks])
    elif chunks[0].images is not None:
        images = [image for chunk in chunks for image in chunk.images]
    if chunks[0].names is not None:
        names = [name for chunk in chunks for name in chunk.names]
    return Chunk(
        labels=[labels for chunk in chunks for labels in chunk.labels],
        texts=texts,
        features=features,
        images=images,
        names=names,
    )


def assert_images(chunk):
    """The images are uint8 arrays of 1 or 3 channels or encoded, and have names of their own."""
    if isinstance(chunk.images, np.ndarray):
        assert chunk.images.dtype == np.uint8
        assert len(chunk.images) == len(chunk)
        assert chunk.images.shape[3] in (1, 3)
        assert chunk.images.flags.c_contiguous
    else:
        assert type(chunk.images) is list
        assert len(chunk.images) == len(chunk)
        assert all(type(image) is bytes for image in chunk.images)
    assert len(set(chunk.names)) == len(chunk)
    assert all(type(name) is str for name in chunk.names)


def assert_same(one, other):
    """Both chunks hold the same examples."""
    assert one.labels == other.labels
    assert one.texts == other.texts
    assert one.names == other.names
    if isinstance(one.images, np.ndarray):
        np.testing.assert_array_equal(one.images, other.images)
    else:
        assert one.images == other.images
    assert type(one.features) is type(other.features)
    if scipy.sparse.issparse(one.features):
        assert one.features.shape == other.features.shape
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(
                getattr(one.features, part), getattr(other.features, part)
            )
    elif one.features is not None:
        np.testing.assert_array_equal(one.features, other.features)


def compressed_texts(folder, name, content):
    """Yields ``(path, path)`` of ``content`` (bytes) by gzip, xz and bzip2."""
    packed = {".GZ": gzip.compress, ".XZ": lzma.compress, ".bz2": bz2.compress}
    for suffix, compress in packed.items():
        path = folder / f"{name}{suffix}"
        path.write_bytes(compress(content))
        yield path, path
