"""What each mount option means: the words of ``-o`` as `Options`.

Three programs take options, each with customs of its own, the `Dialect`: ``unionfs mount`` is strict, ``fuse-unionfs`` passes
over what fuse-overlayfs passes over, ``mount.unionfs`` accepts the words of fstab that are meant for mount(8).  What would make
another union than the one asked for is refused in all three: passing over it would show other files, or break links.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from unionfs.mounter.errors import OptionError
from unionfs.mounter.option_syntax import split_lowers, split_options, unescape
from unionfs.mounter.owner_options import parse_id, parse_mapping, parse_overrides

TRANSPORTS = ("direct", "pyfuse3")
DATA_PATHS = ("auto", "passthrough", "cached")


class Dialect(Enum):
    """Whose options they are."""

    UNIONFS = "unionfs"
    FUSE_OVERLAYFS = "fuse-unionfs"
    MOUNT_HELPER = "mount.unionfs"


@dataclass
class Options:
    """The options of one mount, as given.  ``data`` are the data-only layers.

    ``switches`` maps a word of mount(8) without its ``no`` (``suid``, ``atime``; ``ro`` for ro/rw) to whether it is on;
    ``settings`` has the options with a value, converted, under the names of the fields of `unionfs.mounter.request.MountRequest`,
    of its ``union`` and the owners of that.
    """

    lowers: list[Path] = field(default_factory=list)
    data: list[Path] = field(default_factory=list)
    upper: Path | None = None
    work: Path | None = None
    switches: dict[str, bool] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def _pairs(*names: str) -> dict[str, tuple[str, bool]]:
    return {word: (name, on) for name in names for word, on in ((name, True), (f"no{name}", False))}


_SWITCHES: dict[str, tuple[str, bool]] = {
    "ro": ("ro", True),
    "rw": ("ro", False),
    "sync": ("sync", True),
    "async": ("sync", False),
    "dirsync": ("dirsync", True),
    **_pairs("suid", "dev", "exec", "atime", "diratime", "relatime", "strictatime"),
    "allow_other": ("allow_other", True),
    "allow_root": ("allow_root", True),
    "volatile": ("volatile", True),
    "userxattr": ("userxattr", True),
    "squash_to_root": ("squash_to_root", True),
    **_pairs("acl"),
    "noxattrs": ("noxattrs", True),
    "static_nlink": ("static_nlink", True),
    "ino32_t": ("ino32_t", True),
}


def _choice(*choices: str) -> Callable[[str], str]:
    def convert(value: str) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return value

    return convert


def _number(kind: Callable[[str], float], unit: str, lowest: float, highest: float) -> Callable[[str], float]:
    def convert(value: str) -> float:
        wanted = f"a number of {unit} from {lowest:g} to {highest:g}"
        try:
            number = kind(value)
        except ValueError:
            raise ValueError(wanted) from None
        if not lowest <= number <= highest:  # false for a NaN too
            raise ValueError(wanted)
        return number

    return convert


_SIZE = re.compile(r"([0-9]{1,15})([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(value: str) -> int:
    """Bytes: a number, with k, M, G or T for powers of 1024 (as df(1) and Docker write them).

    Raises:
        ValueError: it is none, or 0; the text says what is wanted.
    """
    found = _SIZE.fullmatch(value)
    size = int(found[1]) * _SIZE_UNITS[found[2].lower()] if found else 0
    if not 0 < size < 1 << 63:
        raise ValueError("a number of bytes, or one with k, M, G or T: 500M")
    return size


def _fsync(value: str) -> str:
    # 0 and 1 are fuse-overlayfs's.
    return {"0": "volatile", "1": "auto"}.get(value) or _choice("auto", "strict", "volatile", "0", "1")(value)


# Option with a value -> (name in Options.settings, conversion).
_SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "transport": ("transport", _choice(*TRANSPORTS)),
    "data_path": ("data_path", _choice(*DATA_PATHS)),
    "stack_depth": ("stack_depth", _number(int, "filesystems", 1, 2)),
    "spin": ("spin_us", _number(int, "microseconds", 0, 1_000_000)),
    "size": ("size", parse_size),
    "max_inodes": ("max_inodes", _number(int, "inodes", 0, 1 << 40)),
    "timeout": ("timeout", _number(float, "seconds", 0, 1e9)),
    "fsync": ("fsync", _fsync),
    "sync": ("fsync", _fsync),  # fuse-overlayfs 2.0's other name for it; without a value it is the switch of mount(8)
    "redirect_dir": ("redirect_dir", _choice("on", "follow", "off", "nofollow")),
    "whiteout": ("whiteout", _choice("auto", "dev", "xattr", "wh")),
    "metacopy": ("metacopy", lambda value: _choice("on", "off")(value) == "on"),
    "index": ("index", _choice("on", "off")),
    "uidmapping": ("uids", parse_mapping),
    "gidmapping": ("gids", parse_mapping),
    "squash_to_uid": ("squash_uid", parse_id),
    "squash_to_gid": ("squash_gid", parse_id),
    "xattr_permissions": ("overrides", parse_overrides),
    "noxattrs": ("noxattrs", lambda value: _choice("0", "1")(value) == "1"),
    "fsname": ("source", unescape),
    "log": ("log", lambda value: Path(unescape(value))),
}

_NO_FEATURE = "not supported yet; leave it out"

# Options that would make another union: the values that ask for nothing, and the remedy for all others.
_UNSUPPORTED: dict[str, tuple[frozenset[str | None], str]] = {
    "plugins": (frozenset[str | None](), "layers from plug-ins are not supported; give directories"),
    **{name: (frozenset({"off"}), _NO_FEATURE) for name in ("nfs_export", "verity")},
    "remount": (frozenset(), "a mounted union cannot be changed; unmount it and mount it anew"),
}

# What holds in any mount, with the values that are accepted.  Inode numbers are unique, on one device and the same in every
# mount, which is what xino=on promises; xino=off leaves open whether they are.
_ALWAYS_SO: dict[str, tuple[str | None, ...]] = {
    "defaults": (None,),
    "default_permissions": (None,),
    "xino": ("on", "off", "auto"),
}

# What fuse-overlayfs knows and what has no counterpart here, but changes nothing that a program could rely on.
_TUNING = frozenset(
    {"threaded", "fast_ino", "fast_ino_check", "writeback", "debug", "kernel_cache", "max_write", "max_read"}
    | {"splice_write", "splice_read", "splice_move"}
)
# mount(8) has dealt with these itself; podman hands ``private`` on to the mount program.
_PROPAGATION = frozenset(prefix + word for prefix in ("", "r") for word in ("private", "shared", "slave", "unbindable"))
_FSTAB = frozenset(
    {"auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "comment", "uhelper", "helper"}
)


def parse_options(arguments: Iterable[str], dialect: Dialect = Dialect.UNIONFS, *, ignore_unknown: bool | None = None) -> Options:
    """The options of all ``-o`` arguments, in their order.

    ``ignore_unknown``: whether an unknown option is only a warning; None: as the dialect has it.

    Raises:
        OptionError: an option is unknown, malformed, not supported, or given both ways.
    """
    if ignore_unknown is None:
        ignore_unknown = dialect is Dialect.FUSE_OVERLAYFS
    options = Options()
    for argument in arguments:
        for name, value in split_options(argument):
            if not _apply(options, name, value, dialect):
                _unknown(options, name, value, ignore_unknown)
    return options


def _apply(options: Options, name: str, value: str | None, dialect: Dialect) -> bool:
    """Whether the option is known."""
    if name in _DIRECTORIES:
        _DIRECTORIES[name](options, name, _demand_value(name, value))
    elif name in _SWITCHES and value is None:
        _set_switch(options, name, dialect)
    elif name in _SETTINGS:
        _set_value(options, name, _demand_value(name, value), dialect)
    elif name in _UNSUPPORTED:
        harmless, remedy = _UNSUPPORTED[name]
        if value not in harmless:
            raise OptionError(_as_written(name, value), "not supported", remedy)
    elif name in _ALWAYS_SO:
        _check_always_so(name, value)
    else:
        return _is_passed_over(name, dialect)
    return True


def _check_always_so(name: str, value: str | None) -> None:
    accepted = _ALWAYS_SO[name]
    if value not in accepted:
        words = [_as_written(name, each) for each in accepted]
        raise OptionError(_as_written(name, value), "bad value", f"write {' or '.join(words)}")


def _set_switch(options: Options, word: str, dialect: Dialect) -> None:
    name, on = _SWITCHES[word]
    # In fstab and from container engines a later word overrides an earlier one (``defaults,ro``, ``ro,…,rw``), as mount(8) has
    # it.
    if dialect is Dialect.UNIONFS and options.switches.get(name, on) is not on:
        raise OptionError(word, "contradicts an option before it", f"give either {' or '.join(_words_of(name))}")
    options.switches[name] = on


def _words_of(name: str) -> list[str]:
    return [word for word, (switch, _) in _SWITCHES.items() if switch == name]


def _set_value(options: Options, option: str, text: str, dialect: Dialect) -> None:
    name, convert = _SETTINGS[option]
    try:
        value = convert(text)
    except ValueError as error:
        raise OptionError(f"{option}={text}", "bad value", f"give {error}") from None
    if dialect is Dialect.UNIONFS and options.settings.get(name, value) != value:
        raise OptionError(f"{option}={text}", "contradicts an option before it", f"give {option} once")
    options.settings[name] = value


def _demand_value(name: str, value: str | None) -> str:
    if not value:
        raise OptionError(name, "has no value", f"write {name}=…")
    return value


def _add_lowers(options: Options, name: str, value: str) -> None:
    if options.lowers:
        raise OptionError(name, "given twice", "put all lowers into one lowerdir, with colons between them")
    try:
        lowers, data = split_lowers(value)
    except ValueError as error:
        remedy = "write a colon that is part of a name as \\:, two of them before each data-only layer"
        raise OptionError(f"{name}={value}", str(error), remedy) from None
    options.lowers = [Path(directory) for directory in lowers]
    options.data = [Path(directory) for directory in data]


def _add_lower(options: Options, _name: str, value: str) -> None:
    # Like the kernel's (fsconfig only there): no colon to escape, and more layers than one page of options holds.
    if options.data:
        raise OptionError(f"lowerdir+={value}", "a lower layer after a data-only one", "give all lower layers first")
    options.lowers.append(Path(unescape(value)))


def _add_data(options: Options, name: str, value: str) -> None:
    if not options.lowers:
        raise OptionError(f"{name}={value}", "a data-only layer before any lower layer", "give the lower layers first")
    options.data.append(Path(unescape(value)))


def _set_upper(options: Options, name: str, value: str) -> None:
    if options.upper is not None:
        raise OptionError(name, "given twice", "a union has one upper")
    options.upper = Path(unescape(value))


def _set_work(options: Options, name: str, value: str) -> None:
    if options.work is not None:
        raise OptionError(name, "given twice", "a union has one work directory")
    options.work = Path(unescape(value))


_DIRECTORIES: dict[str, Callable[[Options, str, str], None]] = {
    "lowerdir": _add_lowers,
    "lowerdir+": _add_lower,
    "datadir+": _add_data,
    "upperdir": _set_upper,
    "workdir": _set_work,
}


def _is_passed_over(name: str, dialect: Dialect) -> bool:
    if dialect is Dialect.UNIONFS:
        return False
    if name in _FSTAB or name.startswith(("x-", "X-")):
        return True
    return dialect is Dialect.FUSE_OVERLAYFS and (name in _TUNING or name in _PROPAGATION)


def _unknown(options: Options, name: str, value: str | None, ignore: bool) -> None:
    written = _as_written(name, value)
    if ignore:
        options.warnings.append(f"{written}: unknown option, ignored")
    elif name in _SWITCHES:
        raise OptionError(written, "takes no value", f"write {name}")
    else:
        raise OptionError(written, "unknown option", _suggestion(name))


def _suggestion(name: str) -> str:
    import difflib  # only here: it is not needed for a mount that succeeds

    known = [*_DIRECTORIES, *_SWITCHES, *_SETTINGS]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else "docs/commands.md lists all options"


def _as_written(name: str, value: str | None) -> str:
    return name if value is None else f"{name}={value}"
