"""The model card: front matter that YAML readers read, and the numbers of the report."""

import pytest
import yaml

from tests.reports.test_page import HOSTILE, measured
from tfxc.reports.card import front_matter, model_card, yaml_text


@pytest.mark.parametrize(
    "value",
    [
        {"a": ["x: y", "- z", "", "no", "1.0", "'", '"', "# c", "é 狐 🦊", "\x9b\u202e\n"]},
        {"model-index": [{"name": "m", "results": [{"task": {"type": "t"}, "n": [1, 0.5, None]}]}]},
        {"empty": [], "deep": {"er": {"est": ["x"]}}, "list": [{"a": [{"b": "c"}], "d": 1}]},
    ],
)
def test_yaml_is_read_as_it_was(value):
    assert yaml.safe_load(yaml_text(value)) == value


def test_the_card_has_the_numbers_of_the_report(tmp_path):
    result, _ = measured(tmp_path)
    text = model_card(result, "mit", ["en", "zh"], ["pets"], "my: model")
    _, head, body = text.split("---\n", 2)
    found = yaml.safe_load(head)
    assert (found["license"], found["language"]) == ("mit", ["en", "zh"])
    assert found["datasets"] == ["animals"] and {"tfxc", "pets", "dense"} <= {*found["tags"]}
    (index,) = found["model-index"]
    assert index["name"] == "my: model"
    (entry,) = index["results"]
    assert entry["dataset"] == {"type": "animals", "name": "animals", "split": "test"}
    values = {metric["name"]: metric["value"] for metric in entry["metrics"]}
    expected = result.decisions.per_label.classification.result()
    for name in ("accuracy", "micro-F1", "macro-F1", "micro-recall"):
        assert values[name] == pytest.approx(expected[name], abs=1e-6)
    assert values["ECE"] == pytest.approx(result.headline()["ECE"], abs=1e-6)
    assert {m["type"] for m in entry["metrics"] if m["name"] == "macro-F1"} == {"f1"}
    assert "# my: model" in body and "1,200 steps, 3.5 s" in body


def test_without_a_language_none_is_named(tmp_path):
    head = front_matter(measured(tmp_path)[0], "unknown", (), (), "x")
    assert "language" not in head and head["license"] == "unknown"


def test_names_of_others_do_not_end_the_front_matter(tmp_path):
    result, _ = measured(tmp_path, names=HOSTILE)
    result.loaded.manifest["name"] = "a\n---\nlicense: mit ```"
    head = model_card(result).split("---\n")[1]
    assert yaml.safe_load(head)["license"] == "unknown"
    assert yaml.safe_load(head)["datasets"] == ["a-license-mit"]
