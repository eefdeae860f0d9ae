import pytest

from tfxc.core.errors import ConfigError
from tfxc.imports.text_classifier.literals import read_literals


def test_assignments_of_literals(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(
        '"""Doc."""\nimport os\nfrom sys import path\na = -1e-3\nb: dict = {"x": [True, None]}\n'
        "# comment\nc = ('é', {1})\n",
        encoding="utf-8",
    )
    assert read_literals(path) == {"a": -1e-3, "b": {"x": [True, None]}, "c": ("é", {1})}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("a = 1\nb = __import__('os').system('touch run')\n", "config.py:2: .* to be computed"),
        ("a = {'x': 1,\n     'y': 2 ** 9}\n", r"config.py:2: 2 \*\* 9 would have to be computed"),
        ("a = b = 1\n", "config.py:1: the line does not assign a value to a name: a = b = 1"),
        ("if True:\n    a = 1\n", "config.py:1: the line does not assign a value to a name: if"),
        ("print('x')\n", "config.py:1: the line does not assign a value to a name"),
        ("a = (\n", "this is not Python code"),
        ("a = 1" + " + 1" * 1500, r"config.py:1: 1 \+ 1 would have to be computed\. Write the va"),
        ("a = b" + ".b" * 1500, r"config.py:1: b would have to be computed\. Write"),
        ("a = ----1", r"config.py:1: --1 would have to be computed\. Write"),
        ("b" + ".b" * 1500, r"config.py:1: .* assign a value to a name: code nested too deeply"),
        ("a = " + "-" * 20000 + "1", r"config.py:1: "),
    ],
)
def test_anything_else_is_refused_and_not_run(tmp_path, monkeypatch, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.py").write_text(code)
    with pytest.raises(ConfigError, match=message):
        read_literals("config.py")
    assert [path.name for path in tmp_path.iterdir()] == ["config.py"]
