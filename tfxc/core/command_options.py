"""Command lines, declared once: as dataclasses with annotated fields.

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
gets the sentence that the same value gets in a config. A command of several kinds has a mapping,
``{kind: dataclass}``; the first line of each docstring is the help of the kind.
"""

import argparse
import dataclasses
import functools
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from tfxc.core import cli
from tfxc.core.bounds import Option
from tfxc.core.errors import ConfigError, option_of
from tfxc.core.storage.files import check_local
from tfxc.core.storage.mirror import mirrored
from tfxc.core.storage.remote import is_remote

_Options = TypeVar("_Options")
_KIND = "-kind"  # which no field can be called


def parse(
    declaration: type[_Options] | Mapping[str, type[_Options]],
    argv: Sequence[str] | None,
    command: str,
    description: str,
) -> _Options:
    """Reads a command line.

    Args:
        declaration: a dataclass, or one for each kind, see the module.
        argv: arguments; None means those of the process.
        command: its name, as in ``tfxc COMMAND``, or the path of a tool.
        description: for the help.

    Returns:
        An instance of ``declaration``, or of that of the kind. Where the command line is wrong the
        process ends.

    Raises:
        ConfigError: an address of a remote storage stands where none may.
        DataError: see ``tfxc.core.storage.mirror.mirrored``.
        MachineError: see there.
    """
    values = vars(parser_of(declaration, command, description).parse_args(argv))
    chosen = values[_KIND] if isinstance(declaration, Mapping) else declaration
    return _made(chosen, values)


def parser_of(
    declaration: type | Mapping[str, type], command: str, description: str
) -> argparse.ArgumentParser:
    """Returns the parser of a command whose options are declared; arguments see ``parse``."""
    parser = cli.Parser(command, description)
    if not isinstance(declaration, Mapping):
        _add(parser, parser, declaration, {})
        return parser
    kinds = parser.add_subparsers(metavar="KIND", required=True, title="kinds")
    for name, kind in declaration.items():
        line = inspect.cleandoc(kind.__doc__ or "").partition("\n")[0].rstrip(".")
        sentence = line[:1].lower() + line[1:]
        inner = kinds.add_parser(name, help=sentence, description=sentence)
        inner.set_defaults(**{_KIND: kind})
        _add(inner, inner, kind, {})
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
    """Returns an instance of a declaration, with the parsed values of its fields and of those
    within.
    """
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
            value = dict(values[name]) if is_mapping else values[name]
            made[field.name] = _placed(value, _option_of(annotation), option_of(name))
    return declaration(**made)


def _placed(value: object, option: Option, name: str) -> Any:
    """Returns the value of an option; of an address of a remote storage, the path of its copy."""
    if isinstance(value, list):
        return [_placed(item, option, name) for item in value]
    if option.remote or not isinstance(value, str):
        return value
    if option.mirror is None:
        check_local(value, name)
        return value
    # A run may have a name in front: NAME=ADDRESS.
    label, sign, address = ("", "", value) if is_remote(value) else value.partition("=")
    if not is_remote(address):
        return value
    trains = option.mirror == "trains"
    writes = trains or option.mirror == "writes"
    return f"{label}{sign}{mirrored(address, name, writes=writes, watch=trains)}"


def _declaration_of(declaration: type, field: dataclasses.Field) -> type | None:
    """Returns the dataclass whose options a field brings along; None for an option."""
    annotation = _hints(declaration)[field.name]
    return annotation if dataclasses.is_dataclass(annotation) else None  # type: ignore[return-value]


@functools.cache
def _hints(declaration: object) -> dict[str, Any]:
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
        parser.run_first |= option.first
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
            place = {**arguments, "nargs": "?"}
            del place["dest"]
            target.add_argument(field.name, **place)
        target.add_argument(*names, **arguments)


def _name_of(field: dataclasses.Field, annotation: object) -> str:
    """Returns the name of an option in what the parser returns: ``max_k`` of ``--max-k``."""
    name = _option_of(annotation).name
    return field.name if name is None else name.removeprefix("--").replace("-", "_")


def _option_of(annotation: object) -> Option:
    return next((mark for mark in _marks(annotation) if isinstance(mark, Option)), Option())


def _marks(annotation: object) -> Sequence[Any]:
    """Returns what is said of a type besides itself."""
    return getattr(annotation, "__metadata__", ())


