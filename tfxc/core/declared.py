"""Arguments, declared once: in the annotations of a constructor or a function.

    class MHC(Head):
        def __init__(self, num_labels: FromData[int], *, beam: Count = 10, link: Link = "sigmoid"):

From such a signature come the check of every call and of a config's section, the sentence that
refuses a value, ``get_config``, and the list of what depends on the data. What relates several
arguments to each other stays code, next to the class.
"""

import functools
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

from tfxc.core.bounds import (  # noqa: F401  (what annotations are written with)
    Count,
    Natural,
    NotNegative,
    Positive,
    Share,
    ShareAboveZero,
    ShareBelowOne,
)
from tfxc.core.errors import ConfigError, inside, nearest

if TYPE_CHECKING:
    import pydantic


_T = TypeVar("_T")
_Target = TypeVar("_Target", bound=Callable[..., Any])

_FROM_DATA = "read from the data"
#: Marks an argument that depends on the data: a config may not set it. ``FromData[int]``.
FromData = Annotated[_T, _FROM_DATA]

_PLAIN = (bool, int, float, str, types.NoneType)
_LONGEST = 200  # characters of a refused value that a message shows
_NAMES = {
    bool: "true or false", int: "an integer", float: "a number", str: "a text", dict: "a section",
    list: "a list", tuple: "a list", Path: "a path",
}  # fmt: skip


class Argument(NamedTuple):
    """An argument as its function declares it.

    Attributes:
        annotation: its type with its bounds; ``typing.Any`` if the function says none.
        default: ``inspect.Parameter.empty`` if there is none.
        from_data: whether it is marked by ``FromData``.
    """

    annotation: object
    default: Any
    from_data: bool

    def check(self, name: str, value: _T) -> _T:
        """Refuses a value of another type, or outside of the bounds.

        Args:
            name: where the value comes from, for the message.
            value: of the argument.

        Returns:
            The value, see ``tfxc.core.declared.check``.

        Raises:
            ConfigError: the value is refused.
        """
        return check(self.annotation, name, value, default=self.default)


def arguments_of(function: Callable[..., Any]) -> dict[str, Argument]:
    """Returns the named arguments of a function, or of a class's constructor, without ``self``.

    Example:
        >>> arguments_of(check)["default"].from_data
        False
    """
    target = function.__init__ if inspect.isclass(function) else function
    return _arguments(inspect.unwrap(target))


@functools.cache
def _arguments(function: Callable[..., Any]) -> dict[str, Argument]:
    signature = inspect.signature(function)
    is_text = {name for name, p in signature.parameters.items() if isinstance(p.annotation, str)}
    hints = typing.get_type_hints(function, include_extras=True) if is_text else {}
    arguments = {}
    for name, parameter in signature.parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = hints[name] if name in is_text else parameter.annotation
        if annotation is parameter.empty:
            annotation = Any
        from_data = _FROM_DATA in getattr(annotation, "__metadata__", ())
        arguments[name] = Argument(annotation, parameter.default, from_data)
    return arguments


def check(
    annotation: object, name: str | None, value: _T, *, default: object = inspect.Parameter.empty
) -> _T:
    """Refuses a value that is not as an annotation says.

    Args:
        annotation: a type with its bounds, e.g. ``Count`` or ``Literal["l1", "l2"] | None``.
        name: of the argument or key, for the message; None where the caller says it.
        value: which is checked. Numbers and arrays of NumPy count as Python's.
        default: what it is where it is left out, for the message.

    Returns:
        The value; of a number or an array of NumPy Python's number or list, unless the annotation
        names the type.

    Raises:
        ConfigError: the value is of another type, outside of the bounds, or not finite.

    Example:
        >>> check(Count, "beam", 0, default=10)
        Traceback (most recent call last):
            ...
        tfxc.core.errors.ConfigError: beam: must be an integer of at least 1, not 0. Change it, or \
leave it out for the default 10.
    """
    of_numpy = hasattr(value, "tolist")
    is_number = of_numpy and getattr(value, "ndim", None) == 0 and annotation is not Any
    if not is_number and _accepts(annotation, value):
        return value
    if of_numpy and _accepts(annotation, plain := typing.cast(Any, value).tolist()):
        return plain
    has_default = default is not inspect.Parameter.empty and default not in (None, (), "")
    choices = words(annotation)
    hint = nearest(value, choices) if len(choices) > 1 else ""
    raise ConfigError(
        f"must be {describe(annotation)}, not {shown(value)}{hint}",
        where=name,
        fix=f"change it, or leave it out for the default {shown(default)}"
        if has_default
        else "change it",
    )


