"""Files of texts that are sent to a server and come back with labels."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tfxc.core.errors import UserError
from tfxc.core.storage.compression import compression_of
from tfxc.data.reading.formats import open_like
from tfxc.inference.prediction_files import write_predictions
from tfxc.serving.limits import RequestError, bad_request

if TYPE_CHECKING:
    from tfxc.inference.prediction_files import Answer
    from tfxc.serving.served import ServedRun

#: Endings of files that can be sent.
ENDINGS = (".csv", ".tsv", ".txt", ".jsonl")
# As many as ``tfxc predict`` searches for at a time: scores then agree to the last digit.
_AT_ONCE = 256


def ending_of_name(name: str) -> str:
    """Returns the ending of a file's name.

    Raises:
        RequestError: 415, such files are not read.

    Example:
        >>> ending_of_name("Tickets of May.CSV")
        '.csv'
    """
    ending = Path(name).suffix.lower()
    if ending not in ENDINGS:
        raise RequestError(
            415,
            f"{name[:60]!r} is no file that can be labelled here",
            where="name",
            fix=f"send one that ends in {', '.join(ENDINGS)}, or use tfxc predict",
        )
    return ending


class Stopped(Exception):
    """Nobody waits for the file any more."""


def label_file(
    served: "ServedRun", k: int | None, source: Path, target: Path, stop: threading.Event
) -> None:
    """Writes what ``tfxc predict RUN SOURCE --output TARGET`` does, perhaps with ``--k``.

    Between the chunks, the run answers other requests.

    Args:
        served: the run, on texts.
        k: labels of each example; None means those that the run decides for.
        source: a file, whose ending counts.
        target: ``.csv``.
        stop: ends it soon, once it is set.

    Raises:
        RequestError: 400, the run reads no texts, or the file cannot be read.
        Stopped: ``stop`` was set.
    """
    if served.forms.fields != ("texts",):
        raise bad_request(f"{served.name} does not read texts alone", "model")
    with source.open("rb") as stream:
        compression = compression_of(stream.read(16))
    if compression is not None:
        raise bad_request(f"the file is {compression.name}", "file", compression.fix)

    def answers() -> Iterator["Answer"]:
        for chunk in reader.chunks(_AT_ONCE):
            if stop.is_set():
                raise Stopped
            yield chunk, served.batcher.call(predictor.find, chunk, "file")

    try:
        predictor = served.predictor_of_files if k is None else served.predictor(k)
        listed = None if predictor.decides else predictor.k
        config = served.config
        reader = open_like(source, config.data, predictor.input_kind)
        write_predictions(target, predictor.names, reader, answers(), listed)
    except RequestError:
        raise
    except UserError as error:
        raise bad_request(str(error).replace(str(source), "file")) from None
