"""Every argument of encoders and techniques is declared with its type and its bounds."""

import inspect
from typing import Any

import pytest

from tfxc.core import declared, registry
from tfxc.core.errors import ConfigError

NOTHING_TAKES = (object(), float("nan"), float("inf"), -float("inf"), {"a": 1}, [None])
METHODS = [(kind, name) for kind in ("encoder", "technique") for name in registry.names(kind)]


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_wrong_values_are_refused_before_anything_is_made(kind, name):
    arguments = declared.arguments_of(registry.get(kind, name))
    settable = {key: one for key, one in arguments.items() if not one.from_data}
    required = {
        key: "MobileNet" for key, one in settable.items() if one.default is inspect.Parameter.empty
    }
    for key, argument in settable.items():
        assert argument.annotation is not Any, key
        texts = () if argument.annotation in (str, str | None) or key == "folder" else ("no such",)
        integers = (True, 1.5) if "integer" in declared.describe(argument.annotation) else ()
        for value in (*NOTHING_TAKES, *texts, *integers):
            section = {"name": name, **required, key: value}
            with pytest.raises(ConfigError, match=rf"^{kind}\.{key}: must be .*, not "):
                registry.check_section(kind, section, where=kind)