def check_choice(where: str, value: _T, choices: Iterable[object]) -> _T:
    """Returns ``check`` for values that are only known when the program runs, such as the keys of a
    table.

    Example:
        >>> check_choice("method", "logistic", {"isotonic": 1, "logistic": 2})
        'logistic'
    """
    return check(Literal[tuple(choices)], where, value)


def shown(value: object) -> str:
    """Returns a value as a message shows it: in the words of JSON, and not too long.

    Example:
        >>> shown(None), shown("a"), shown(2.5)
        ('null', "'a'", '2.5')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _accepts(annotation: object, value: object) -> bool:
    if annotation is Any:
        return True
    if isinstance(value, bool) and not any(
        kind in (bool, object, Any) or isinstance(kind, bool) for kind in alternatives(annotation)
    ):
        return False  # as true is 1 for Literal[1]
    from pydantic import ValidationError

    validate = _adapter(annotation).validate_python
    try:
        validate(value)
    except ValidationError:
        return False
    return True


@functools.cache
def _adapter(annotation: object) -> "pydantic.TypeAdapter[Any]":
    import pydantic  # a tenth of a second, which a command's help does without

    # Strict: "3" is no number, 1 is not true, and no number is infinite.
    strict = pydantic.ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    return pydantic.TypeAdapter(typing.cast(Any, annotation), config=strict)


def alternatives(annotation: object) -> list[Any]:
    """Returns the types and the values of which an annotation accepts any."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return alternatives(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [kind for part in typing.get_args(annotation) for kind in alternatives(part)]
    return list(typing.get_args(annotation)) if origin is Literal else [annotation]


def words(annotation: object) -> list[str]:
    """Returns the texts among the values that an annotation names."""
    return [value for value in alternatives(annotation) if isinstance(value, str)]


def describe(annotation: object) -> str:
    """Says what an annotation accepts; that None is accepted, too, is not said.

    Example:
        >>> describe(Count | None), describe(ShareBelowOne), describe(Literal["l1", "l2"])
        ('an integer of at least 1', 'a number of at least 0 and below 1', 'one of l1, l2')
        >>> describe(Sequence[Positive])
        'a list, each item a positive number'
    """
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _bounded(parts[0], parts[1:])
    if origin in (typing.Union, types.UnionType):
        said = [describe(part) for part in parts if part is not types.NoneType]
        # Of "a list, each item a text or a path" the path would be an item.
        return " or ".join(sorted(dict.fromkeys(said), key=lambda words: "each " in words))
    if origin is Literal:
        values = [value for value in parts if value is not None]
        return f"one of {', '.join(map(str, values))}" if len(values) > 1 else shown(values[0])
    if origin is not None and issubclass(origin, Mapping):
        value = parts[-1] if parts else Any
        return "a section" if value is Any else f"a section, each value {describe(value)}"
    if origin is not None and issubclass(origin, Iterable):
        items = [part for part in parts if part is not Ellipsis]
        return f"a list, each item {describe(items[0])}" if items else "a list"
    if annotation in _NAMES:
        return _NAMES[annotation]
    if annotation is Any:
        return "anything"
    if hasattr(annotation, "model_fields"):
        return "a section"
    name = getattr(annotation, "__name__", str(annotation))
    return "an array" if name == "ndarray" else f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"


def bounded(annotation: object, bounds: Sequence[Any]) -> Any:
    """Returns an annotation with bounds that a pydantic model keeps apart from it."""
    return Annotated[(annotation, *bounds)] if bounds else annotation


