import sys

import pytest

from tfxc.core import registry
from tfxc.core.errors import ConfigError
from tfxc.heads.base import Head
from tfxc.heads.dense import Dense
from tfxc.heads.mach import MACH


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_file_is_a_method(kind):
    found = registry.names(kind)
    assert found == sorted(found) and found
    for name in found:
        method = registry.get(kind, name)
        assert issubclass(method, registry.base_class(kind))
        assert method.__module__ in (f"tfxc.{kind}s.{name}", f"tfxc.{kind}s.{name}.{kind}")
        assert method.__name__.lower() == name.replace("_", "")
        assert (method.__doc__ or "").strip()


def test_what_methods_share_is_no_method():
    assert {"base", "bases"}.isdisjoint(registry.names("head"))
    assert {"base", "bases", "layers"}.isdisjoint(registry.names("encoder"))
    assert {"fit", "repetitions"} <= set(registry.names("recipe"))
    assert "runs" not in registry.names("recipe")


def test_register_all():
    found = registry.register_all()
    assert set(found) == set(registry.KINDS)
    assert found["head"]["mach"] is MACH


def test_unknown_name():
    with pytest.raises(
        ConfigError, match=r"^head: unknown head 'mac', did you mean 'mach'\?.*Choose one of"
    ):
        registry.get("head", "mac")


def test_arguments_leave_out_what_the_data_decides():
    known = registry.arguments(MACH)
    assert "num_labels" not in known and "self" not in known and "kwargs" not in known
    assert known["num_repetitions"] == 16


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"name": "mhc", "heads": [2, 3], "beam": 2.5},
            "head.beam: must be an integer .*, not 2.5",
        ),
        (
            {"name": "mhc", "heads": [2, 3], "beam": "all"},
            "beam: must be an integer .*, not 'a",
        ),
        (
            {"name": "mhc", "heads": [2, 3], "seed": True},
            "seed: must be an integer, not true",
        ),
        (
            {"name": "margin", "scale": "16"},
            "scale: must be a positive number, not '16'",
        ),
        ({"name": "margin", "sharded": 1}, "sharded: must be true or false, not 1"),
        (
            {"name": "mhs", "heads": [3], "num_sampled_heads": 1, "sampling": 3},
            "sampling: must be one of per_example, .*, not 3",
        ),
        ({"name": "mach"}, "head: head 'mach' needs num_buckets.*Add 'num_buckets'"),
        ({"name": "mach", "num_bukets": 3}, "head.num_bukets: .*did you mean 'num_buckets'"),
        ({"name": "mach", "num_labels": 3}, "head.num_labels: .*is read from the data.*Remove"),
        ({"name": "dense", "num_buckets": 3}, "'dense' has no argument 'num_buckets'.*Use one of"),
    ],
)
def test_bad_sections(section, message):
    with pytest.raises(ConfigError, match=message):
        registry.check_section("head", section, where="head")


def test_create_takes_what_it_needs_from_the_data():
    head = registry.create("head", {"name": "dense", "seed": 3}, num_labels=7, num_features=5)
    assert isinstance(head, Dense)
    assert (head.num_labels, head.seed) == (7, 3)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A module outside the package with a head, and with something that is none."""
    code = (
        "from tfxc.heads.dense import Dense\nclass Mine(Dense):\n    pass\nclass Other:\n    pass\n"
    )
    (tmp_path / "outside_plugin.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield "outside_plugin"
    sys.modules.pop("outside_plugin", None)


def test_method_outside_the_package(plugin):
    method = registry.get("head", f"{plugin}:Mine")
    assert issubclass(method, Head)
    registry.check_section("head", {"name": f"{plugin}:Mine", "seed": 1}, where="head")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("outside_plugin:Absent", "cannot load head 'outside_plugin:Absent'"),
        ("no_such_module_here:Mine", "cannot load head.*No module named 'no_such_module_here'"),
        (
            "outside_plugin:Other",
            "'outside_plugin:Other' is not a class of this kind .head.*Derive it from tfxc.heads",
        ),
    ],
)
def test_bad_method_outside_the_package(plugin, name, message):
    with pytest.raises(ConfigError, match=message):
        registry.get("head", name)


def test_something_that_is_no_class():
    with pytest.raises(ConfigError, match="is not a class of this kind"):
        registry.get("head", "json:dumps")


@pytest.mark.parametrize(
    ("word", "expected"), [("hed", ", did you mean 'head'?"), ("zzz", ""), (5, "")]
)
def test_nearest(word, expected):
    assert registry.nearest(word, ["head", "encoder"]) == expected
