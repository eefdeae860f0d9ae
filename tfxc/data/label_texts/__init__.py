"""Texts of labels: read from a file, kept next to the records, looked up in a training step."""

#: Their place in a prepared folder, and in the assets of a run.
LABEL_TEXTS_FOLDER = "label_texts"
#: Labels and texts in that folder.
TEXTS_FILE = "texts.jsonl"
