"""Examples that are typed or come through a pipe, one per line, to have their labels found."""

import os
from collections.abc import Iterator, Sequence

from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.kinds import INPUTS
from tfxc.data.reading.parsing.lines import BYTE_ORDER_MARK, line_too_long, not_utf_8

_READ_BYTES = 1 << 20


def available_lines(descriptor: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yields ``(number of the first line, list of lines)`` as bytes as soon as any are there.

    Whatever a pipe holds is taken at once, so that a slow writer is answered line by line and a
    fast one in blocks.

    Args:
        descriptor: file descriptor to read from.

    Raises:
        DataError: a line is longer than 16 MB.
    """
    first = 1
    rest = b""
    while block := os.read(descriptor, _READ_BYTES):
        if first == 1 and not rest:
            block = block.removeprefix(BYTE_ORDER_MARK)
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise line_too_long(f"standard input:{first + len(lines)}", MAX_LINE_BYTES)
        if lines:
            yield first, [line.removesuffix(b"\r") for line in lines]
            first += len(lines)
    if rest:
        yield first, [rest.removesuffix(b"\r")]


def chunks_of_pipe(
    descriptor: int, input_kind: str, num_features: int | None, size: int
) -> Iterator[Chunk]:
    """Yields what comes as lines as chunks of at most ``size`` examples, at once.

    Args:
        descriptor: file descriptor to read from.
        input_kind, num_features: see ``chunk_of_lines``.
        size: most examples in a chunk.

    Raises:
        DataError: as ``chunk_of_lines``.
    """
    for first, lines in available_lines(descriptor):
        for start in range(0, len(lines), size):
            block = lines[start : start + size]
            yield chunk_of_lines(block, input_kind, num_features, first=first + start)


def chunk_of_lines(
    lines: Sequence[bytes | str],
    input_kind: str,
    num_features: int | None = None,
    where: str = "standard input",
    first: int = 1,
) -> Chunk:
    """Returns lines as a ``Chunk`` of examples.

    Args:
        lines: list of bytes or texts: a text each, ``id:value id:value ...`` for sparse features,
            numbers separated by spaces or commas for dense ones, the path of a file for images.
        input_kind: a name in ``tfxc.data.examples.kinds.INPUTS``.
        num_features: width of the features; None means what the sparse lines need.
        where, first: name of the source and number of the first line, for messages.

    Raises:
        DataError: a line is not UTF-8 or not of that form, or there is no such image file.

    Example:
        >>> chunk_of_lines(["0:1 2:0.5"], "sparse", 3).features.toarray().tolist()
        [[1.0, 0.0, 0.5]]
    """
    places = [f"{where}:{number}" for number in range(first, first + len(lines))]
    texts = []
    for line, place in zip(lines, places, strict=True):
        # A terminal of another encoding yields halves of surrogate pairs.
        content = line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass")
        try:
            texts.append(content.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise not_utf_8(content, error.start, place) from None
    return Chunk([[] for _ in texts], **INPUTS[input_kind].typed(texts, places, num_features))
