"""Texts of labels: read from a file, kept next to the records, looked up in a training step."""

#: In place of a file: the names of the labels.
NAMES = "names"
