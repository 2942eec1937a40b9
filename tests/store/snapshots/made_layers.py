"""Directories in layer format, made by hand."""

from __future__ import annotations

import os
import stat
from pathlib import Path

PRIVATE = "trusted.overlay."


def whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, 0)


def opaque(directory: Path) -> None:
    os.setxattr(directory, f"{PRIVATE}opaque", b"y")


def base(layer: Path) -> None:
    """A lowest layer with one of everything."""
    (layer / "etc").mkdir()
    (layer / "etc/hostname").write_text("base")
    (layer / "etc/passwd").write_text("root")
    (layer / "etc/conf.d").mkdir(mode=0o750)
    for name in ("one", "two", "three"):
        (layer / "etc/conf.d" / name).write_text(name)
    (layer / "data").mkdir()
    for name in ("kept", "hidden", "replaced"):
        (layer / "data" / name).write_text(name * 1000)
    (layer / "data/deep/er").mkdir(parents=True)
    (layer / "data/deep/er/file").write_text("deep")
    (layer / "links").mkdir()
    (layer / "links/first").write_text("linked")
    os.link(layer / "links/first", layer / "links/second")
    (layer / "links/symbolic").symlink_to("../etc/hostname")
    (layer / "bin").mkdir()
    (layer / "bin/su").write_text("#!")
    os.chown(layer / "bin/su", 1, 2)
    (layer / "bin/su").chmod(0o6755)
    os.setxattr(layer / "bin/su", "user.note", b"\x00binary")
    os.setxattr(layer / "bin/su", f"{PRIVATE}overlay.nested", b"inner")
    os.mknod(layer / "bin/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(layer / "bin/pipe", 0o640)
    with open(layer / "data/sparse", "wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    for path in layer.rglob("*"):
        os.utime(path, ns=(10**18, 10**18 + 5), follow_symlinks=False)
    layer.chmod(0o751)
    os.chown(layer, 3, 4)


def patch(layer: Path) -> None:
    """A layer over `base` that hides and replaces."""
    (layer / "etc").mkdir()
    (layer / "etc/hostname").write_text("patched")
    whiteout(layer / "etc/passwd")
    (layer / "etc/conf.d").mkdir()
    opaque(layer / "etc/conf.d")
    (layer / "etc/conf.d/four").write_text("four")
    (layer / "data").mkdir()
    (layer / "data/replaced").mkdir()
    (layer / "data/replaced/inside").write_text("was a file")
    whiteout(layer / "data/hidden")
    (layer / "data/deep").write_text("was a directory")


def again(layer: Path) -> None:
    """A third layer: what the second one hid is there again."""
    (layer / "data/deep").mkdir(parents=True)
    (layer / "data/deep/new").write_text("again a directory")
    (layer / "etc").mkdir()
    (layer / "etc/passwd").write_text("again")
    os.setxattr(layer / "etc", f"{PRIVATE}opaque", b"x")
    (layer / "etc/hostname").touch()
    os.setxattr(layer / "etc/hostname", f"{PRIVATE}whiteout", b"y")
    whiteout(layer / "never-was-there")
