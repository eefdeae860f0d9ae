"""The page of a report: complete, escaped, and without any request."""

import base64
import contextlib
import hashlib
import html.parser
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.contracts.metrics import true_labels
from tests.serving.browser import Browser
from tfxc.core.config import parse_config
from tfxc.core.errors import DataError
from tfxc.decision.decision import Decision
from tfxc.metrics.suite import build_metrics
from tfxc.reports.decisions import Decisions
from tfxc.reports.measured import Measured
from tfxc.reports.page import FILE, write_page
from tfxc.tuning.results import PRUNED, Results

HOSTILE = [
    "</script><script>alert(1)</script>", "<img src=x onerror=alert(2)>", "{{ 7 * 7 }}",
    '" onmouseover="alert(3)', "狐狸 \u202e\x1b[31m", "a&b", "owl", "hen",
]  # fmt: skip


class Page(html.parser.HTMLParser):
    """Elements and texts of a page, as a browser reads them."""

    VOID = ("meta", "input", "br", "img", "link")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], {}
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def attributes(self, tag):
        return [found for name, found in self.elements if name == tag]


class Folder:
    """Stands in for a run's folder."""

    path = Path("runs/<b>bold</b>")

    def __init__(self, folder):
        self.folder = folder

    def __truediv__(self, name):
        return self.folder / name

    def summary(self):
        return {"steps": 1200, "seconds": 3.5}

    def environment(self):
        return None


