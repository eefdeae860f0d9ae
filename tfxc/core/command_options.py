"""Command lines that are said once: as dataclasses with annotated fields.

    @dataclasses.dataclass(frozen=True)
    class Options:
        '''Options of ``tfxc evaluate``.

        Attributes:
            run: run folder.
            seed: of the bootstrap.
            search: how labels are searched
        '''

        run: Annotated[str, Option("RUN")]
        seed: Natural = 0
        search: SearchOptions = SearchOptions()

    options = parse(Options, argv, "evaluate", __doc__)

A field's annotation says its type and bounds, its sentence among the attributes is its help, and a
field that is a dataclass itself brings its options along, as a group of the help. A refused value
gets the sentence that the same value gets in a config.
"""

import argparse
import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from tfxc.core import cli
from tfxc.core.bounds import Option
from tfxc.core.errors import ConfigError, option_of

_Options = TypeVar("_Options")


def parse(
    declaration: type[_Options], argv: Sequence[str] | None, command: str, description: str
) -> _Options:
    """Reads a command line.

    Args:
        declaration: a dataclass, see the module.
        argv: arguments; None means those of the process.
        command: its name, as in ``tfxc COMMAND``.
        description: for the help.

    Returns:
        An instance of ``declaration``. Where the command line is wrong the process ends.
    """
    parser = parser_of(declaration, command, description)
    return _made(declaration, vars(parser.parse_args(argv)))


def parser_of(declaration: type, command: str, description: str) -> argparse.ArgumentParser:
    """The parser of a command whose options are declared; arguments see ``parse``."""
    parser: Any = cli.parser(command, description)
    _add(parser, parser, declaration, {})
    return parser


def restored(declaration: type[_Options], values: Mapping[str, Any]) -> _Options:
    """Makes options again of what ``dataclasses.asdict`` made of them."""
    made = dict(values)
    for field in dataclasses.fields(declaration):  # type: ignore[arg-type]
        inner = _declaration_of(declaration, field)
        if inner is not None:
            made[field.name] = restored(inner, values[field.name])
    return declaration(**made)


def _made(declaration: type[_Options], values: dict[str, Any]) -> _Options:
    """An instance of a declaration, with the parsed values of its fields and of those within."""
    made: dict[str, Any] = {}
    for field in dataclasses.fields(declaration):  # type: ignore[arg-type]
        inner = _declaration_of(declaration, field)
        if inner is not None:
            made[field.name] = _made(inner, values)
            continue
        annotation = _hints(declaration)[field.name]  # type: ignore[arg-type]
        name = _name_of(field, annotation)
        if name in values:
            is_mapping = _is_mapping(_kind(annotation))
            made[field.name] = dict(values[name]) if is_mapping else values[name]
    return declaration(**made)


def _declaration_of(declaration: type, field: dataclasses.Field) -> type | None:
    """The dataclass whose options a field brings along; None for an option."""
    annotation = _hints(declaration)[field.name]
    return annotation if dataclasses.is_dataclass(annotation) else None  # type: ignore[return-value]


@functools.cache
def _hints(declaration: Any) -> dict[str, Any]:
    return typing.get_type_hints(declaration, include_extras=True)


def _add(parser: Any, group: Any, declaration: type, exclusive: dict[str, Any]) -> None:
    """Adds the options of a declaration to a group of a parser."""
    helps = attributes_of(declaration)
    for field in dataclasses.fields(declaration):
        inner = _declaration_of(declaration, field)
        if inner is not None:
            title = helps[field.name].rstrip(".")
            title = title[:1].upper() + title[1:]
            _add(parser, parser.add_argument_group(title), inner, exclusive)
            continue
        annotation = _hints(declaration)[field.name]
        option = _option_of(annotation)
        if option.hidden:
            continue
        if option.remote:
            parser.remote = (*parser.remote, _name_of(field, annotation))
        target = group
        if option.excludes:
            key = option.excludes
            if key not in exclusive:
                exclusive[key] = group.add_mutually_exclusive_group(required=key.endswith("!"))
            target = exclusive[key]
        names, arguments = _arguments(field, annotation, option, helps[field.name])
        if option.positional and option.name:
            key = option.excludes or field.name
            if key not in exclusive:
                exclusive[key] = group.add_mutually_exclusive_group(
                    required=arguments.pop("required", key.endswith("!"))
                )
            target = exclusive[key]
            place = {**arguments, "nargs": "?", "default": argparse.SUPPRESS}
            del place["dest"]
            target.add_argument(field.name, **place)
        target.add_argument(*names, **arguments)


def _name_of(field: dataclasses.Field, annotation: Any) -> str:
    """The name of an option in what the parser returns: ``max_k`` of ``--max-k``."""
    name = _option_of(annotation).name
    return field.name if name is None else name.removeprefix("--").replace("-", "_")


def _option_of(annotation: Any) -> Option:
    marks = getattr(annotation, "__metadata__", ())
    return next((mark for mark in marks if isinstance(mark, Option)), Option())


