"""What users say the labels should have been, as a file that training reads."""

import json
import threading

import pytest

from tests.serving.runs import local_client, text_run
from tfxc.core.errors import ConfigError
from tfxc.data.reading.formats import open_reader
from tfxc.serving.feedback import Feedback


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return text_run(tmp_path_factory.mktemp("run") / "bot")


def client_with(run, file):
    pytest.importorskip("starlette", reason="needs the extra serve")
    from tfxc.serving.application import Application
    from tfxc.serving.metrics import Metrics
    from tfxc.serving.served import Catalog

    feedback = Feedback(file) if file else None
    return local_client(Application(Catalog({"bot": run}), Metrics(), feedback=feedback).asgi)


def test_lines_are_what_training_reads(run, tmp_path):
    file = tmp_path / "feedback.jsonl"
    told = [("the butter", ["soup"]), ('two\nlines, "quoted" 狐狸', ["a;b", "new label"])]
    with client_with(run, file) as client:
        assert client.get("/models").json()["feedback"] is True
        assert "/feedback" in client.get("/openapi.json").json()["paths"]
        for text, labels in told:
            answer = client.post("/feedback", json={"text": text, "labels": labels})
            assert answer.status_code == 200 and answer.json() == {"labels": labels}
    (chunk,) = open_reader(file).chunks()
    assert list(zip(chunk.texts, map(list, chunk.labels), strict=True)) == told


def test_nothing_is_taken_without_a_file(run):
    with client_with(run, None) as client:
        assert client.get("/models").json()["feedback"] is False
        assert "/feedback" not in client.get("/openapi.json").json()["paths"]
        answer = client.post("/feedback", json={"text": "a", "labels": ["b"]})
    assert answer.status_code == 404 and "--feedback FILE" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"text": "a"}, "labels"),
        ({"text": " ", "labels": ["b"]}, "text"),
        ({"text": 3, "labels": ["b"]}, "text"),
        ({"text": "a" * 100_001, "labels": ["b"]}, "the text has 100,001 characters"),
        ({"text": "a", "labels": "b"}, "labels"),
        ({"text": "a", "labels": ["b\nc"]}, "is not one non-empty line"),
        ({"text": "a", "labels": ["b", "b"]}, "occurs twice"),
        ({"text": "a", "labels": ["x" * 201]}, "labels"),
        ({"text": "a", "labels": [str(n) for n in range(101)]}, "there are 101 labels"),
        ({"text": "a", "labels": ["b"], "more": 1}, "there is no field 'more'"),
    ],
)  # fmt: skip
def test_what_is_refused_is_not_written(run, tmp_path, body, words):
    with client_with(run, tmp_path / "feedback.jsonl") as client:
        answer = client.post("/feedback", json=body)
    assert answer.status_code == 400 and words in answer.json()["error"]
    assert not (tmp_path / "feedback.jsonl").exists()


def test_forms_and_pages_of_other_hosts_are_refused(run, tmp_path):
    content = json.dumps({"text": "a", "labels": ["b"]})
    with client_with(run, tmp_path / "feedback.jsonl") as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            answer = client.post("/feedback", content=content, headers={"Content-Type": kind})
            assert answer.status_code == 415
        origin = {"Origin": "http://evil.example", "Content-Type": "application/json"}
        assert client.post("/feedback", content=content, headers=origin).status_code == 403
    assert not (tmp_path / "feedback.jsonl").exists()


def test_a_line_that_was_cut_off_is_dropped_and_one_by_hand_is_ended(tmp_path):
    file = tmp_path / "feedback.jsonl"
    first = '{"text": "a", "labels": ["b"]}'
    file.write_text(first)
    Feedback(file).add("c", ["d"])
    assert [json.loads(line)["text"] for line in file.read_text().splitlines()] == ["a", "c"]
    file.write_text(first + '\n{"text": "in the mid')
    Feedback(file).add("c", ["d"])
    assert [json.loads(line)["text"] for line in file.read_text().splitlines()] == ["a", "c"]


def test_several_writers_leave_whole_lines(tmp_path):
    file = tmp_path / "feedback.jsonl"

    def write(writer):
        feedback = Feedback(file)
        for number in range(20):
            feedback.add(f"{writer} {number} " + "x" * 5000, ["a"])

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    texts = [json.loads(line)["text"].split(" x")[0] for line in file.read_text().splitlines()]
    assert sorted(texts) == sorted(f"{w} {n}" for w in range(4) for n in range(20))


@pytest.mark.parametrize("name", ["feedback.csv", "feedback.jsonl.gz", "no_folder/a.jsonl"])
def test_other_files_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"--feedback: .*Name a \.jsonl file in an existing"):
        Feedback(tmp_path / name)
