"""Exports of labelling tools, read as they are; each record is written as its tool writes it."""

import csv
import json

import pytest

from tests.contracts.formats import concatenated
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats import open_reader, open_unlabelled
from tfxc.data.reading.inspection.contents import inspect
from tfxc.data.reading.parsing.column_guess import Wanted
from tfxc.data.reading.parsing.records import record_columns, steps_of, value_at

LABELS = ("billing", "login", "delivery")
ROWS = [(f"text {number} of a customer", LABELS[number % 3]) for number in range(30)]


def label_studio(text, label, number):
    """Label Studio 1.x, "JSON": a task with its annotations."""
    region = {
        "value": {"choices": [label]}, "id": f"r{number}", "from_name": "queue",
        "to_name": "text", "type": "choices", "origin": "manual",
    }  # fmt: skip
    annotation = {
        "id": number, "completed_by": 1, "result": [region], "was_cancelled": False,
        "ground_truth": False, "created_at": "2024-01-01T00:00:00Z", "lead_time": 3.2,
        "prediction": {}, "result_count": 0, "task": number, "project": 1,
    }  # fmt: skip
    second = {**annotation, "result": [{**region, "value": {"choices": ["login"]}}]}
    return {
        "id": number, "annotations": [annotation, second][: 1 + number % 2],
        "file_upload": "a.csv", "drafts": [], "predictions": [], "data": {"text": text},
        "meta": {}, "created_at": "2024-01-01T00:00:00Z", "inner_id": number,
        "total_annotations": 1, "project": 1, "updated_by": 1, "comment_authors": [],
    }  # fmt: skip


def label_studio_min(text, label, number):
    """Label Studio, "JSON-MIN"."""
    return {
        "text": text, "id": number, "queue": label, "annotator": 1 + number % 2,
        "annotation_id": number, "created_at": "2024-01-01T00:00:00Z",
        "updated_at": "2024-01-01T00:00:00Z", "lead_time": 3.2 + number,
    }  # fmt: skip


def prodigy(text, label, number):
    """Prodigy, ``db-out`` of ``textcat.manual``."""
    return {
        "text": text, "_input_hash": 7 * number, "_task_hash": -3 * number,
        "options": [{"id": name, "text": name.title()} for name in LABELS],
        "_view_id": "choice", "config": {"choice_style": "multiple"}, "accept": [label],
        "answer": "accept", "_timestamp": 1_690_000_000 + number, "_session_id": "me",
    }  # fmt: skip


def prodigy_binary(text, label, number):
    """Prodigy, ``db-out`` of ``textcat.teach``."""
    return {
        "text": text, "label": label, "meta": {"score": 0.5}, "_input_hash": 7 * number,
        "_task_hash": -3 * number, "_view_id": "classification", "answer": "accept",
        "_timestamp": 1_690_000_000 + number,
    }  # fmt: skip


def spacy(text, label, number):
    """spaCy's ``cats``, as ``Doc.cats`` in JSON lines."""
    return {"text": text, "cats": {name: float(name == label) for name in LABELS}}


def doccano(text, label, number):
    """doccano, "JSONL"."""
    return {"id": number, "text": text, "label": [label], "Comments": []}


def argilla(text, label, number):
    """Argilla 2, ``dataset.records.to_json``."""
    answer = {"value": label, "user_id": "u1", "status": "submitted"}
    return {
        "id": f"r{number}", "fields": {"text": text}, "metadata": {"source": "mail"},
        "suggestions": {"queue": {"value": "login", "score": 0.5, "agent": "m"}},
        "responses": {"queue": [answer]}, "vectors": {}, "status": "completed",
        "_server_id": f"s{number}",
    }  # fmt: skip


def argilla_flat(text, label, number):
    """Argilla 2, ``dataset.records.to_datasets``, saved as JSON lines."""
    return {
        "id": f"r{number}", "status": "completed", "_server_id": f"s{number}", "text": text,
        "queue.responses": [label], "queue.responses.users": ["u1"],
        "queue.responses.status": ["submitted"], "queue.suggestion": "login",
        "queue.suggestion.score": None, "queue.suggestion.agent": "m",
    }  # fmt: skip


def argilla_1(text, label, number):
    """Argilla 1, a ``DatasetForTextClassification`` in JSON lines."""
    return {
        "text": text, "inputs": {"text": text}, "prediction": None, "prediction_agent": None,
        "annotation": label, "annotation_agent": "me", "vectors": None, "multi_label": False,
        "explanation": None, "id": f"r{number}", "metadata": {}, "status": "Validated",
        "event_timestamp": None, "metrics": {"text_length": len(text)},
    }  # fmt: skip


def argilla_feedback(text, label, number):
    """Argilla 1, a ``FeedbackDataset``."""
    answer = {"user_id": "u", "values": {"queue": {"value": label}}, "status": "submitted"}
    return {"fields": {"text": text}, "metadata": {}, "responses": [answer], "suggestions": []}


def nested(text, label, number):
    """No tool's: objects and lists of objects."""
    return {"content": {"body": text, "title": "t"}, "tags": [{"name": label, "id": number}]}


TOOLS = [
    label_studio, label_studio_min, prodigy, prodigy_binary, spacy, doccano, argilla, argilla_flat,
    argilla_1, argilla_feedback, nested,
]  # fmt: skip


def write(path, records, as_list=False):
    if as_list:
        path.write_text(json.dumps(records, indent=2))
    else:
        path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def read(path):
    """The examples, and the options that were found for the file."""
    found = inspect(str(path))
    chunk = concatenated(open_reader(path, found.format, **found.options).chunks())
    return list(zip(chunk.texts, chunk.labels, strict=True)), found.options


