"""Files that are sent to a server and come back with labels."""

import json
import threading

import pytest

from tests.commands.calls import call
from tests.serving.runs import client_of, text_run
from tests.small_runs import make_run
from tfxc.commands import predict
from tfxc.runs.loaded import load_run
from tfxc.serving import labelled_files
from tfxc.serving.limits import Limits
from tfxc.serving.served import RunOptions

TABLE = 'number,text,note\n1,"the butter, melted",\n2,"soup\nand tea",=1+1\n3,狐狸 street,x\n'


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    text_run(folder / "best")
    yes_no = {"objective": {"name": "sigmoid"}, "evaluation": {"threshold": 0.1}}
    text_run(folder / "decides", **yes_no)
    make_run(folder / "features", kind="sparse", num_features=9)
    return folder


def paths(runs):
    return {path.name: path for path in sorted(runs.iterdir())}


@pytest.fixture(scope="module")
def client(runs):
    """A client of all runs, which the tests leave as they are."""
    found, _ = client_of(paths(runs))
    with found:
        yield found


@pytest.fixture(scope="module")
def limited(runs):
    """As ``client``, of a server that takes small files only."""
    found, _ = client_of(paths(runs), Limits(file_bytes=100))
    with found:
        yield found


@pytest.mark.parametrize("run", ["best", "decides"])
@pytest.mark.parametrize("name", ["a.csv", "a.TSV", "a.jsonl", "a.txt"])
def test_the_answer_is_what_predict_writes(runs, client, tmp_path, capsys, run, name):
    contents = {
        ".csv": TABLE,
        ".tsv": "text\tnote\nbutter\t1\nsoup\t2\n",
        ".jsonl": '{"text": "butter"}\n{"text": "soup"}\n',
        ".txt": "butter\nsoup\n",
    }
    ending = "." + name.partition(".")[2].lower()
    content = contents[ending].encode()
    source = tmp_path / f"a{ending}"
    source.write_bytes(content)
    output = tmp_path / "labelled.csv"
    assert call(capsys, predict, runs / run, source, "--output", output).code == 0
    query = {"name": name, "model": run}
    answer = client.post("/predict-file", params=query, content=content)
    again = client.post("/predict-file", params=query, content=content)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/csv")
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert "attachment" in answer.headers["content-disposition"]
    assert answer.content == again.content == output.read_bytes()
    assert call(capsys, predict, runs / run, source, "--k", 1, "--output", output).code == 0
    one = client.post("/predict-file", params={**query, "k": 1}, content=content)
    assert one.content == output.read_bytes()


def test_a_k_beyond_the_labels_lists_all(runs, tmp_path, capsys):
    """The server's k is for all of its runs, of which some have fewer labels."""
    source = tmp_path / "a.csv"
    source.write_text("text\nbutter\n")
    output = tmp_path / "labelled.csv"
    count = load_run(runs / "best").manifest["num_labels"]
    command = (runs / "best", source, "--k", count, "--output", output)
    assert call(capsys, predict, *command).code == 0
    found, _ = client_of(paths(runs), options=RunOptions(k=99))
    with found:
        query = {"name": "a.csv", "model": "best"}
        answer = found.post("/predict-file", params=query, content=source.read_bytes())
        assert answer.status_code == 200 and answer.content == output.read_bytes()
        simple = found.post("/predict", json={"texts": ["butter"], "model": "best"}).json()
        assert len(simple["predictions"][0]) == count


def test_many_rows_come_back_in_their_order(runs, client, tmp_path, capsys):
    source = tmp_path / "a.csv"
    source.write_text("text\n" + "".join(f"butter {n} soup\n" for n in range(2000)))
    output = tmp_path / "labelled.csv"
    assert call(capsys, predict, runs / "best", source, "--output", output).code == 0
    query = {"name": "a.csv", "model": "best"}
    answer = client.post("/predict-file", params=query, content=source.read_bytes())
    assert answer.content == output.read_bytes()


