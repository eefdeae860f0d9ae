"""What the documents say is true: code runs, commands parse, configs are valid, names exist.

A fenced block is checked by its language:

* ``python``: the blocks of a page run one after the other in one namespace, in an empty folder.
* ``bash``: ``tfxc``, ``python -m tfxc`` and ``python tools/...`` are parsed by the real parsers;
  what only prints is run.
* ``json``: parses, and is a valid config, or valid sections of one.
* ``text`` and ``pycon`` show output and are not checked.

A block with ``title="FILE"`` is a file that the page's commands read. An HTML comment in front of a
block changes that: ``<!-- not run: REASON -->`` (Python is compiled only, JSON is parsed only) and
``<!-- setup: CODE -->``, Python that runs before it and that readers do not see. The pages in
``docs/tutorials/`` are also run as a whole, by ``pytest -m slow``.
"""

import ast
import functools
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

from docs.hooks import docstrings, layers, reference
from tests.folders import data_folder
from tests.source_tree import ROOT, tree_of
from tfxc.__main__ import COMMANDS, module_of
from tfxc.commands.train import check_config
from tfxc.core.config import merge, parse_config
from tfxc.core.settings import Config
from tfxc.data.reading.inspection.completion import load_config
from tfxc.pretrained.folder import PADDING

PAGES = ["README.md", "CONTRIBUTING.md"]
PAGES += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
TUTORIALS = [page for page in PAGES if page.startswith("docs/tutorials/")]
LANGUAGES = {"python", "bash", "json", "text", "pycon", "csv", "jsonl"}
BASE = {
    "run": "runs/mine",
    "data": {"name": "mine", "train": "train.jsonl"},
    "encoder": {"name": "bag_mlp"},
    "head": {"name": "dense"},
    "objective": {"name": "sigmoid"},
}
# Options of programs that are not ours.
FOREIGN = {"--no-deps", "--try", "--code-path", "--label-feat-path", "--beam-size", "--stat"}
FOREIGN |= {"--no-dashboard", "--protocol", "--tls-ca-file", "--tls-cert", "--tls-key"}  # Dask's

by_page = pytest.mark.parametrize("page", PAGES)


class Block(NamedTuple):
    """A fenced block of a page.

    Attributes:
        line: number of its first line.
        title: the file it is, or "".
        skip: why it is not run, or "".
        setup: Python that runs before it.
    """

    line: int
    language: str
    title: str
    text: str
    skip: str
    setup: str


_FENCE = re.compile(
    r"(?:^[ ]*<!--(?P<comment>(?:(?!-->).)*)-->\s*\n)?"
    r"^(?P<indent>[ ]*)```(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.M | re.S,
)


@functools.cache
def blocks(page):
    """The fenced blocks of a page."""
    text, found = (ROOT / page).read_text(encoding="utf-8"), []
    for match in _FENCE.finditer(text):
        kind, _, rest = (match["comment"] or "").strip().partition(":")
        language, _, options = match["info"].strip().partition(" ")
        title = re.search(r'title="([^"]*)"', options)
        found.append(
            Block(
                text[: match.start("text")].count("\n"),
                language,
                title[1] if title else "",
                textwrap.dedent(match["text"]),
                rest.strip() if kind == "not run" else "",
                textwrap.dedent(rest) if kind == "setup" else "",
            )
        )
    return found


def prose(page):
    """A page without its fenced blocks and comments."""
    text = _FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    text = re.sub(r"^:::.*\n(?: {4}.*\n)*", "", text, flags=re.M)  # of mkdocstrings
    return re.sub(r"<!--.*?-->", "", text, flags=re.S)


def spans(page, foreign=True):
    """The pieces of code within a page's text.

    Args:
        page: its path.
        foreign: whether the first column counts of tables that translate another system's flags.
    """
    text = prose(page)
    if not foreign and page == "docs/coming_from.md":
        text = re.sub(r"^\|[^|\n]*\|", "|", text, flags=re.MULTILINE)
    return [code.replace("\\|", "|") for code in re.findall(r"`([^`\n]+)`", text)]


def of_language(page, *languages):
    return [block for block in blocks(page) if block.language in languages]


# ---- blocks ----------------------------------------------------------------------------------


@by_page
def test_every_block_has_a_language(page):
    strange = [block.line for block in blocks(page) if block.language not in LANGUAGES]
    assert not strange, f"{page}: lines {strange}"


@by_page
def test_code_is_fenced(page):
    indented = re.findall(r"^ {4}(?![ *\-\d]).*", prose(page), re.M)
    assert not indented, f"{page}: {indented}"


@by_page
def test_python_runs(page, tmp_path, monkeypatch):
    shown = [block for block in of_language(page, "python") if not block.title]
    if not shown:
        pytest.skip("no Python")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for block in shown:
        code = compile("\n" * block.line + block.text, page, "exec")
        exec(compile(block.setup, f"{page}: setup", "exec"), names)
        if not block.skip:
            exec(code, names)


@by_page
def test_scripts_compile(page):
    for block in of_language(page, "python"):
        if block.title:
            compile(block.text, f"{page}: {block.title}", "exec")


