"""The reference pages, from signatures, docstrings, settings and argument parsers.

``pages()`` returns ``{file: Markdown}``; nothing in it is written by hand, so it is always current.
"""

import argparse
import contextlib
import importlib
import importlib.util
import inspect
import json
import re
import sys
import typing
from pathlib import Path

import pydantic

from docs.hooks.docstrings import cell, inline, parse, table

ROOT = Path(__file__).resolve().parents[2]
_EMPTY = inspect.Parameter.empty
_INTRODUCTIONS = {
    "encoder": "An encoder turns the features of an example into a vector.",
    "head": "A head turns vectors into scores of labels and finds the best labels.",
    "objective": "An objective turns scores into a loss.",
    "technique": "A technique wraps a training step or the weights that are evaluated. "
    "[Techniques](../techniques.md) says which ones combine.",
    "recipe": "A recipe determines the stages of training. "
    "[Training](../training.md) describes each.",
}


def pages():
    """Markdown of all pages by their file below ``docs/``."""
    from tfxc.core import registry

    found = {f"reference/{kind}s.md": methods(kind) for kind in registry.KINDS}
    found["reference/text_features.md"] = text_features()
    found["reference/readers.md"] = readers()
    found["reference/optimizers.md"] = optimizers()
    found["reference/augmentation.md"] = augmentation()
    found["reference/config.md"] = config_keys()
    found["reference/commands.md"] = commands()
    found["reference/tools.md"] = tools()
    return found


def methods(kind):
    """The page of the methods of a kind."""
    from tfxc.core import registry

    introduction = (
        f"{_INTRODUCTIONS[kind]} A config names it under `{_key(kind)}`; the other keys of the "
        "section are the arguments below."
    )
    parts = [f"# {kind.capitalize()}s", introduction]
    for name in registry.names(kind):
        method = registry.get(kind, name)
        parts.append(entry(name, method, registry.arguments(method)))
    return "\n\n".join(parts) + "\n"


def _key(kind):
    return "techniques" if kind == "technique" else kind


def text_features():
    """The page of what turns texts into features."""
    from tfxc.data.text.names import TERMS, TEXT_FEATURES

    introduction = (
        "`data.text_features` of a config. [Data](../data.md) explains which encoder reads which."
    )
    return _plugs("Text features", introduction, {**TEXT_FEATURES, **TERMS})


def readers():
    """The page of the data formats."""
    from tfxc.core import registry
    from tfxc.data.reading.formats import BUILTIN_PACKAGE
    from tfxc.data.reading.formats.base import Reader

    classes = {name: registry.get("reader", name) for name in registry.names("reader")}
    for name, module in sorted(registry.modules(BUILTIN_PACKAGE, "reader").items()):
        classes[f"builtin:{name}"] = registry.class_in(module, Reader)
    introduction = (
        "`data.reader` names the format where the file's name does not, `data.reader_options` and "
        "`--reader-option` give its options. [Data](../data.md) says how formats are recognised."
    )
    return _plugs("Readers", introduction, classes, without=("path",))


def optimizers():
    """The page of optimizers and learning-rate schedules."""
    from tfxc.core.declared import arguments_of as declared_arguments
    from tfxc.training.optimization.optimizers import OPTIMIZERS
    from tfxc.training.optimization.rates import RateFactors
    from tfxc.training.optimization.schedules import Schedule

    introduction = (
        "`training.optimizer` and `training.schedule` of a config. Every optimizer also takes "
        "`rates` and `layer_decay`, described under "
        "[learning rates of single weights](#learning-rates-of-single-weights)."
    )
    page = _plugs("Optimizers and schedules", introduction, OPTIMIZERS)
    rates = entry("Learning rates of single weights", RateFactors, arguments_of(RateFactors))
    declared = declared_arguments(Schedule)
    from_the_run = [name for name, argument in declared.items() if argument.from_data]
    schedule = entry("Schedules", Schedule, arguments_of(Schedule, from_the_run))
    return f"{page}\n{rates}\n\n{schedule}\n"