@pytest.mark.parametrize(
    ("query", "content", "status", "words"),
    [
        ({"name": "a.csv", "model": "no"}, "text\na\n", 404, "there is no model"),
        ({"name": "a.exe"}, "text\na\n", 415, "'a.exe' is no file that can be labelled here"),
        ({"name": "a"}, "text\na\n", 415, "Send one that ends in .csv, .tsv, .txt, .jsonl"),
        ({}, "text\na\n", 400, "name"),
        ({"name": "a.csv", "k": "0"}, "text\na\n", 400, "k: "),
        ({"name": "a.csv", "k": "9" * 5000}, "text\na\n", 400, "k: "),
        ({"name": "a.csv", "k": "all"}, "text\na\n", 400, "k: "),
        ({"name": "a.csv", "k": [2, 3]}, "text\na\n", 400, "address: 'k' is given twice"),
        ({"name": "a.csv", "top": 3}, "text\na\n", 400, "address: there is no field 'top'"),
        ({"name": "a.csv"}, "text\n" + "a" * 200, 413, "more than 100 bytes, the most that"),
        ({"name": "a.csv"}, b"\x1f\x8b" + b"0" * 20, 400, "file: the file is compressed by gzip"),
        ({"name": "a.csv"}, "", 400, "file"),
        ({"name": "a.csv", "model": "features"}, "text\na\n", 400, "does not read texts alone"),
    ],
)  # fmt: skip
def test_what_is_refused(limited, query, content, status, words):
    answer = limited.post("/predict-file", params=query, content=content)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert "/tmp" not in answer.json()["error"]
    good = limited.post("/predict-file", params={"name": "a.csv"}, content="text\nsoup\n")
    assert good.status_code == 200, "the next file is labelled"


def test_a_page_of_another_host_gets_nothing(client):
    answer = client.post(
        "/predict-file",
        params={"name": "a.csv"},
        content="text\na\n",
        headers={"Origin": "http://evil.example"},
    )
    assert answer.status_code == 403


def test_one_file_at_a_time_and_other_requests_meanwhile(client, monkeypatch):
    begun = threading.Event()
    goes_on = threading.Event()
    write = labelled_files.write_predictions

    def slow(*arguments):
        begun.set()
        assert goes_on.wait(60)
        write(*arguments)

    monkeypatch.setattr(labelled_files, "write_predictions", slow)
    answers = []

    def send():
        query = {"name": "a.csv", "model": "best"}
        answers.append(client.post("/predict-file", params=query, content="text\nsoup\n"))

    sender = threading.Thread(target=send)
    sender.start()
    assert begun.wait(60)
    second = client.post("/predict-file", params={"name": "a.csv"}, content="text\nsoup\n")
    assert second.status_code == 503 and "another file" in second.json()["error"]
    assert client.post("/predict", json={"texts": ["soup"], "model": "best"}).status_code == 200
    goes_on.set()
    sender.join(60)
    assert answers[0].status_code == 200


def test_a_server_that_ends_stops_the_work(runs, monkeypatch):
    client, application = client_of(paths(runs))
    chunks = []

    def endless(path, *_):
        class Reader:
            def chunks(self, size):
                while True:
                    chunks.append(size)
                    application.draining = True
                    yield from original(path, *_).chunks(size)

            def table(self):
                return None

        return Reader()

    original = labelled_files.open_like
    monkeypatch.setattr(labelled_files, "open_like", endless)
    with client:
        query = {"name": "a.csv", "model": "best"}
        answer = client.post("/predict-file", params=query, content="text\nsoup\n")
    assert answer.status_code == 503 and "ending" in answer.json()["error"]
    assert len(chunks) > 1


def test_the_description_names_the_files(client):
    operation = client.get("/openapi.json").json()["paths"]["/predict-file"]["post"]
    assert [part["name"] for part in operation["parameters"]] == ["name", "k", "model"]
    assert json.dumps(operation["responses"]["200"]).count("text/csv") == 1