def _bounded(annotation: object, marks: Sequence[Any]) -> str:
    """Returns the description of a type with bounds of ``annotated_types`` or of
    ``pydantic.Field``.
    """
    flat: list[Any] = []
    for mark in marks:
        flat.extend(getattr(mark, "metadata", [mark]))
    ends = {key: getattr(mark, key) for mark in flat for key in _ENDS if hasattr(mark, key)}
    low, high = ends.get("ge", ends.get("gt")), ends.get("le", ends.get("lt"))
    noun = describe(annotation)
    shortest = ends.get("min_length")
    if noun.startswith("a list") and shortest is not None:
        if shortest == ends.get("max_length"):
            return noun.replace("a list", f"a list of {shortest} items", 1)
        if shortest == 1:
            return noun.replace("a list", "a list of at least one item", 1)
    if noun == "a text" and shortest == 1:
        return "a text that is not empty"
    if low is None and high is None:
        return noun
    if high is None or high >= 2**63:
        if ends.get("gt") == 0:
            return f"a positive {noun.partition(' ')[2]}"
        return f"{noun} of at least {low}" if "ge" in ends else f"{noun} above {low}"
    if low is None:
        return f"{noun} of at most {high}" if "le" in ends else f"{noun} below {high}"
    if "ge" in ends and "le" in ends:
        return f"{noun} from {low} to {high}"
    lower = f"of at least {low:g}" if "ge" in ends else f"above {low:g}"
    upper = f"at most {high:g}" if "le" in ends else f"below {high:g}"
    return f"{noun} {lower} and {upper}"


_ENDS = ("ge", "gt", "le", "lt", "min_length", "max_length")


def checked(target: _Target) -> _Target:
    """Decorates a function or a dataclass: every call checks what it is given.

    Defaults are not checked.

    Raises:
        ConfigError: at each call, for the first argument that is not as annotated.

    Example:
        >>> @checked
        ... def search(k: int, *, link: Literal["sigmoid", "softmax"] = "sigmoid"):
        ...     return k
        >>> search(5, link="sigmod")
        Traceback (most recent call last):
            ...
        tfxc.core.errors.ConfigError: link: must be one of sigmoid, softmax, not 'sigmod', did you \
mean 'sigmoid'? Change it, or leave it out for the default 'sigmoid'.
    """
    if inspect.isclass(target):
        target.__init__ = checked(target.__init__)  # type: ignore[method-assign]
        return target
    signature = inspect.signature(target)
    names = list(signature.parameters)

    @functools.wraps(target)
    def call(*values: object, **named: object) -> Any:
        arguments = _arguments(target)

        def accepted(name: str, value: object) -> Any:
            if name not in arguments or value is arguments[name].default:
                return value
            return arguments[name].check(name, value)

        first = [accepted(name, value) for name, value in zip(names, values, strict=False)]
        rest = {name: accepted(name, value) for name, value in named.items()}
        return target(*first, *values[len(names) :], **rest)

    call.__signature__ = signature  # type: ignore[attr-defined]  # Keras does not follow wrappers
    return typing.cast(_Target, call)


class LayerArguments(typing.TypedDict, total=False):
    """The arguments that every layer of Keras takes, which constructors hand on to it.

    Attributes:
        name: of the layer.
        dtype: name of a type, or a ``keras.DTypePolicy``.
        trainable: whether its weights are trained.
    """

    name: str | None
    dtype: object
    trainable: bool


class Declared:
    """Base of a class whose constructor declares all about its arguments.

    Each subclass's constructor is checked as by ``checked``.

    Class attributes:
        data_dependent_arguments: the names of the constructor's arguments that are marked by
            ``FromData``, and, where it takes any keyword, of those of its base class.
    """

    data_dependent_arguments: typing.ClassVar[tuple[str, ...]] = ()
    _saved: types.SimpleNamespace  # no dictionary: Keras would look for weights in it

    def __init_subclass__(cls, **options: object) -> None:
        """Wraps the constructor, if the class has one of its own."""
        super().__init_subclass__(**options)
        constructor = vars(cls).get("__init__")
        if constructor is None:
            return
        checked_constructor = checked(constructor)
        signature = inspect.signature(constructor)
        parameters = signature.parameters.values()
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)

        @functools.wraps(constructor)
        def construct(self: object, *values: object, **named: object) -> None:
            if "_saved" not in vars(self):  # of the outermost class; not Keras' business
                bound = signature.bind(self, *values, **named)
                bound.apply_defaults()
                saved = types.SimpleNamespace(
                    **_config_of(cls, {**bound.arguments, **bound.kwargs})
                )
                object.__setattr__(self, "_saved", saved)
            checked_constructor(self, *values, **named)

        construct.__signature__ = signature  # type: ignore[attr-defined]
        cls.__init__ = construct  # type: ignore[method-assign]
        marked = [name for name, argument in _arguments(constructor).items() if argument.from_data]
        inherited = next(
            base.data_dependent_arguments for base in cls.__mro__[1:] if issubclass(base, Declared)
        )
        if takes_any:
            marked += [name for name in inherited if name not in signature.parameters]
        cls.data_dependent_arguments = tuple(marked)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments; of those that depend on the data, no arrays."""
        parent = super()
        # Keras' own: name, dtype, trainable.
        config = parent.get_config() if hasattr(parent, "get_config") else {}
        return {**config, **vars(self._saved)}


def _config_of(cls: type[Declared], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a config holds of a constructor's arguments, those for its base classes
    included.

    Arrays that depend on the data are left out at once, so that none outlives its use.
    """
    declared: dict[str, Argument] = {}
    for base in cls.__mro__:
        if issubclass(base, Declared) and "__init__" in vars(base):
            declared = arguments_of(base) | declared
    saved = {}
    for name in [name for name in declared if name in given]:
        value = _plain(given[name])
        if not declared[name].from_data:
            saved[name] = value.tolist() if hasattr(value, "tolist") else value
        elif value is not None and _is_plain(value):
            saved[name] = value
    return saved