def augmentation():
    """The page of what is done to training images."""
    from tfxc.data.images.augmentation import METHODS

    introduction = (
        "`training.augmentation` of a config is a list of these, applied in order "
        "([Images](../data.md#images))."
    )
    return _plugs("Image augmentation", introduction, METHODS)


def _plugs(title, introduction, classes, without=()):
    parts = [f"# {title}", introduction]
    parts += [entry(name, found, arguments_of(found, without)) for name, found in classes.items()]
    return "\n\n".join(parts) + "\n"


def arguments_of(method, without=()):
    """``{name: default}`` of a constructor."""
    parameters = inspect.signature(method.__init__).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    left_out = {"self", *without}
    return {p.name: p.default for p in parameters if p.kind in named and p.name not in left_out}


def entry(name, method, arguments):
    """The section of one class: what it does, its arguments, and the rest of its docstring."""
    document = parse(method.__doc__)
    title = name if " " in name or name[0].isupper() else f"`{name}`"
    parts = [f"## {title}", f"`{method.__module__}.{method.__qualname__}`", document.text]
    if arguments:
        parts.append(_argument_table(arguments, described(method)))
    for heading, content in document.sections.items():
        if heading == "Args" or not content:
            continue
        parts.append(f"**{heading}**" if heading != "Example" else "**Example**")
        parts.append(_listed(content) if isinstance(content, dict) else content)
    return "\n\n".join(part for part in parts if part)


def described(method):
    """Descriptions of a constructor's arguments, those of its base classes included."""
    found = {}
    for base in reversed(method.__mro__):
        if base.__module__.startswith("tfxc."):
            found |= parse(vars(base).get("__doc__")).sections.get("Args", {})
    return found


def _argument_table(arguments, descriptions):
    rows = [
        (f"`{name}`", _default(default), _meaning(descriptions.get(name, "")))
        for name, default in arguments.items()
    ]
    return table(("argument", "default", "meaning"), rows)


def _meaning(text):
    """A description as a cell; configs are JSON, where None is null."""
    return re.sub(r"\bNone\b", "`null`", cell(text))


def _default(value):
    """A default as a config writes it."""
    if value is _EMPTY:
        return "required"
    value = list(value) if isinstance(value, (tuple, frozenset)) else value
    return f"`{cell(json.dumps(value, ensure_ascii=False, default=str))}`"


def _listed(entries):
    return "\n".join(f"* `{name}`: {text}" for name, text in entries.items())


def config_keys():
    """The page of every key of a config, from the settings' models."""
    from tfxc.core.settings import Config

    parts = [
        "# Config keys",
        "A config is one JSON object. Its values are laid over those of the file that `extends` "
        "names, and `--set a.b=value` over both. An unknown key is an error. Sections with a "
        "`name` take the arguments of that method: [encoders](encoders.md), [heads](heads.md), "
        "[objectives](objectives.md), [techniques](techniques.md), [recipes](recipes.md), "
        "[text features](text_features.md), [optimizers and schedules](optimizers.md).",
        _model_section("", Config),
    ]
    parts += [_model_section(key, model) for key, model in _nested(Config)]
    return "\n\n".join(parts) + "\n"


def _nested(model, prefix=""):
    """(key, model) of every section with keys of its own, depth first."""
    for name, field in model.model_fields.items():
        for inner in (field.annotation, *typing.get_args(field.annotation)):
            is_model = inspect.isclass(inner) and issubclass(inner, pydantic.BaseModel)
            if is_model and inner.model_config.get("extra") == "forbid":
                yield prefix + name, inner
                yield from _nested(inner, f"{prefix}{name}.")


def _model_section(key, model):
    document = parse(model.__doc__)
    meanings = document.sections.get("Attributes", {})
    rows = [
        (
            f"`{name}`",
            _field_default(field),
            cell(inline(_type(field.annotation))),
            _meaning(meaning),
        )
        for name, field in model.model_fields.items()
        for meaning in (meanings.get(name, ""),)
    ]
    head = ("key", "default", "value", "meaning")
    if not meanings:
        head, rows = head[:3], [row[:3] for row in rows]
    title = f"## `{key}`" if key else "## Top level"
    return "\n\n".join([title, document.text, table(head, rows)])


