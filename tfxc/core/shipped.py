"""The configs, examples and tools that come with tfxc: inside a wheel, else next to the package."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def shipped_folder(name: str) -> Path:
    """Returns the folder ``configs``, ``examples`` or ``tools`` of the installed tfxc.

    Example:
        >>> (shipped_folder("configs") / "quickstart.json").is_file()
        True
    """
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def shipped_configs() -> dict[str, Path]:
    """Returns the configs that come with tfxc by name, e.g. ``"quickstart"`` and ``"mhe_xmc/..."``.

    Example:
        >>> "quickstart" in shipped_configs()
        True
    """
    root = shipped_folder("configs")
    return {
        path.relative_to(root).with_suffix("").as_posix(): path
        for path in sorted(root.rglob("*.json"))
    }


def find_config(name: str | Path) -> Path:
    """Returns the config of a name: that file, else the one of that name that comes with tfxc.

    Args:
        name: a path, or a name such as ``"quickstart"`` or ``"configs/quickstart.json"``.

    Example:
        >>> find_config("quickstart").name
        'quickstart.json'
    """
    path = Path(name)
    if path.exists() or path.is_symlink() or path.is_absolute():
        return path
    plain = path.as_posix().removeprefix("./").removeprefix("configs/").removesuffix(".json")
    return shipped_configs().get(plain, path)
