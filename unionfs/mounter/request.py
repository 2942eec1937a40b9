"""A `MountRequest`: all that a mount needs to know, with every default filled in and no contradiction left."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unionfs.linux.capabilities import CAP_SYS_ADMIN, has_capability, in_initial_user_namespace
from unionfs.mounter.errors import OptionError
from unionfs.mounter.options import Dialect, Options
from unionfs.overlay.options import Options as UnionOptions
from unionfs.overlay.options import OwnerOptions, RedirectDir

DEFAULT_MAX_INODES = 500_000
"""For most trees no bound at all; a daemon that has that many takes about 270 MB."""

DEFAULT_UNION = UnionOptions(index="auto", max_inodes=DEFAULT_MAX_INODES)
"""How a union behaves where nobody says otherwise."""


@dataclass(frozen=True)
class MountRequest:
    """One mount that somebody wants.  ``data`` are its data-only layers.

    ``lowers[0]`` is on top.  ``work`` is None with an upper where the user named none (`unionfs.mounter.checks` chooses it then).
    ``flags`` are words of mount(8) that differ from the kernel's defaults (``nosuid``, ``noatime``, ``sync``; ``ro`` has its own
    field). ``timeout`` is how long the kernel may remember names and attributes, in seconds (None: for ever); ``spin_us`` the
    time in microseconds that the direct transport busy-waits for a next request (None: its own choice);
    ``union`` is how the union itself behaves; ``marks_volatile``: with ``union.fsync`` volatile the work directory is marked, so
    that no later mount accepts it; ``log`` the file for warnings (None: `unionfs.mounter.log.default_log`); ``size``: bytes that
    the upper may take (None: any number).
    """

    mountpoint: Path
    lowers: tuple[Path, ...]
    upper: Path | None = None
    work: Path | None = None
    read_only: bool = False
    flags: frozenset[str] = frozenset()
    allow_other: bool = False
    allow_root: bool = False
    source: str = "unionfs"
    transport: str = "direct"
    data_path: str = "auto"
    stack_depth: int | None = None
    spin_us: int | None = None
    timeout: float | None = None
    union: UnionOptions = DEFAULT_UNION
    marks_volatile: bool = False
    log: Path | None = None
    data: tuple[Path, ...] = ()
    size: int | None = None


def build_request(
    options: Options,
    mountpoint: Path,
    *,
    dialect: Dialect = Dialect.UNIONFS,
    lowers: Sequence[Path] = (),
    data: Sequence[Path] = (),
    upper: Path | None = None,
    work: Path | None = None,
) -> MountRequest:
    """The request that ``options`` and the directories given beside them (``-l``, ``--data``, ``-u``, ``-w``) make up.

    Raises:
        OptionError: a directory is given in both ways, there is no lower, or options contradict each other.
    """
    if lowers and options.lowers:
        raise OptionError("lowerdir", "given both as -l and in -o", "give the lowers in one of the two ways")
    if data and options.data:
        raise OptionError("datadir+", "given both as --data and in -o", "give the data-only layers in one of the two ways")
    all_lowers = tuple(lowers or options.lowers)
    if not all_lowers:
        raise OptionError("lowerdir", "no lower layer given", "give at least one: -l DIRECTORY or -o lowerdir=DIRECTORY")
    the_upper = _one_of("upperdir", "-u", upper, options.upper)
    the_work = _one_of("workdir", "-w", work, options.work)
    if the_work and not the_upper:
        raise OptionError("workdir", "given without an upper", "add the upper (-u, upperdir), or leave the work directory out")
    _refuse_contradictions(options, has_upper=the_upper is not None, dialect=dialect)
    if "size" in options.settings:
        _refuse_unlimitable(options, has_upper=the_upper is not None)

    switches = {**_default_switches(dialect), **options.switches}
    if switches.get("allow_root"):
        # Both given were refused above, so that is root's default, which would let everybody in.
        switches["allow_other"] = False
    settings = dict(options.settings)
    union = _union_options(switches, settings, dialect)
    return MountRequest(
        mountpoint=mountpoint,
        lowers=all_lowers,
        data=tuple(data or options.data),
        upper=the_upper,
        work=the_work,
        read_only=switches.get("ro", False) or the_upper is None,
        flags=_flags(switches),
        allow_other=switches.get("allow_other", False),
        allow_root=switches.get("allow_root", False),
        union=union,
        # fuse-overlayfs makes no mark, and engines mount the same volatile layer again and again.
        marks_volatile=union.fsync == "volatile" and dialect is not Dialect.FUSE_OVERLAYFS,
        **settings,
    )


def _one_of(option: str, flag: str, from_flag: Path | None, from_option: Path | None) -> Path | None:
    if from_flag and from_option:
        raise OptionError(option, f"given both as {flag} and in -o", "give it once")
    return from_flag or from_option


def _refuse_contradictions(options: Options, *, has_upper: bool, dialect: Dialect) -> None:
    switches, settings = options.switches, options.settings
    if settings.get("transport") == "pyfuse3" and settings.get("data_path") == "passthrough":
        raise OptionError(
            "data_path=passthrough", "not possible with transport=pyfuse3", "choose transport=direct or data_path=auto"
        )
    if switches.get("allow_other") and switches.get("allow_root"):
        raise OptionError("allow_root", "contradicts allow_other", "give one of the two")
    if switches.get("userxattr") and settings.get("redirect_dir") in ("on", "follow"):
        raise OptionError(
            "redirect_dir", "contradicts userxattr: any owner of a file could forge one", "leave one of the two out"
        )
    if settings.get("metacopy") and (switches.get("userxattr") or settings.get("redirect_dir", "on") != "on"):
        raise OptionError("metacopy=on", "needs redirect_dir=on and no userxattr", "change these, or leave metacopy out")
    if switches.get("volatile") and settings.get("fsync", "volatile") != "volatile":
        raise OptionError("volatile", f"contradicts fsync={settings['fsync']}", "give one of the two")
    # mount(8) and container engines write rw whether they know of an upper or not; a person who writes it expects to be able to
    # write.
    if dialect is Dialect.UNIONFS and switches.get("ro") is False and not has_upper:
        raise OptionError("rw", "contradicts a union without an upper", "add an upper (-u, upperdir), or leave rw out")


def _refuse_unlimitable(options: Options, *, has_upper: bool) -> None:
    if not has_upper or options.switches.get("ro"):
        remedy = "add an upper (-u, upperdir) without ro, or leave size out"
        raise OptionError("size", "there is no writable layer to limit", remedy)


def _union_options(switches: dict[str, bool], settings: dict[str, Any], dialect: Dialect) -> UnionOptions:
    """Takes what it uses out of ``settings``."""
    metacopy = settings.pop("metacopy", False)
    noxattrs = settings.pop("noxattrs", False)  # both a word and an option with a value, which may be given side by side
    userxattr = switches.get("userxattr", not may_write_trusted_xattrs())
    if metacopy and userxattr:
        problem = "not possible with userxattr, the default of users"
        raise OptionError("metacopy=on", problem, "run as root, or leave metacopy out")
    return UnionOptions(
        redirect_dir=settings.pop("redirect_dir", "on" if metacopy else _default_redirect_dir(dialect)),
        userxattr=userxattr,
        metacopy=metacopy,
        index=settings.pop("index", "off" if dialect is Dialect.FUSE_OVERLAYFS else DEFAULT_UNION.index),
        fsync=settings.pop("fsync", "volatile" if switches.get("volatile") else "auto"),
        owners=_owners(switches, settings, dialect),
        acl=switches.get("acl", True),
        xattrs=not (noxattrs or switches.get("noxattrs", False)),
        static_nlink=switches.get("static_nlink", False),
        ino32=switches.get("ino32_t", False),
        max_inodes=settings.pop("max_inodes", DEFAULT_MAX_INODES),
        whiteout=settings.pop("whiteout", "auto"),
    )


def _owners(switches: dict[str, bool], settings: dict[str, Any], dialect: Dialect) -> OwnerOptions:
    """Takes what it uses out of ``settings``."""
    squash = 0 if switches.get("squash_to_root") else None
    return OwnerOptions(
        settings.pop("uids", ()),
        settings.pop("gids", ()),
        settings.pop("squash_uid", squash),
        settings.pop("squash_gid", squash),
        settings.pop("overrides", "none"),
        # fuse-overlayfs always looks.  Elsewhere nobody shall become root by an attribute that whoever mounts knows nothing of.
        detects_overrides=dialect is Dialect.FUSE_OVERLAYFS,
    )


def _default_redirect_dir(dialect: Dialect) -> RedirectDir:
    # Container engines make a layer of the upper directory alone, where a redirected directory is not all there is of it.  For
    # the same reason they get no index: it is in the work directory.
    return "off" if dialect is Dialect.FUSE_OVERLAYFS else "on"


def may_write_trusted_xattrs() -> bool:
    """Whether this process may: without that right a mount has ``userxattr`` by default."""
    # fs/xattr.c, xattr_permission: capable(), which is about the initial user namespace.
    return may_administer()


def may_administer() -> bool:
    """Whether this process is root of the machine, as far as the kernel asks (CAP_SYS_ADMIN in the initial user namespace)."""
    return in_initial_user_namespace() and has_capability(CAP_SYS_ADMIN)


def _default_switches(dialect: Dialect) -> dict[str, bool]:
    is_root = os.geteuid() == 0
    if dialect is Dialect.FUSE_OVERLAYFS:
        # fuse-overlayfs 1.10, main.c: noatime for all; root also suid and allow_other; libfuse adds nodev (and nosuid) where
        # nobody said dev.
        return {"atime": False, "dev": False, "suid": is_root, **({"allow_other": True} if is_root else {})}
    if is_root:
        return {"allow_other": True}
    # fusermount3 forces both on users; said here, the options that are shown are those that hold.
    return {"dev": False, "suid": False}


_ON_BY_DEFAULT = ("suid", "dev", "exec", "atime", "diratime")
_OFF_BY_DEFAULT = ("sync", "dirsync", "relatime", "strictatime")


def _flags(switches: dict[str, bool]) -> frozenset[str]:
    off = {f"no{name}" for name in _ON_BY_DEFAULT if switches.get(name) is False}
    return frozenset(off | {name for name in _OFF_BY_DEFAULT if switches.get(name)})
