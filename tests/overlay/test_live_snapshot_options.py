"""Snapshots with each option that changes what is on disk: what is seen stays, and a fresh mount of the layers shows the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.overlay.client import ROOT, Client, build
from tests.overlay.test_live_snapshot import Live, Memory
from tests.overlay.test_live_snapshot_merge import merge
from tests.overlay.test_live_snapshot_rollback import roll_back
from unionfs.overlay import Options
from unionfs.overlay.merge_layers import merge_snapshots

MATRIX = {
    "userxattr": Options(userxattr=True, fsync="volatile"),
    "userxattr,index=on": Options(userxattr=True, index="on", fsync="volatile"),
    "whiteout=dev": Options(whiteout="dev", fsync="volatile"),
    "whiteout=xattr": Options(whiteout="xattr", redirect_dir="follow", fsync="volatile"),
    "whiteout=xattr,userxattr": Options(whiteout="xattr", userxattr=True, fsync="volatile"),
    "whiteout=wh": Options(whiteout="wh", redirect_dir="follow", fsync="volatile"),
    "whiteout=wh,userxattr": Options(whiteout="wh", userxattr=True, fsync="volatile"),
    "fsync=strict": Options(fsync="strict", index="on"),
    "fsync=auto": Options(fsync="auto"),
    "metacopy,redirect": Options(metacopy=True, redirect_dir="on", index="on", fsync="volatile"),
    "metacopy,redirect,index=off": Options(metacopy=True, redirect_dir="on", index="off", fsync="volatile"),
    "metacopy,fsync=strict": Options(metacopy=True, redirect_dir="on", index="on", fsync="strict"),
    "redirect_dir=off": Options(redirect_dir="off", fsync="volatile"),
    "index=on": Options(index="on", fsync="volatile"),
    "ino32": Options(ino32=True, fsync="volatile"),
    "static_nlink": Options(static_nlink=True, fsync="volatile"),
}


def change(client: Client, generation: int) -> None:
    """Of each kind that every option allows; the names differ by ``generation``."""
    n = f"{generation}"
    client.write("f", b"upper" * generation)
    client.chmod("c", 0o600 + generation)
    client.write(f"new{n}", n.encode())
    client.mkdir(f"made{n}")
    client.write(f"made{n}/in", n.encode())
    client.chmod("d/x", 0o600 + generation)
    client.write("linked", n.encode())
    client.call(client.union.symlink, *client.place(f"d/link{n}"), n.encode(), ROOT)
    client.call(client.union.link, client.node(f"new{n}"), *client.place(f"d/second{n}"))
    client.unlink(f"gone{n}")
    client.unlink(f"opaque{n}/o")
    client.rmdir(f"opaque{n}")
    client.mkdir(f"opaque{n}")
    if generation > 1:
        client.unlink(f"made{generation - 1}/in")
        client.unlink(f"d/second{generation - 1}")
    if client.union._rename._redirects:
        client.rename(f"moves{n}", f"moved{n}")


@pytest.fixture(params=list(MATRIX))
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Live:
    files: dict[str, bytes | None] = {"f": b"lower", "c": b"chmod", "d/x": b"x", "linked": b"lower"}
    for n in range(1, 4):
        files |= {f"gone{n}": b"", f"opaque{n}/o": b"o", f"moves{n}/m": b"m"}
    lower = build(tmp_path / "lower", files)
    os.link(lower / "linked", lower / "d/other")
    return Live(tmp_path, [lower], MATRIX[request.param])


def settled(live: Live) -> dict[bytes, object]:
    """What is seen by a kernel that remembers nothing."""
    live.kernel = Memory(live.client)
    return live.seen()


def without_links(seen: dict[bytes, object]) -> dict[bytes, object]:
    return {path: record if isinstance(record, int) else (record[0][:3], *record[1:]) for path, record in seen.items()}  # type: ignore[index]


def test_take_roll_back_and_merge(live: Live) -> None:
    states = []
    for generation in (1, 2, 3):
        change(live.client, generation)
        states.append(settled(live))
        live.take(f"state{generation}")
        assert live.seen() == states[-1]
    live.assert_like_fresh_mount()
    live.client.write("f", b"latest")
    live.client.unlink("new3")
    latest = settled(live)
    kept = roll_back(live, "state1", force=True).kept
    assert kept is not None
    assert live.seen() == states[0]
    live.assert_like_fresh_mount()
    roll_back(live, kept.about.name, keeps=False, force=True)
    assert live.seen() == latest
    merge(live, 2, 1)
    assert live.seen() == latest
    assert without_links(settled(live)) == without_links(latest)
    live.union.close()
    live.open()
    assert without_links(live.seen()) == without_links(latest)
    live.union.close()
    merge_snapshots(live.snapshots, live.snapshots.below(live.upper), is_user=live.options.userxattr)
    live.open()
    assert without_links(live.seen()) == without_links(latest)
    assert len(live.union.lowers) == 2
    live.union.close()