def _arguments(
    field: dataclasses.Field, annotation: object, option: Option, sentence: str
) -> tuple[list[str], dict[str, Any]]:
    """Returns the names of an option and the other arguments of ``add_argument``."""
    default: Any = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    required = default is dataclasses.MISSING
    kind = _kind(annotation)
    is_place = option.positional and not option.name
    names = [field.name] if is_place else [option.name or option_of(field.name)]
    # What is left out has the default of its field.
    arguments: dict[str, Any] = {
        "help": _help(sentence, None if required else default),
        "default": argparse.SUPPRESS,
    }
    if not is_place:
        arguments |= {"dest": _name_of(field, annotation)}
        if required:
            arguments["required"] = True
    if kind is bool:
        arguments["action"] = "store_true"
        return names, arguments
    item = _item(kind)
    if _is_mapping(kind):  # pairs, which ``_made`` joins
        arguments |= {"action": "append", "type": _pair}
        return names, {**arguments, "metavar": option.metavar}
    if option.spans:
        return names, {**arguments, "type": _spans, "metavar": option.metavar or "NUMBERS"}
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
            arguments["action"] = "append"
        elif (count := _count(kind)) is not None:
            arguments |= {"nargs": count, "metavar": tuple((metavar or names[0]).split())}
        else:
            least = max((getattr(mark, "min_length", 0) for mark in _marks(annotation)), default=0)
            arguments["nargs"] = "+" if is_place or least else "*"
    elif is_place and not required:
        arguments["nargs"] = "?"
    elif option.alone is not None:
        arguments |= {"nargs": "?", "const": option.alone}
    return names, arguments


def _count(kind: object) -> int | None:
    """Returns how many items a list has; None for any number."""
    parts = typing.get_args(kind)
    return len(parts) if typing.get_origin(kind) is tuple and Ellipsis not in parts else None


def _pair(text: str) -> tuple[str, Any]:
    """Returns ``(key, value)`` of a text; a value that is not JSON is a text itself."""
    key, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _spans(text: str) -> list[int]:
    """Integers and spans of them: 0, 1, 2 and 5 of ``0-2,5``."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, sign, last = part.partition("-")
        last = last if sign else first
        if not (first.isdecimal() and last.isdecimal()) or not int(first) <= int(last) < 1 << 20:
            raise argparse.ArgumentTypeError(f"must be numbers such as 0-7 or 0-3,5, not {text!r}")
        numbers |= set(range(int(first), int(last) + 1))
    return sorted(numbers)


def _help(sentence: str, default: object) -> str:
    """Returns the help of an option: its sentence, and its default unless that is told."""
    text = sentence.rstrip(".").replace("``", "").replace("%", "%%")
    told = re.search(r"; None (?:means|for) (.*)$", text)
    if told:
        text = f"{text[: told.start()]} (default: {told[1]})"
    elif default is not None and default is not False and default not in ((), [], {}, ""):
        text += f" (default: {default})".replace("%", "%%")
    return text


_METAVARS = {int: "N", float: "NUMBER", str: "TEXT"}


def _kind(annotation: object) -> Any:
    """Returns the type of an annotation, without None and what is said of it."""
    if typing.get_origin(annotation) is Annotated:
        return _kind(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (kind,) = [part for part in typing.get_args(annotation) if part is not types.NoneType]
        return _kind(kind) if _item(kind) is None and not _is_literal(kind) else kind
    return annotation


def _is_literal(kind: object) -> bool:
    return typing.get_origin(kind) is Literal


def _is_mapping(kind: object) -> bool:
    origin = typing.get_origin(kind)
    return inspect.isclass(origin) and issubclass(origin, Mapping)


def _item(kind: object) -> Any:
    """Returns the annotation of the items of a list; None for what is no list."""
    origin = typing.get_origin(kind)
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        return typing.get_args(kind)[0]
    return None


def _reader(
    name: str, annotation: object, item: object, default: object = None
) -> Callable[[str], Any]:
    """Returns what makes a value of a text; with ``item``, a list of a text with commas."""

    def read(text: str) -> Any:
        if item is not None:
            return [value_of(part, item) for part in text.split(",")]
        return value_of(text, annotation, default)

    read.__name__ = name
    return read


def value_of(text: str, annotation: object, default: object = None) -> Any:
    """Returns the value of a text, as an annotation has it.

    Args:
        text: what the user has written.
        annotation: type with bounds.
        default: for the message, what it is where it is left out; None if nothing is said of it.

    Raises:
        argparse.ArgumentTypeError: it is refused.

    Example:
        >>> value_of("3", float)
        3.0
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
    """Returns the sentences of a dataclass's ``Attributes``, by name.

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
    """Returns the values of the options that differ from their defaults, those of groups too, by
    name.

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


def refuse(options: object, names: Iterable[str], problem: str, fix: str = "leave it out") -> None:
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