# ---- configs ---------------------------------------------------------------------------------


def parsed_json(text):
    """A JSON value; keys without braces around them count as an object."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return json.loads("{" + text.strip().rstrip(",") + "}")


def as_config(tree):
    """A config with a block's keys at the place where they belong."""
    places = {
        "": Config,
        "data": Config.model_fields["data"].annotation,
        "training": Config.model_fields["training"].annotation,
        "evaluation": Config.model_fields["evaluation"].annotation,
    }
    for place, model in places.items():
        if set(tree) <= {"extends", *model.model_fields}:
            tree = {key: value for key, value in tree.items() if key != "extends"}
            return merge(base_of(tree), {place: tree} if place else tree)
    raise AssertionError(f"no section of a config has the keys {', '.join(tree)}")


def base_of(tree):
    """What a block's sections are laid over: nothing that their recipe has no use for."""
    if tree.get("recipe", {}).get("name") in ("xr_linear", "memory", "fuse"):
        return {key: BASE[key] for key in ("run", "data")}
    return BASE


def check_text_features(section):
    """Holds a section of text features against the constructor; no file is opened."""
    from tfxc.data.text.names import TERMS, TEXT_FEATURES

    known = reference.arguments_of({**TEXT_FEATURES, **TERMS}[section["name"]])
    assert set(section) <= {"name", *known}, section
    for part in ("tokens", "terms"):
        if section["name"] == "joined" or (section["name"] == "static" and section.get(part)):
            check_text_features(section[part])


@by_page
def test_json_is_valid(page):
    for block in of_language(page, "json"):
        tree = parsed_json(block.text)
        if not block.skip:
            config = parse_config(as_config(tree), where=f"{page}:{block.line}")
            check_config(config)
            if config.data.text_features:
                check_text_features(config.data.text_features)


# ---- commands --------------------------------------------------------------------------------


parser_of = functools.cache(reference.parser_of)


def command_of(words):
    """(name, arguments) of a command line of ours, or None."""
    words = list(words)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    text = " ".join(words)
    for start, name in (("python -m tfxc.train ", "train"), ("python -m tfxc ", ""), ("tfxc ", "")):
        if text.startswith(start):
            rest = words[len(start.split()) :]
            return (name, rest) if name else (rest[0], rest[1:])
    if re.match(r"python (tools)/\w+\.py", text):
        return words[1], words[2:]
    return None


def command_lines(text):
    """The command lines of a block: continued lines joined, comments left out, pipes split."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        for is_sign, words in itertools.groupby(lexer, lambda word: set(word) <= set("|&;<>")):
            if not is_sign:
                yield list(words)


def commands_of(page):
    """(line of the page or code, name, arguments) of every command of ours on a page."""
    for block in of_language(page, "bash"):
        for words in command_lines(block.text):
            found = command_of(words)
            if found:
                yield f"{page}:{block.line}", *found
    for code in spans(page):
        if "..." not in code and re.match(r"(python (-m tfxc|tools/)|tfxc )", code):
            for words in command_lines(code):
                found = command_of(words)
                if found and len(found[1]) > 0:
                    yield f"{page}: `{code}`", *found


@by_page
def test_commands_parse(page, capsys):
    for where, name, arguments in commands_of(page):
        assert name in COMMANDS or (ROOT / name).exists(), f"{where}: there is no {name}"
        if "--help" in arguments:
            continue
        arguments = [word.strip("[]") for word in arguments]
        try:
            parser_of(name).parse_args(arguments)
        except SystemExit:
            pytest.fail(f"{where}: {name} {' '.join(arguments)}\n{capsys.readouterr().err}")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.json")), ids=lambda p: p.stem)
def test_commands_of_configs_parse(path, capsys):
    about = load_config(path).about.command
    for words in command_lines(about.replace("&&", "\n")):
        found = command_of(words)
        if found:
            name, arguments = found
            try:
                parser_of(name).parse_args(arguments)
            except SystemExit:
                pytest.fail(f"{about}\n{capsys.readouterr().err}")


@functools.cache
def options_of(name):
    """Option strings of a command or a tool."""
    actions = reference.actions_of(parser_of(name))
    return {text for _, action in actions for text in action.option_strings}


@functools.cache
def all_options():
    """Option strings of all commands, tools and benchmarks."""
    tools = [f"tools/{path.name}" for path in (ROOT / "tools").glob("*.py")]
    found = set().union(*(options_of(name) for name in (*COMMANDS, *tools)))
    for path in (ROOT / "benchmarks").glob("*.py"):
        found |= set(re.findall(r'"(--[\w-]+)"', path.read_text(encoding="utf-8")))
    return found | FOREIGN


@by_page
def test_options_exist(page):
    for code in spans(page, foreign=False):
        first, *_ = code.removeprefix("tfxc ").split()
        known = options_of(first) if first in COMMANDS else all_options()
        unknown = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", code)) - known
        assert not unknown, f"{page}: `{code}`: {unknown}"


def only_prints(name, arguments):
    return bool({"--list", "--print-config", "--help"} & set(arguments)) and name in COMMANDS


@by_page
def test_commands_that_only_print_run(page, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for where, name, arguments in commands_of(page):
        if only_prints(name, arguments) and not {"CONFIG", "FILE"} & set(arguments):
            try:
                code = module_of(name).main(arguments)
            except SystemExit as end:
                code = end.code
            assert code in (0, None), f"{where}\n{capsys.readouterr().err}"


# ---- names -----------------------------------------------------------------------------------

_PATH = re.compile(
    r"(?<![\w/.$}-])((?:\.ci|benchmarks|configs|docs|examples|tests|tfxc|tools)/[\w./-]*\w\.\w+)\b"
)


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_files_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    missing = [path for path in _PATH.findall(text) if not (ROOT / path).exists()]
    missing = [path for path in missing if "my_" not in path]
    assert not missing, f"{page}: {missing}"


def resolves(dotted):
    """Whether ``tfxc.a.b.Name`` is a module, or a name that a module defines."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        file = place.with_suffix(".py") if place.with_suffix(".py").exists() else None
        file = file or (place / "__init__.py" if (place / "__init__.py").exists() else None)
        if file or place.with_suffix(".pyx").exists():
            rest = parts[count:]
            return not rest or file is None or rest[0] in names_of(file)
    return False


