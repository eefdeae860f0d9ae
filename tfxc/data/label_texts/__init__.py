"""Texts of labels: read from a file, kept next to the records, looked up in a training step."""

from pathlib import Path

#: Their place in a prepared folder, and in the assets of a run.
LABEL_TEXTS_FOLDER = "label_texts"
#: Labels and texts in that folder.
TEXTS_FILE = "texts.jsonl"
#: Keys of the texts, in that folder.
KEYS_FILE = "keys.npy"


def has_label_texts(folder: str | Path) -> bool:
    """Whether a prepared folder, or the assets of a run, hold label texts."""
    return (Path(folder) / LABEL_TEXTS_FOLDER / KEYS_FILE).is_file()