def _arguments(
    field: dataclasses.Field, annotation: Any, option: Option, sentence: str
) -> tuple[list[str], dict[str, Any]]:
    """The names of an option and the other arguments of ``add_argument``."""
    default: Any = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    required = default is dataclasses.MISSING
    kind = _kind(annotation)
    is_place = option.positional and not option.name
    names = [field.name] if is_place else [option.name or option_of(field.name)]
    arguments: dict[str, Any] = {"help": _help(sentence, None if required else default)}
    if not is_place:
        arguments |= {"dest": _name_of(field, annotation)}
        if required:
            arguments["required"] = True
    if not required:
        arguments["default"] = default
    if kind is bool:
        arguments["action"] = "store_true"
        return names, arguments
    item = _item(kind)
    if _is_mapping(kind):  # pairs, which ``_made`` joins
        arguments |= {"action": "append", "type": cli.key_and_value, "default": []}
        return names, {**arguments, "metavar": option.metavar}
    if option.spans:
        return names, {**arguments, "type": cli.spans, "metavar": option.metavar or "NUMBERS"}
    arguments["type"] = option.read or _reader(
        names[0], annotation if item is None else kind, item, None if required else default
    )
    choices = typing.get_args(item or kind) if _is_literal(item or kind) else None
    metavar = option.metavar or (None if choices else _METAVARS.get(_kind(item or kind)))
    if choices:
        arguments["choices"] = choices
    if metavar:
        arguments["metavar"] = metavar
    if item is not None and (option.repeated or option.words or is_place):
        arguments["type"] = option.read or _reader(names[0], item, None)
        if option.repeated:
            arguments |= {"action": "append", "default": list(default or ())}
            if required:
                del arguments["default"]
        else:
            arguments["nargs"] = "+" if is_place else "*"
    elif is_place and not required:
        arguments["nargs"] = "?"
    return names, arguments


def _help(sentence: str, default: object) -> str:
    """The help of an option: its sentence, and its default unless that is told."""
    text = sentence.rstrip(".").replace("``", "").replace("%", "%%")
    told = re.search(r"; None (?:means|for) (.*)$", text)
    if told:
        text = f"{text[: told.start()]} (default: {told[1]})"
    elif default is not None and default is not False and default not in ((), [], {}, ""):
        text += " (default: %(default)s)"
    return text


_METAVARS = {int: "N", float: "NUMBER", str: "TEXT"}


def _kind(annotation: Any) -> Any:
    """The type of an annotation, without None and what is said of it."""
    if typing.get_origin(annotation) is Annotated:
        return _kind(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (kind,) = [part for part in typing.get_args(annotation) if part is not types.NoneType]
        return _kind(kind) if _item(kind) is None and not _is_literal(kind) else kind
    return annotation


def _is_literal(kind: Any) -> bool:
    return typing.get_origin(kind) is Literal


def _is_mapping(kind: Any) -> bool:
    origin = typing.get_origin(kind)
    return inspect.isclass(origin) and issubclass(origin, Mapping)


def _item(kind: Any) -> Any:
    """The annotation of the items of a list; None for what is no list."""
    origin = typing.get_origin(kind)
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        return typing.get_args(kind)[0]
    return None


def _reader(name: str, annotation: Any, item: Any, default: Any = None) -> Callable[[str], Any]:
    """What makes a value of a text; with ``item``, a list of a text with commas."""

    def read(text: str) -> Any:
        if item is not None:
            return [_value(part, item) for part in text.split(",")]
        return _value(text, annotation, default)

    read.__name__ = name
    return read


def _value(text: str, annotation: Any, default: Any = None) -> Any:
    """The value of a text, as the annotation has it.

    Raises:
        argparse.ArgumentTypeError: it is refused.
    """
    from tfxc.core.declared import check  # only where something is parsed: it takes its time

    value: Any = text
    kind = _kind(annotation)
    for convert in (int, float) if kind is float else (kind,) if kind is int else ():
        try:
            value = convert(text)
            break
        except ValueError:
            continue
    try:
        check(annotation, None, value, default=default)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None
    return float(value) if kind is float else value


_ENTRY = r"^    (\w+): ((?:.*\n?)(?:^     .*\n?)*)"


def attributes_of(declaration: type) -> dict[str, str]:
    """The sentences of a dataclass's ``Attributes``, by name.

    Example:
        >>> attributes_of(Option)["remote"]
        'whether the value may be an address that whoever reads it copies.'
    """
    sentences: dict[str, str] = {}
    for base in reversed(declaration.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        part = re.search(r"^Attributes:\n((?:(?:    .*)?\n?)*)", text, re.MULTILINE)
        entries = part[1] if part else ""
        for name, sentence in re.findall(_ENTRY, entries, re.MULTILINE):
            sentences[name] = " ".join(sentence.split())
    return sentences


def given(options: Any) -> dict[str, Any]:
    """Values of the options that differ from their defaults, those of groups too, by name.

    Example:
        >>> given(Option("FILE", remote=True))
        {'metavar': 'FILE', 'remote': True}
    """
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if dataclasses.is_dataclass(value):
            changed |= given(value)
        elif value != default:
            changed[_name_of(field, _hints(type(options))[field.name])] = value  # type: ignore[arg-type]
    return changed


def refuse(options: Any, names: Iterable[str], problem: str, fix: str = "leave it out") -> None:
    """Refuses options that have no effect together with the others.

    Args:
        options: what ``parse`` has returned.
        names: as those of ``given``.
        problem, fix: what is said of the first one that is given.

    Raises:
        ConfigError: one of them is given.

    Example:
        >>> refuse(Option("FILE", remote=True), ["remote"], "only a folder is read")
        Traceback (most recent call last):
            ...
        tfxc.core.errors.ConfigError: --remote: only a folder is read. Leave it out.
    """
    values = given(options)
    for name in names:
        if name in values:
            raise ConfigError(problem, where=option_of(name), fix=fix)
