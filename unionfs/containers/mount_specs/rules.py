"""What is refused in all of the grammars of mounts, and says what was expected."""

from __future__ import annotations

import posixpath

from unionfs.containers.mount_specs.spec import Kind, MountSpec
from unionfs.store.errors import wrong_usage
from unionfs.volumes.names import check_name


def clean_target(text: str, option: str) -> str:
    """``text`` as the normal form of an absolute path that is not the root.

    Raises:
        StoreError: it is none (exit status 2).
    """
    if "\0" in text or not text.startswith("/"):
        raise wrong_usage(option, f"the target {text!r} is not an absolute path", "give the path in the container from / on")
    # normpath keeps two leading slashes, which mean nothing here.
    target = "/" + posixpath.normpath(text).lstrip("/")
    if target == "/":
        raise wrong_usage(option, "the target is /", "mount on a directory below it")
    return target


def clean_source(text: str, option: str) -> str:
    """The source of a bind in its normal form.

    Raises:
        StoreError: it is not absolute (exit status 2).
    """
    if "\0" in text or not text.startswith("/"):
        raise wrong_usage(option, f"the source {text!r} is not an absolute path", "give the host's path from / on")
    return "/" + posixpath.normpath(text).lstrip("/")


def checked(spec: MountSpec, option: str) -> MountSpec:
    """``spec``, if its parts go together.

    Raises:
        StoreError: they do not (exit status 2).
    """
    if spec.kind is Kind.VOLUME:
        _check_volume(spec, option)
    return spec


def _check_volume(spec: MountSpec, option: str) -> None:
    if spec.source is not None:
        check_name(spec.source)
    elif spec.subpath is not None:
        raise wrong_usage(option, "a subpath of an anonymous volume, which is empty", "name the volume (source=NAME)")
    if spec.subpath is not None and not _is_local(spec.subpath):
        raise wrong_usage(
            option, f"the subpath {spec.subpath!r} leaves the volume", "give a relative path inside the volume, without .."
        )


def _is_local(path: str) -> bool:
    """As Go's filepath.IsLocal: relative, not empty, and never above where it begins."""
    return bool(path) and "\0" not in path and not path.startswith("/") and posixpath.normpath(path).split("/")[0] != ".."