def _field_default(field):
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, pydantic.BaseModel):
        named = getattr(value, "name", None)
        return f'`{{"name": "{named}"}}`' if named else "see below"
    return _default(value)


def _type(annotation):
    """A field's type in words."""
    words = {str: "string", int: "integer", float: "number", bool: "true or false"}
    words |= {type(None): "null", dict: "object", typing.Any: "anything"}
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in words:
        return words[annotation]
    if origin is typing.Literal:
        return " or ".join(f"``{json.dumps(value)}``" for value in inner)
    if origin is typing.Annotated:
        return _type(inner[0])
    if origin in (list, tuple):
        noun, _, rest = _type(inner[0]).partition(" ")
        return f"list of {noun}s {rest}".rstrip()
    if origin is dict:
        return "object"
    if inner:
        return " or ".join(_type(one) for one in inner)
    is_method = annotation.model_config.get("extra") == "allow"
    return "section with a ``name``" if is_method else "section"


def commands():
    """The page of every command with its options."""
    from tfxc.__main__ import COMMANDS

    parts = [
        "# Commands",
        "`tfxc COMMAND` and `python -m tfxc COMMAND` are the same. Exit codes: 0 done; 2 wrong "
        "input, with one line that says what to change; 1 the machine's fault; 128 + n stopped by "
        "signal n.",
    ]
    for command, summary in COMMANDS.items():
        parts.append(_parser_section(f"tfxc {command}", summary, parser_of(command)))
    return "\n\n".join(parts) + "\n"


def tools():
    """The page of the scripts in ``tools/``."""
    parts = ["# Tools", "Scripts for what is done once or rarely, run from the repository's root."]
    sys.path.insert(0, str(ROOT / "tools"))
    for path in sorted((ROOT / "tools").glob("*.py")):
        parser = parser_of(f"tools/{path.name}")
        summary = parse(parser.description).text.splitlines()[0]
        parts.append(_parser_section(f"tools/{path.name}", summary, parser))
    return "\n\n".join(parts) + "\n"


def module_of(path):
    """The module of a Python file outside of the package."""
    spec = importlib.util.spec_from_file_location(f"tools_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parser_of(name):
    """The argument parser of a command, or of a tool by its path."""
    from tfxc.__main__ import COMMANDS
    from tfxc.commands.completion import command_parser
    from tfxc.core import command_options

    if name in COMMANDS:
        return command_parser(name)
    module = module_of(ROOT / name)
    return command_options.parser_of(module.Options, name, module.__doc__)


def actions_of(parser):
    """What a parser accepts, that of the kinds below it included, as (parser, action)."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for kind in action.choices.values():
                yield from actions_of(kind)
        else:
            yield parser, action


def _parser_section(title, summary, parser, level="##"):
    kinds: dict[str, argparse.ArgumentParser] = {}
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        if isinstance(action, argparse._SubParsersAction):
            kinds = action.choices
            continue
        names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.dest}`"
        value = "" if action.nargs == 0 else f" `{_metavar(action)}`"
        rows.append((cell(names + value), cell(inline(_help(parser, action)))))
    document = parse(parser.description)
    body = document.text.split("\n", 1)[1].strip() if "\n" in document.text else ""
    sections = [f"{level} `{title}`", f"{summary[0].upper()}{summary[1:].rstrip('.')}."]
    sections += [body] if body else []
    sections += [table(("option", "meaning"), rows)] if rows else []
    for name, kind in kinds.items():
        sections.append(_parser_section(f"{title} {name}", kind.description, kind, f"{level}#"))
    return "\n\n".join(sections)


def _metavar(action):
    if action.metavar:
        return action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar)
    if action.choices:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _help(parser, action):
    with contextlib.suppress(KeyError, ValueError, TypeError):
        text = parser._get_formatter()._expand_help(action) if action.help else ""
        required = " (required)" if action.required and action.option_strings else ""
        return text + required
    return action.help or ""