def names_of(file):
    """Names that a module's top level binds, those imported lazily included."""
    found = set()
    for node in tree_of(file).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for name in ast.walk(node):
                if isinstance(name, ast.Name):
                    found.add(name.id)
                elif isinstance(name, ast.Constant) and isinstance(name.value, str):
                    found.add(name.value)  # of tfxc's table of lazy names
    return found


@by_page
def test_names_of_the_package_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"(?<![\w./-])tfxc(?:\.\w+)+", text)
    wrong = {name for name in found if not resolves(name)}
    assert not wrong, f"{page}: {wrong}"


# ---- tutorials -------------------------------------------------------------------------------


DATA_OF = {"add_intents": "clinc150", "classify_intents": "clinc150", "recognise_faces": "olivetti"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", TUTORIALS)
def test_tutorials_run(page, tmp_path):
    """All files and commands of a tutorial, in a folder that looks like a clone."""
    name = DATA_OF.get(Path(page).stem)
    data = data_folder(name).parent if name else tmp_path / "data"
    for name in ("configs", "tools", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "TFXC_DATA": str(data)}
    for block in blocks(page):
        if block.title:
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "bash" and not block.skip:
            script = ["bash", "-euo", "pipefail", "-c", block.text]
            done = subprocess.run(
                script, cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{page}:{block.line}\n{done.stdout}{done.stderr}"
            print(f"$ {block.text}{done.stdout}")  # `pytest -rP` shows it, for the page's output


def test_families_of_pretrained_models_are_counted_alike():
    words = dict(enumerate(["six", "seven", "eight", "nine", "ten"], 6))
    texts = {page: (ROOT / page).read_text("utf-8") for page in ("README.md", "docs/pretrained.md")}
    assert f"(BERT and {words[len(PADDING) - 1]} other families)" in texts["README.md"]
    assert all(f"| `{family}` |" in texts["docs/pretrained.md"] for family in PADDING)


# ---- notebooks --------------------------------------------------------------------------------

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path):
    """As a script, in an empty folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr


# ---- the site's own pages --------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference_pages():
    return reference.pages()


def test_the_menu_holds_every_page(reference_pages):
    menu = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    written = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    made = {"index.md", "contributing.md", "changelog.md"}
    assert menu == written | made | set(reference_pages)


def test_every_argument_is_explained(reference_pages):
    bare = [
        f"{page}: {line}"
        for page, text in reference_pages.items()
        for line in text.splitlines()
        if line.startswith("| ") and line.endswith("|  |")
    ]
    assert not bare, "\n".join(bare)


def test_every_config_key_is_explained(reference_pages):
    page = reference_pages["reference/config.md"]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    assert not [row for row in rows if row.count(" | ") < 3 or row.endswith("|  |")]


def test_the_reference_says_what_a_config_may_set(reference_pages):
    text = reference_pages["reference/heads.md"]
    assert "| `num_buckets` | required | buckets B of each repetition. |" in text
    assert "| `num_repetitions` | `16` |" in text
    assert "`num_labels` | required" not in text  # the data decide it


def test_docstrings_become_markdown():
    found = docstrings.parse(
        """Adds ``a`` to what is < 1.

        Args:
            a, b: numbers,
                of two lines.
            **more: others.

        Example:
            >>> add(1)  # doctest: +SKIP
            2

        Reference: someone.
        """
    )
    assert found.text == "Adds `a` to what is &lt; 1."
    assert found.sections["Args"] == {
        "a": "numbers, of two lines.", "b": "numbers, of two lines.", "**more": "others.",
    }  # fmt: skip
    assert found.sections["Example"] == "```pycon\n>>> add(1)\n2\n```"
    assert found.sections["Reference"] == "someone."


def test_layers_follow_the_imports():
    graph = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    assert layers.levels(graph) == [["a"], ["b", "c"], ["d"]]
    picture = layers.picture()
    assert picture.startswith("<svg") and "commands imports" in picture
