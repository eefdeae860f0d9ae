"""What a command proposes where a name is nearly right."""

import json

import pytest

from tests.commands.calls import call
from tests.data.reading.inspection.test_contents import pairs, write
from tfxc.commands import export, init, predict
from tfxc.core.errors import ConfigError
from tfxc.serving.server import listen


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "tickets.csv", "text,label", pairs(40))
    (tmp_path / "runs/tickets-fast").mkdir(parents=True)
    (tmp_path / "runs/tickets-fast/config.json").write_text(json.dumps({}))
    return tmp_path


@pytest.mark.parametrize(
    "run", ["runs/tickets", "tickets-fast", "ticket-fast", "runs/tickets_fast"]
)
def test_a_run_with_a_similar_name(folder, run, capsys):
    problem = call(capsys, predict, run, "tickets.csv").problem()
    assert "there is no such run folder, did you mean 'runs/tickets-fast'? " in problem


def test_no_run_is_similar(folder, capsys):
    problem = call(capsys, predict, "runs/other", "tickets.csv").problem()
    assert "there is no such run folder. Give" in problem


@pytest.mark.parametrize(
    ("file", "hint"), [("ticket.csv", ", did you mean 'tickets.csv'? "), ("other.txt", ". ")]
)
def test_a_file_with_a_similar_name(folder, file, hint, capsys):
    assert f"{file}: no such file{hint}Check" in call(capsys, init, file).problem()


@pytest.mark.parametrize(
    ("change", "home"), [("ranker.beam=0", "recipe.ranker"), ("epochs=3", "training.epochs")]
)
def test_a_key_of_a_section(folder, change, home, capsys):
    problem = call(capsys, init, "tickets.csv", "--set", change).problem()
    assert f"did you mean '{home}'? Use one of" in problem


def test_labels_named_as_the_texts(folder, capsys):
    write(folder / "a.csv", "nr,question,kind", [f"{n},{line}" for n, line in enumerate(pairs(40))])
    problem = call(capsys, init, "a.csv", "--text-column", "kind").problem()
    assert "the values of 'kind', named as the texts, repeat as those of labels do" in problem


def test_one_choice_is_said_once(capsys):
    outcome = call(capsys, export, "runs/any", "--quantize", "int4")
    assert outcome.code == 2 and outcome.err.count("int8") == 1


def test_a_host_that_is_none_of_this_machine():
    with pytest.raises(ConfigError, match=r"300\.1\.1\.1 is not an address of this machine"):
        listen("300.1.1.1", 0)


def test_a_folder_of_texts_for_each_class(folder, capsys):
    for label in ("a", "b"):
        (folder / "set" / label).mkdir(parents=True)
        (folder / "set" / label / "1.txt").write_text("some text")
    problem = call(capsys, init, "set").problem()
    assert "the files of the class are texts" in problem and "two columns of one .csv" in problem
