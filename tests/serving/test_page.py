"""The page in a real browser: typing, comparing, dropping, errors, small and dark screens."""

import base64
import contextlib
import json

import numpy as np
import pytest

from tests.commands.calls import call
from tests.label_text_runs import train, write_data
from tests.serving.browser import Browser
from tests.serving.runs import running, text_run
from tests.small_runs import make_run
from tfxc.commands import predict
from tfxc.data.examples.chunk import Chunk
from tfxc.inference.predictors import RunPredictor
from tfxc.runs.loaded import load_run

SECOND = ["<b>bold</b>", "soup", "tea"]
NAMES = "[...document.querySelectorAll('.run:nth-child({}) .name')].map(e => e.textContent)"
HEADINGS = "[...document.querySelectorAll('.run h2')].map(e => e.textContent)"


@pytest.fixture(scope="module")
def browser():
    with contextlib.closing(Browser()) as found:
        yield found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    text_run(folder / "first")
    text_run(folder / "second", names=SECOND, objective={"name": "hinge"})
    make_run(
        folder / "image", kind="image", num_features=192, image_shape=[8, 8, 3],
        encoder={"name": "resnet", "depth": 10, "width": 4},
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def server(browser, runs):
    names = ("first", "second", "image")
    with running(*(runs / name for name in names), "--max-bytes", 20_000) as found:
        yield found


@pytest.fixture
def page(browser, server):
    """The page, loaded anew."""
    browser.size(900, 900)
    browser.colours("light")
    browser.hosts.clear()
    browser.problems.clear()
    browser.open("http://{}:{}/".format(*server.address))
    browser.wait("document.querySelectorAll('#first option').length === 3")
    return browser


def labels(run, text, k=5):
    loaded = load_run(run)
    k = min(k, loaded.manifest["num_labels"])
    found = RunPredictor(loaded, k, None)(Chunk([[]], texts=[text]))
    return found.labels[0], found.scores[0]


def choose(page, select, value):
    page.evaluate(
        f"document.getElementById('{select}').value = '{value}';"
        f"document.getElementById('{select}').dispatchEvent(new Event('change'))"
    )


def test_labels_appear_while_typing(page, runs):
    assert page.evaluate("document.activeElement.id") == "text"  # no click is needed
    page.type("the butter and the flour")
    page.wait("document.querySelectorAll('.run').length === 2")
    assert page.evaluate(HEADINGS) == ["first", "second"]
    for place, run in enumerate(("first", "second"), 1):
        names, _ = labels(runs / run, "the butter and the flour")
        assert page.evaluate(NAMES.format(place)) == names
    _, scores = labels(runs / "first", "the butter and the flour")
    shown = page.evaluate("[...document.querySelectorAll('.run:first-child .score')]"
                          ".map(e => e.textContent)")  # fmt: skip
    assert shown == [f"{100 * score:.1f} %" for score in scores]
    before = page.evaluate(NAMES.format(1))
    page.type(" soup street tea")
    page.wait(f"JSON.stringify({NAMES.format(1)}) !== JSON.stringify({before})")
    assert {host.split(":")[0] for host in page.hosts} == {"127.0.0.1"}
    assert page.problems == []


def test_one_run_and_fewer_labels(page):
    page.type("tea")
    page.wait("document.querySelectorAll('.run').length === 2")
    choose(page, "second", "")
    page.wait("document.querySelectorAll('.run').length === 1")
    page.evaluate("document.getElementById('k').value = 2;"
                  "document.getElementById('k').dispatchEvent(new Event('input'))")  # fmt: skip
    page.wait(f"{NAMES.format(1)}.length === 2")


def test_a_label_shows_its_neighbours(page, runs):
    page.type("tea")
    page.wait("document.querySelectorAll('.run').length === 2")
    model = load_run(runs / "second").model  # of three labels
    button = "document.querySelector('.run:nth-child(2) button.name')"
    label = page.evaluate(f"{button}.textContent")
    ids, _ = model.similar_labels(SECOND.index(label), 3)
    page.evaluate(f"{button}.click()")
    page.wait("document.querySelectorAll('.neighbours .chip').length === 2")
    shown = page.evaluate("[...document.querySelectorAll('.chip')].map(e => e.textContent)")
    assert shown == [SECOND[i] for i in ids]
    assert page.evaluate(f"{button}.getAttribute('aria-expanded')") == "true"
    page.evaluate(f"{button}.focus()")
    page.press(" ", 32)
    page.wait("document.querySelectorAll('.neighbours').length === 0")
    assert page.problems == []


def test_no_answer_stays_where_there_is_no_text(page):
    page.type("tea")
    page.wait("document.querySelectorAll('.run').length === 2")
    page.evaluate("document.getElementById('text').value = '';"
                  "document.getElementById('text').dispatchEvent(new Event('input'))")  # fmt: skip
    page.wait("document.querySelectorAll('.run').length === 0")


def test_an_error_is_shown(page):
    page.type("x" * 30_000)
    page.wait("document.getElementById('status').className === 'wrong'")
    text = page.evaluate("document.getElementById('status').textContent")
    assert text.startswith("body: the body has")


def test_a_label_is_added_by_its_name(browser, tmp_path):
    write_data(tmp_path)
    train(tmp_path, training={"epochs": 1})
    with running(tmp_path / "run", "--label-texts", tmp_path / "new.jsonl") as server:
        browser.problems.clear()
        browser.open("http://{}:{}/".format(*server.address))
        browser.wait("document.querySelectorAll('#first option').length === 1")
        browser.type("where is my the")
        browser.wait("document.querySelectorAll('.run').length === 1")
        name = "where_is my"
        browser.evaluate(f"document.getElementById('name').value = '{name}'")
        browser.evaluate("document.getElementById('add').click()")
        browser.wait("document.getElementById('status').textContent.includes('was added in')")
        assert browser.evaluate(NAMES.format(1))[0] == name
        assert "49 labels" in browser.evaluate("document.querySelector('.run .quiet').textContent")
        browser.evaluate(f"document.getElementById('name').value = '{name}'")
        browser.evaluate("document.getElementById('add').click()")
        browser.wait("document.getElementById('status').className === 'wrong'")
        assert "is known already" in browser.evaluate(
            "document.getElementById('status').textContent"
        )


def test_an_image_is_dropped(page, runs):
    import tensorflow as tf

    choose(page, "first", "image")
    assert page.evaluate("document.getElementById('typed').hidden")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    file = base64.b64encode(tf.io.encode_png(pixels).numpy()).decode()
    page.evaluate(f"""
        const bytes = Uint8Array.from(atob("{file}"), (c) => c.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], "a.png", {{type: "image/png"}}));
        document.getElementById("dropped").dispatchEvent(
            new DragEvent("drop", {{dataTransfer: data, cancelable: true}}));
    """)
    page.wait("document.querySelectorAll('.run .name').length === 5")
    found = RunPredictor(load_run(runs / "image"), 5, None)(Chunk([[]], images=pixels[None]))
    assert page.evaluate(NAMES.format(1)) == found.labels[0]
    assert page.problems == []


@pytest.fixture(scope="module")
def deciding(browser, tmp_path_factory):
    """A server of one run that decides on each label, keeps examples, and takes feedback."""
    folder = tmp_path_factory.mktemp("deciding")
    yes_no = {"objective": {"name": "sigmoid"}}
    text_run(folder / "<i>bot</i>", names=["<b>bold</b>", "soup", "a;b"], **yes_no)
    examples = [("the <b>butter</b>", ["soup"], "soup"), ("a street " * 30, ["soup"], "a;b")]
    lines = [dict(zip(("text", "labels", "predicted"), e, strict=True)) for e in examples]
    (folder / "<i>bot</i>" / "examples.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run = f"<i>bot={folder / '<i>bot</i>'}"
    options = ("--feedback", folder / "feedback.jsonl", "--max-file-bytes", 2000)
    with running(run, *options) as found:
        found.folder = folder
        yield found


@pytest.fixture
def bot(browser, deciding):
    browser.size(900, 900)
    browser.colours("light")
    browser.problems.clear()
    browser.open("http://{}:{}/".format(*deciding.address))
    browser.wait("document.querySelectorAll('#samples button').length === 2")
    return browser


def test_the_name_of_the_run_and_its_examples(bot):
    assert bot.evaluate("document.querySelector('h1').textContent") == "<i>bot"
    assert bot.evaluate("document.title") == "<i>bot · tfxc"
    assert bot.evaluate("document.querySelector('nav').textContent").startswith("API")
    assert bot.evaluate("document.getElementById('first').parentElement.hidden")
    bot.press("Tab")
    assert bot.evaluate("document.activeElement.textContent") == "the <b>butter</b>"
    bot.press("Enter", 13)
    bot.press(" ", 32)
    bot.wait("document.querySelectorAll('.run').length === 1")
    assert bot.evaluate("document.getElementById('text').value") == "the <b>butter</b>"
    assert bot.problems == []


def test_none_of_them(bot, deciding):
    """Scores of the run are replaced: those of random weights are near the threshold."""
    bot.type("butter")
    bot.wait("document.querySelectorAll('.run').length === 1")
    show = "models['<i>bot'].decides = {}; at('answers').replaceChildren(card({{model: '<i>bot', "
    show += "version: 1, probabilities: true, predictions: [[{{label: 'soup', score: 0.4, "
    show += "returned: {}}}, {{label: 'tea', score: 0.2, returned: false}}]]}}, new Set()))"
    none = "document.querySelector('.none')?.textContent"
    below = "document.querySelectorAll('.below').length"
    assert bot.evaluate("models['<i>bot'].decides") is True
    bot.evaluate(show.format("true", "false"))
    assert bot.evaluate(none) == "None of them: no label is likely enough."
    assert bot.evaluate(below) == 2
    bot.evaluate(show.format("true", "true"))
    assert bot.evaluate(none) is None and bot.evaluate(below) == 1
    bot.evaluate(show.format("false", "false"))
    assert bot.evaluate(none) is None and bot.evaluate(below) == 0


def test_feedback_is_saved(bot, deciding):
    assert bot.evaluate("document.getElementById('judging').hidden")
    bot.type("butter and tea")
    bot.wait("!document.getElementById('judging').hidden")
    chosen = bot.evaluate("judged.labels")
    bot.evaluate("document.getElementById('right').click()")
    saved = "document.getElementById('saved').textContent"
    bot.wait(f"{saved} !== ''")
    told = [chosen]
    for typed, labels in (("new; soup;soup", ["new", "soup"]), ("a;b", ["a;b"])):
        bot.evaluate(f"document.getElementById('meant').value = '{typed}'")
        bot.evaluate("document.getElementById('save').click()")
        bot.wait(f"{saved} === 'Saved: {'; '.join(labels)}.'")
        told.append(labels)
    lines = (deciding.folder / "feedback.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"text": "butter and tea", "labels": labels} for labels in told
    ]
    assert bot.problems == []


def drop(page, name, content):
    page.evaluate(f"""
        const data = new DataTransfer();
        data.items.add(new File([{json.dumps(content)}], {json.dumps(name)}));
        document.getElementById("table").dispatchEvent(
            new DragEvent("drop", {{dataTransfer: data, cancelable: true}}));
    """)


def test_a_table_comes_back_labelled(bot, deciding, tmp_path, capsys):
    content = 'text,n\nbutter,1\n"soup, tea",2\n'
    bot.evaluate("""
        window.blobs = [];
        const original = URL.createObjectURL;
        URL.createObjectURL = (blob) => { blobs.push(blob); return original(blob); };
    """)
    drop(bot, "tickets.csv", content)
    bot.wait("!document.getElementById('ready').hidden")
    assert bot.evaluate("document.getElementById('download').download") == "tickets-labelled.csv"
    found = bot.evaluate("blobs[0].text()")
    (tmp_path / "tickets.csv").write_text(content)
    run = deciding.folder / "<i>bot</i>"
    output = tmp_path / "out.csv"
    call(capsys, predict, run, tmp_path / "tickets.csv", "--output", output)
    assert found == output.read_text()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("large.csv", "text\n" + "a" * 3000, "and this server labels at most"),
        ("a.exe", "text\na\n", "is no file that can be labelled here"),
    ],
)
def test_a_file_that_is_refused(bot, name, content, words):
    drop(bot, name, content)
    bot.wait("document.getElementById('filed').className === 'wrong'")
    assert words in bot.evaluate("document.getElementById('filed').textContent")
    assert bot.evaluate("document.getElementById('ready').hidden")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_files_and_feedback_fit_on_a_phone(bot, scheme):
    bot.size(320, 600)
    bot.colours(scheme)
    bot.evaluate("document.querySelectorAll('#samples button')[1].click()")
    bot.wait("!document.getElementById('judging').hidden")
    drop(bot, "x" * 90 + ".csv", "text\na\n")
    bot.wait("!document.getElementById('ready').hidden")
    assert bot.evaluate("document.documentElement.scrollWidth") <= 320
    for selector in ("#samples button", "#right", "#filed", "#download", "#saved"):
        assert contrast(bot, selector) >= 4.5, selector
    unnamed = bot.evaluate("""[...document.querySelectorAll("input, select, textarea")]
        .filter((e) => !e.labels.length).map((e) => e.id)""")
    assert unnamed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_fits_on_a_phone_and_can_be_read(page, scheme):
    page.size(320, 600)
    page.colours(scheme)
    page.type("tea " + "x" * 300)
    page.wait("document.querySelectorAll('.run').length === 2")
    page.evaluate("document.querySelector('button.name').click()")
    page.wait("document.querySelectorAll('.chip').length > 1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    for selector in ("h1", ".name", ".score", ".chip", "#status", "#text", "a", "label"):
        assert contrast(page, selector) >= 4.5, selector


def test_long_labels_leave_the_scores_on_one_line(page):
    page.size(320, 600)
    page.type("tea")
    page.wait("document.querySelectorAll('.score').length > 1")
    names = "document.querySelectorAll('.name')"
    page.evaluate(f"{names}.forEach((e) => {{ e.textContent = 'long_'.repeat(30); }})")
    lines = """[...document.querySelectorAll('.score')].map((e) => {
        const range = document.createRange();
        range.selectNodeContents(e);
        return new Set([...range.getClientRects()].map((r) => r.top)).size;
    })"""
    assert set(page.evaluate(lines)) == {1}
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def contrast(page, selector):
    """WCAG's contrast of the text of an element and what is behind it."""
    script = """(() => {
        let e = document.querySelector("%s"), found = [getComputedStyle(e).color];
        while (e && getComputedStyle(e).backgroundColor === "rgba(0, 0, 0, 0)") e = e.parentElement;
        found.push(getComputedStyle(e || document.body).backgroundColor);
        return found.map((c) => c.match(/[0-9.]+/g).slice(0, 3).map(Number));
    })()"""
    lights = []
    for colour in page.evaluate(script % selector):
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
                  for c in np.array(colour) / 255]  # fmt: skip
        lights.append(np.dot(linear, [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(lights) / min(lights)


def test_every_control_has_a_name_and_is_reached_by_keyboard(page):
    unnamed = page.evaluate("""[...document.querySelectorAll("input, select, textarea")]
        .filter((e) => !e.labels.length).map((e) => e.id)""")
    assert unnamed == []
    seen = []
    for _ in range(4):
        page.press("Tab")
        seen.append(page.evaluate("document.activeElement.id"))
    assert seen[:3] == ["first", "second", "k"]
    assert page.evaluate("document.getElementById('status').getAttribute('aria-live')") == "polite"


def test_the_description_lists_every_address(page, server):
    page.open("http://{}:{}/docs".format(*server.address))
    page.wait("document.querySelectorAll('article').length > 5")
    assert "/v1/models/{name}:predict" in page.evaluate("document.body.textContent")
    assert page.problems == []