@pytest.mark.parametrize("as_list", [True, False])
@pytest.mark.parametrize("tool", TOOLS)
def test_an_export(tmp_path, tool, as_list):
    records = [tool(text, label, number) for number, (text, label) in enumerate(ROWS)]
    found, _ = read(write(tmp_path / "a.json", records, as_list))
    assert found == [(text, [label]) for text, label in ROWS]


def test_label_studio_where_several_choices_are_made(tmp_path):
    """Of one choice the text, of several an object; in CSV it is a cell."""
    records = [label_studio_min(text, label, n) for n, (text, label) in enumerate(ROWS)]
    for record in records[::2]:
        record["queue"] = {"choices": [record["queue"], "urgent"]}
    expected = [(text, [label, "urgent"][: 2 - n % 2]) for n, (text, label) in enumerate(ROWS)]
    assert read(write(tmp_path / "a.json", records, as_list=True))[0] == expected
    with open(tmp_path / "a.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, sorted(records[0]))
        writer.writeheader()
        for record in records:
            queue = record["queue"]
            text = queue if isinstance(queue, str) else json.dumps(queue)
            writer.writerow({**record, "queue": text})
    found, options = read(tmp_path / "a.csv")
    assert found == expected and options["label_separator"] == "{}"


def test_label_studio_with_two_questions(tmp_path):
    records = [label_studio(text, label, number) for number, (text, label) in enumerate(ROWS)]
    first = records[0]["annotations"][0]["result"]
    first.append({**first[0], "from_name": "mood", "value": {"choices": ["angry"]}})
    path = write(tmp_path / "a.json", records, as_list=True)
    with pytest.raises(
        DataError, match=r"answer several questions: 'mood', 'queue'\. Export JSON-M"
    ):
        inspect(str(path))
    found = inspect(str(path), Wanted(labels="annotations[0].result[0].value.choices"))
    assert found.labels == 3 and found.options["text_field"] == "data.text"


def test_tasks_that_nobody_has_labelled(tmp_path):
    records = [label_studio(text, label, number) for number, (text, label) in enumerate(ROWS)]
    records[0]["annotations"] = []
    found, _ = read(write(tmp_path / "a.json", records, as_list=True))
    assert found[0] == (ROWS[0][0], []) and found[1][1] == ["login"]


@pytest.mark.parametrize("tool", [prodigy, prodigy_binary])
def test_answers_that_were_not_accepted(tmp_path, tool, capsys):
    """They are left out where labels count, and said; not where texts are to be labelled."""
    records = [tool(text, label, number) for number, (text, label) in enumerate(ROWS)]
    for record, answer in zip(records[::10], ("reject", "ignore", "reject"), strict=True):
        record["answer"] = answer
    path = write(tmp_path / "a.jsonl", records)
    found, options = read(path)
    assert found == [(text, [label]) for n, (text, label) in enumerate(ROWS) if n % 10]
    assert options["only"] == {"answer": "accept"}
    assert "3 examples are left out: only those of answer 'accept' count" in capsys.readouterr().err
    reader = open_unlabelled(path, "text", options={"text_field": "text"}, defaults=options)
    assert len(concatenated(reader.chunks())) == 30


@pytest.mark.parametrize(
    ("record", "path", "value"),
    [
        ({"a": {"b": {"c": "x"}}}, "a.b.c", "x"),
        ({"a": [{"b": "x"}, {"b": "y"}]}, "a[1].b", "y"),
        ({"a": [{"b": "x"}, {"b": None}, {}, {"b": ["y", "z"]}]}, "a[].b", ["x", "y", "z"]),
        ({"a": [[{"b": 1}], [{"b": 2}]]}, "a[][0].b", [1, 2]),
        ({"a": {"b": "x"}}, "a.c", None),
        ({"a": "x"}, "a.b", None),
        ({"a": []}, "a[0]", None),
        ({"a": []}, "a[].b", []),
    ],
)
def test_paths(record, path, value):
    assert value_at(record, steps_of(path, "text_field")) == value


@pytest.mark.parametrize("path", ["a..b", "a.", ".a", "[0].a", "a[x]", "a[0", "a.[0]"])
def test_what_is_no_path(tmp_path, path):
    path_of_file = write(tmp_path / "a.jsonl", [{"text": "x", "labels": ["a"]}])
    with pytest.raises(ConfigError, match=r"text_field: .* is not a path of keys\. Write one such"):
        open_reader(path_of_file, text_field=path)


def test_a_key_with_a_point_is_a_key(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"a.b": "x", "a": {"b": "y"}, "label": "z"}])
    reader = open_reader(path, text_field="a.b", labels_field="label")
    assert concatenated(reader.chunks()).texts == ["x"]


def test_a_path_whose_first_key_is_missing(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"content": {"body": "x"}, "label": "z"}])
    reader = open_reader(path, text_field="contents.body", labels_field="label")
    with pytest.raises(
        DataError, match=r"a\.jsonl:1: there is no key 'contents\.body', only 'cont"
    ):
        list(reader.chunks())


def test_columns_of_records_are_where_their_paths_lead():
    """For every path that is found, a look at each record along it finds the same values."""
    records = [
        {"a": {"b": "x", "c": {"d": 1}}, "e": [{"f": "y", "g": [{"h": 2}, {"h": 3}]}, {"f": "z"}]},
        {"a": None, "e": []},
        {"a": {"c": None}, "e": [{"g": []}]},
    ]
    columns, unreadable = record_columns(records)
    assert set(columns) == {"a.b", "a.c.d", "e[].f", "e[].g[].h"} and not unreadable
    for path, values in columns.items():
        steps = steps_of(path, "text_field")
        assert [value_at(record, steps) for record in records] == values, path