def measured(folder, names=HOSTILE, decision=None, rows=60):
    """A run of random predictions of these labels; of the last one none at all."""
    rng, size = np.random.default_rng(0), len(names)
    metrics = build_metrics(ks=(1, 3), label_counts=3 * np.arange(1, size + 1))
    decisions = Decisions(decision or Decision(probabilities=True), names, 1000)
    ids = np.argsort(rng.random((rows, size - 1)), axis=1)
    scores = -np.sort(-rng.random(ids.shape), axis=1)
    scores[:, -1] = 0.01
    labels = rng.integers(0, size - 1, (rows, 1))
    found = SimpleNamespace(ids=ids, scores=scores, labels=labels, losses=None)
    metrics.update(ids, scores, labels)
    decisions.update((ids, scores, labels, found.losses))
    split = {"examples": 7, "labels": 7, "without_labels": 0, "unseen_labels": 0}
    source = {"path": "<i>train</i>.jsonl", "sha256": "5" * 64}
    config = {"run": "r", "data": {"name": "animals", "train": "<u>x</u>"},
              "encoder": {"name": "bag_mlp"}, "head": {"name": "dense"},
              "objective": {"name": "softmax"}}  # fmt: skip
    loaded = SimpleNamespace(
        folder=Folder(folder),
        config=parse_config(config),
        manifest={"name": "animals", "num_labels": size, "feature_kind": "sparse",
                  "splits": {"train": split},
                  "sources": {"train": source}, "fingerprints": {"labels": "abc"}},
        vocabulary=SimpleNamespace(names=list(names)),
        label_counts=3 * np.arange(1, size + 1),
        single_label=True,
        text_features=None,
    )  # fmt: skip
    wrong = {row for row, *_ in decisions.per_label.wrong}
    texts = {row: f"<b>text</b> {row} \x07" for row in wrong}
    pictures = dict.fromkeys([*wrong][:1], "data:image/png;base64,AAAA")
    return Measured(loaded, "test", metrics, decisions, texts, pictures), (ids, scores, labels)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Text of a page whose names, texts, paths and config are markup."""
    folder = tmp_path_factory.mktemp("page")
    lines = [{"step": s, "epoch": s, "loss": 5.0 - s, "dev P@1": s / 9} for s in range(4)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_page(folder, measured(folder)[0])
    return (folder / FILE).read_text("utf-8")


def test_nothing_of_what_others_wrote_becomes_markup(hostile):
    page = Page(hostile)
    assert len(page.attributes("script")) == 2
    assert [{*found} for found in page.attributes("img")] == [{"src", "alt"}]
    assert not page.attributes("b") or all(
        text not in "".join(page.texts["b"]) for text in ("text", "bold")
    )
    assert not any(name.startswith("on") for _, found in page.elements for name in found)
    shown = "".join(text for texts in page.texts.values() for text in texts)
    for text in ("<b>bold</b>", "<b>text</b>", "<i>train</i>.jsonl", "<u>x</u>", *HOSTILE[:4]):
        assert text in shown
    assert "49" not in "".join(page.texts["td"] + page.texts["bdi"]), "no template of theirs is run"


def test_control_characters_are_shown_as_their_escapes(hostile):
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]", hostile)
    assert "狐狸 \\u202e\\x1b[31m" in hostile and "\\x07" in hostile


def test_the_page_requests_nothing(hostile):
    page = Page(hostile)
    for tag, found in page.elements:
        assert not {"srcset", "action", "data", "style"} & {*found}, (tag, found)
        assert found.get("href", "#").startswith("#")
        assert found.get("src", "data:").startswith("data:")
    assert "url(" not in hostile and "@import" not in hostile
    (policy,) = [m["content"] for m in page.attributes("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    for kind, text in (("style", page.texts["style"]), ("script", page.texts["script"][-1:])):
        digest = hashlib.sha256("".join(text).encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_the_table_of_labels_is_that_of_the_counts(tmp_path):
    result, (ids, _, labels) = measured(tmp_path)
    write_page(tmp_path, result)
    page = Page((tmp_path / FILE).read_text("utf-8"))
    names, trained, true, predicted, right, precision, recall, f1 = json.loads(
        page.texts["script"][0]
    )
    assert names[0] and sorted(names) == sorted(
        name.replace("\u202e\x1b", "\\u202e\\x1b") for name in HOSTILE[:-1]
    )
    place = names.index("owl")
    owl = HOSTILE.index("owl")
    truth = np.array([owl in true_labels(row) for row in labels])
    hits = int((truth & (ids[:, 0] == owl)).sum())
    assert (trained[place], true[place], right[place]) == (3 * owl + 3, truth.sum(), hits)
    assert predicted[place] == (ids[:, 0] == owl).sum()
    assert precision[place] == pytest.approx(hits / predicted[place], abs=1e-4)
    assert recall[place] == pytest.approx(hits / truth.sum(), abs=1e-4)
    assert f1 == sorted(f1), "lowest first"


def test_everything_is_there(hostile):
    page = Page(hostile)
    assert page.texts["h2"] == [
        "Summary", "Training", "Frequent and rare labels", "Calibration", "Labels",
        "Confused labels", "Wrong examples", "Data", "Run",
    ]  # fmt: skip
    targets = [f"#{found['id']}" for found in page.attributes("h2")]
    assert [found["href"] for found in page.attributes("a")] == targets
    identifiers = [found["id"] for _, found in page.elements if "id" in found]
    assert len(set(identifiers)) == len(identifiers) >= 9
    drawn = [found["aria-label"] for found in page.attributes("svg")]
    assert drawn[:-1] == [
        "loss", "dev P@1", "means of the labels by frequency", "reliability diagram",
    ]  # fmt: skip
    assert drawn[-1].startswith("risk and coverage, area ")
    assert page.texts["td"].count("head") == page.texts["td"].count("tail") == 1
    assert "5" * 64 in page.texts["td"]


def test_without_probabilities_there_is_no_diagram(tmp_path):
    write_page(tmp_path, measured(tmp_path, decision=Decision(0.5))[0])
    text = (tmp_path / FILE).read_text("utf-8")
    assert "are not probabilities" in text and "reliability diagram" not in text
    assert "risk and coverage" not in text and "sizes of the sets returned" in text
    assert "ECE" not in text.replace("expected calibration error (ECE)", "")


def test_several_labels_have_a_diagram_of_each_rank_and_of_all(tmp_path):
    result, (ids, scores, labels) = measured(tmp_path, decision=Decision(0.5, True))
    write_page(tmp_path, result)
    page = Page((tmp_path / FILE).read_text("utf-8"))
    errors = [text for text in page.texts["b"] if text.startswith("ECE ")]
    assert len(errors) == 6
    hits = ids == labels
    edges = np.ceil(scores * 15).clip(1)
    for shown, ranks in ((errors[-1], slice(None)), (errors[1], slice(1, 2))):
        gaps = (hits - scores)[:, ranks]
        inside = edges[:, ranks]
        expected = sum(abs(gaps[inside == edge].sum()) for edge in range(1, 16)) / gaps.size
        assert shown == f"ECE {expected:.4f}"
    sizes = (scores >= 0.5).sum(axis=1)
    share = (sizes == sizes[0]).sum()
    assert any(
        text.startswith(f"{share:,} examples (") and text.endswith(f"get {sizes[0]} labels")
        for text in page.texts["title"]
    )


def test_many_labels_are_in_the_data_and_few_in_the_document(tmp_path):
    names = [f"label {number}" for number in range(2000)]
    write_page(tmp_path, measured(tmp_path, names, rows=1500)[0])
    page = Page((tmp_path / FILE).read_text("utf-8"))
    columns = json.loads(page.texts["script"][0])
    assert len(columns[0]) > 1000 and len({*map(len, columns)}) == 1
    assert len(page.attributes("tr")) < 200


def test_a_run_of_a_search_shows_all_settings(tmp_path):
    results = Results(tmp_path / "search", "P@1")
    for number, (dropout, result) in enumerate(
        [(0.1, 0.3), (0.2, 0.5), (0.3, PRUNED), (0.4, None)]
    ):
        changes = {"encoder.dropout": dropout, "head.name": "<b>"}
        results.add(tmp_path / "search" / f"animals-{number}", changes, result)
    results.set_importance({"encoder.dropout": 0.75, "head.name": 0.25})
    (result, _) = measured(tmp_path)
    result.loaded.folder.path = tmp_path / "search" / "animals-0"
    write_page(tmp_path, result)
    page = Page((tmp_path / FILE).read_text("utf-8"))
    assert any("This run is number 2 of 4 settings" in text for text in page.texts["p"])
    cells = page.texts["td"]
    first = cells.index("0.5000")
    assert cells[first : first + 12] == [
        "0.5000", "0.2", "<b>", "0.3000", "0.1", "<b>", "pruned", "0.3", "<b>",
        "failed", "0.4", "<b>",
    ]  # fmt: skip
    assert [found["value"] for found in page.attributes("meter")] == ["0.75", "0.25"]
    result.loaded.folder.path = tmp_path / "search" / "another"
    assert result.search() is None
    for foreign in ({}, {"settings": [{"run": "animals-0"}], "metric": "P@1", "importance": None}):
        (tmp_path / "search" / "search.json").write_text(json.dumps(foreign))
        with pytest.raises(
            DataError, match=r"search\.json: this file does not contain the results"
        ):
            result.search()


def test_the_table_of_labels_in_a_browser(tmp_path):
    names = [f"狐狸 {number}" for number in range(400)]
    write_page(tmp_path, measured(tmp_path, names, rows=900)[0])
    shown = "[...document.querySelectorAll('#labels tbody tr')].map(r => r.cells[{}].textContent)"
    with contextlib.closing(Browser()) as browser:
        browser.size(360, 640)
        browser.open(f"file://{tmp_path / FILE}")
        assert len(browser.evaluate(shown.format(0))) == 25
        assert browser.evaluate("document.documentElement.scrollWidth") <= 360
        browser.evaluate("document.querySelectorAll('#labels th button')[2].click()")
        counts = [int(text) for text in browser.evaluate(shown.format(2))]
        assert counts == sorted(counts, reverse=True) and len(counts) == 25
        browser.evaluate(
            "document.querySelector('.wide:has(#labels) + .pages button + button').click()"
        )
        following = [int(text) for text in browser.evaluate(shown.format(2))]
        assert following == sorted(following, reverse=True) and counts[-1] >= following[0]
        place = "document.querySelector('.wide:has(#labels) + .pages span').textContent"
        assert browser.evaluate(place).startswith("26 to 50 of ")
        browser.evaluate("document.getElementById('search').focus()")
        browser.type("狐狸 17")
        found = browser.evaluate(shown.format(0))
        assert 2 < len(found) <= 11 and all(name.startswith("狐狸 17") for name in found)
        pages = "document.querySelector('.wide:has(#labels) + .pages').offsetHeight"
        assert browser.evaluate(pages) == 0, "all are on one page"
        count = browser.evaluate("document.getElementById('count').textContent")
        assert count.startswith(f"{len(found)} of ")
        assert browser.problems == [] and set(browser.hosts) <= {""}


def test_the_best_and_the_worst_labels(tmp_path):
    names = [f"label {number}" for number in range(200)]
    write_page(tmp_path, measured(tmp_path, names, rows=900)[0])
    page = Page((tmp_path / FILE).read_text("utf-8"))
    columns = json.loads(page.texts["script"][0])
    rows = list(zip(*columns, strict=True))
    assert page.texts["h3"] == ["Lowest F1", "Highest F1", "All labels"]
    cells = page.texts["td"]
    best = sorted(rows, key=lambda row: (-row[-1], -row[2], row[0]))[:10]
    for few in (rows[:10], best):
        shown = [text for row in few
                 for text in (row[0], f"{row[2]:,}", f"{row[-1]:.4f}")]  # fmt: skip
        places = [n for n, text in enumerate(cells) if text == shown[0]]
        assert any(cells[place : place + len(shown)] == shown for place in places)


@pytest.mark.parametrize("width", [1280, 390])
def test_many_labels_are_a_page_that_can_be_read(tmp_path, width):
    """Of 605 labels, and of the wrong examples, a page at a time is shown."""
    names = [f"label {number}" for number in range(605)]
    write_page(tmp_path, measured(tmp_path, names, rows=1500)[0])
    shown = "[...document.querySelectorAll('{}')].filter(e => !e.hidden).length"
    with contextlib.closing(Browser()) as browser:
        browser.size(width, 900)
        browser.open(f"file://{tmp_path / FILE}")
        assert browser.evaluate("document.documentElement.scrollHeight") < 8000
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate(shown.format("article")) == 10
        button = "document.querySelector('[data-page]:has(article) + .pages button + button')"
        first = "[...document.querySelectorAll('article')].findIndex(e => !e.hidden)"
        browser.evaluate(f"{button}.click()")
        assert browser.evaluate(first) == 10 and browser.evaluate(shown.format("article")) == 10
        for _ in range(30):
            browser.evaluate(f"{button}.click()")
        last = browser.evaluate("document.querySelectorAll('article').length")
        assert browser.evaluate(first) == last - 10 and browser.evaluate(f"{button}.disabled")
        assert browser.problems == []


def test_without_a_script_everything_in_the_document_is_shown(tmp_path):
    names = [f"label {number}" for number in range(300)]
    write_page(tmp_path, measured(tmp_path, names, rows=900)[0])
    with contextlib.closing(Browser()) as browser:
        browser.size(1280, 900)
        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        browser.open(f"file://{tmp_path / FILE}")
        count = "[...document.querySelectorAll('{}')].filter(e => e.offsetHeight).length"
        assert browser.evaluate(count.format("#labels tbody tr")) == 25
        assert browser.evaluate(count.format("article")) == 200
        assert browser.evaluate(count.format(".pages, #controls")) == 0