def _plain(value: object) -> Any:
    """Tuples as lists, NumPy's numbers as Python's: as JSON has them."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _is_plain(value: object) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, list) and all(map(_is_plain, value)))


def check_section(
    factory: Callable[..., Any],
    section: Mapping[str, Any],
    where: str,
    what: str,
    others: Iterable[str] = (),
    excluded: Collection[str] = (),
) -> None:
    """Checks a config's section against the function or class that it is for.

    Args:
        factory: whose arguments the section's keys are.
        section: ``{argument: value}``.
        where: config key of the section, for messages.
        what: what the section configures, for messages, e.g. ``"head 'mach'"``.
        others: keys that something else has checked.
        excluded: arguments that the section does not set.

    Raises:
        ConfigError: an unknown key, one that depends on the data, a value that is refused, or an
            argument without a default is missing.

    Example:
        >>> check_section(check_k, {"k": 3, "most": 5}, "limits", "the limits")
    """
    arguments = arguments_of(factory)
    arguments = {name: said for name, said in arguments.items() if name not in excluded}
    known = [name for name, argument in arguments.items() if not argument.from_data]
    others = list(others)
    for key, value in section.items():
        if key in others:
            continue
        if key not in arguments:
            raise ConfigError(
                f"{what} has no argument {key!r}{nearest(key, known)}",
                where=f"{where}.{key}",
                fix=f"use one of: {', '.join(sorted([*known, *others]))}" if known else "remove it",
            )
        if arguments[key].from_data:
            raise ConfigError(
                f"{key!r} is read from the data", where=f"{where}.{key}", fix="remove the key"
            )
        if value is not arguments[key].default:
            arguments[key].check(f"{where}.{key}", value)
    for name in known:
        if arguments[name].default is inspect.Parameter.empty and name not in section:
            raise ConfigError(
                f"{what} needs {name}", where=where, fix=f"add {name!r} to this section"
            )


def from_section(
    factory: Callable[..., Any],
    section: Mapping[str, Any],
    where: str,
    others: Iterable[str] = (),
    **known: object,
) -> Any:
    """Calls a class or function with the arguments of a config section.

    Args:
        factory: what is called.
        section: ``{argument: value}``.
        where: config key of the section, for messages.
        others: keys of the section that the caller has already taken out.
        known: arguments that do not come from the config.

    Raises:
        ConfigError: an unknown argument, or one that ``factory`` refuses.

    Example:
        >>> from_section(check_k, {"k": 3}, "limits", most=5)
    """
    for key in section:
        if key in known:
            raise ConfigError(
                f"{key!r} cannot be set here", where=f"{where}.{key}", fix="remove the key"
            )
    check_section(factory, {**section, **known}, where, where, [*others, *known])
    with inside(where, arguments_of(factory)):
        return factory(**known, **section)


def check_k(k: object, most: int) -> None:
    """Refuses a k for which not that many labels can be found among ``most``.

    Raises:
        ConfigError: it is no integer from 1 to ``most``.
    """
    whole = int(k) if isinstance(k, numbers.Integral) and not isinstance(k, bool) else None
    if whole is None or not 1 <= whole <= most:
        given = repr(k) if whole is None else whole
        problem = f"must be from 1 to {most}, the number of labels, not {given}"
        raise ConfigError(problem, where="k", fix="change it")
