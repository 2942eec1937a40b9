"""From mount to umount, on both transports, with real mounts."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import stat
from pathlib import Path

from tests.cli.conftest import BIN, TIMEOUT, Layers, Programs, make_layers
from tests.mounts import is_mounted
from tests.programs import run, wait_until
from unionfs.linux.mount import MS_REMOUNT, mount
from unionfs.mounter.processes import is_running, start_time, wait_for_end


def test_mount_use_and_umount(programs: Programs, layers: Layers, transport: str) -> None:
    programs.unionfs("mount", "--transport", transport, *layers.arguments)
    merged = layers.merged
    assert sorted(path.name for path in merged.iterdir()) == ["base", "both"]
    assert (merged / "both").read_text() == "top\n"
    (merged / "base").write_text("changed\n")
    (merged / "both").unlink()
    programs.unionfs("umount", merged)
    assert not is_mounted(merged)
    assert (layers.upper / "base").read_text() == "changed\n"
    assert stat.S_ISCHR((layers.upper / "both").lstat().st_mode)
    assert (layers.base / "base").read_text() == "base\n"


def test_the_second_mount_shows_what_the_first_one_left(programs: Programs, layers: Layers, transport: str) -> None:
    for content in ("one", "two"):
        programs.unionfs("mount", "--transport", transport, *layers.arguments)
        with (layers.merged / "log").open("a") as file:
            file.write(content)
        programs.unionfs("umount", layers.merged)
    assert (layers.upper / "log").read_text() == "onetwo"


def test_ls_and_status_of_a_mount(programs: Programs, layers: Layers, transport: str) -> None:
    programs.unionfs("mount", "--transport", transport, *layers.arguments)
    (layers.merged / "both").read_text()
    (listed,) = programs.ls()
    assert listed["state"] == "mounted"
    assert listed["mountpoint"] == str(layers.merged)
    assert listed["lowers"] == [str(layers.top), str(layers.base)]
    assert listed["transport"] == transport
    status = json.loads(programs.unionfs("status", "--json", layers.merged))
    del listed["remedy"]
    assert {name: status[name] for name in listed} == listed
    assert status["negotiated"]["transport"] == transport
    assert status["requests"]["lookup"] >= 1
    assert status["requests"]["failures"] == 0
    assert status["union"]["layers"] == 3
    shown = dict(line.split(maxsplit=1) for line in programs.unionfs("status", layers.merged).splitlines())
    assert shown["merged:"] == str(layers.merged)
    assert shown["state:"] == "mounted, writable"
    assert shown["lower[1]:"] == str(layers.base)
    assert str(layers.merged) in programs.unionfs("ls")
    programs.unionfs("umount", layers.merged)
    assert programs.ls() == []


def test_explain_tells_where_things_come_from(programs: Programs, layers: Layers, transport: str) -> None:
    programs.unionfs("mount", "--transport", transport, *layers.arguments)
    merged = layers.merged
    (merged / "base").write_text("changed\n")
    (merged / "both").unlink()
    (merged / "new").touch()
    (merged / "link").symlink_to("base")
    lines = programs.unionfs("explain", *(merged / name for name in ("base", "both", "new", "link", "missing"))).splitlines()
    assert lines == [
        f"{merged}/base: file from upper ({layers.upper}/base), copied up",
        f"  hides file in lower[1] ({layers.base}/base)",
        f"{merged}/both: deleted, by a whiteout in upper ({layers.upper}/both)",
        f"  hides file in lower[0] ({layers.top}/both)",
        f"  hides file in lower[1] ({layers.base}/both)",
        f"{merged}/new: file from upper ({layers.upper}/new)",
        f"{merged}/link: symbolic link from upper ({layers.upper}/link)",
        f"{merged}/missing: in no layer",
    ]
    (root,) = json.loads(programs.unionfs("explain", "--json", merged))
    assert (root["path"], root["type"], root["merged"]) == ("", "d", ["upper", "lower[0]", "lower[1]"])
    programs.unionfs("umount", merged)


def test_explain_follows_links_into_the_union(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    (layers.base / "dir").mkdir()
    (layers.base / "dir/file").touch()
    (tmp_path / "way").symlink_to(layers.merged / "dir")
    (tmp_path / "root").symlink_to(layers.merged)
    programs.unionfs("mount", *layers.arguments)
    explained = json.loads(programs.unionfs("explain", "--json", tmp_path / "way/file", tmp_path / "way", tmp_path / "root"))
    assert [answer["path"] for answer in explained] == ["dir/file", "dir", ""]
    programs.unionfs("umount", layers.merged)


def test_names_that_are_not_utf8_go_through_every_command(programs: Programs, tmp_path: Path) -> None:
    layers = make_layers(tmp_path / os.fsdecode(b"\xff\n"))
    programs.unionfs("mount", *layers.arguments)
    (listed,) = programs.ls()
    assert listed["mountpoint"] == str(layers.merged)
    assert "\\xff\\x0a/merged" in programs.unionfs("ls")
    assert "\\xff\\x0a/top/both" in programs.unionfs("explain", layers.merged / "both")
    programs.unionfs("status", layers.merged)
    programs.unionfs("umount", layers.merged)


def test_data_only_layers_are_shown(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "content").write_text("data\n")
    for name, path in (("found", b"/content"), ("missing", b"/none")):
        (layers.base / name).write_bytes(bytes(5))
        os.setxattr(layers.base / name, "trusted.overlay.metacopy", b"")
        os.setxattr(layers.base / name, "trusted.overlay.redirect", path)
    programs.unionfs("mount", "--data", data, *layers.arguments)
    assert (layers.merged / "found").read_text() == "data\n"
    assert f"data[0]:  {data}" in re.sub(" +", "  ", programs.unionfs("status", layers.merged))
    explained = programs.unionfs("explain", layers.merged / "found", layers.merged / "missing")
    assert f"  its data is in data[0] ({data}/content)\n" in explained
    assert "  its data is missing: no data-only layer has /none\n" in explained
    programs.unionfs("umount", layers.merged)


def test_two_mounts_share_their_lowers(programs: Programs, tmp_path: Path, transport: str) -> None:
    one = make_layers(tmp_path / "one")
    two = make_layers(tmp_path / "two")
    two = two._replace(top=one.top, base=one.base)
    for layers in (one, two):
        programs.unionfs("mount", "--transport", transport, *layers.arguments)
    (one.merged / "both").write_text("one\n")
    assert (two.merged / "both").read_text() == "top\n"
    assert [mount["mountpoint"] for mount in programs.ls()] == [str(one.merged), str(two.merged)]
    programs.unionfs("umount", one.merged, two.merged)
    assert programs.ls() == []


def test_read_only_union_needs_no_upper(programs: Programs, layers: Layers, transport: str) -> None:
    programs.unionfs("mount", "--transport", transport, "-o", f"lowerdir={layers.top}:{layers.base}", layers.merged)
    assert (layers.merged / "both").read_text() == "top\n"
    assert os.statvfs(layers.merged).f_flag & os.ST_RDONLY
    programs.unionfs("umount", layers.merged)


def test_ro_shows_the_upper_and_makes_nothing_in_or_beside_it(programs: Programs, layers: Layers) -> None:
    (layers.upper / "mine").write_text("upper\n")
    before = sorted(layers.upper.parent.rglob("*"))
    programs.unionfs("mount", "--read-only", *layers.arguments)
    assert (layers.merged / "mine").read_text() == "upper\n"
    programs.unionfs("umount", layers.merged)
    assert [path for path in sorted(layers.upper.parent.rglob("*")) if programs.registry not in (path, *path.parents)] == before


def test_mount_flags_reach_the_kernel(programs: Programs, layers: Layers) -> None:
    programs.unionfs("mount", "-o", "nosuid,nodev,noexec,fsname=my union", *layers.arguments)
    flags = os.statvfs(layers.merged).f_flag
    assert flags & os.ST_NOSUID
    assert flags & os.ST_NODEV
    assert flags & os.ST_NOEXEC
    assert "my\\040union" in Path("/proc/self/mounts").read_text()
    programs.unionfs("umount", layers.merged)


def test_default_work_directory_is_made_and_removed_again(programs: Programs, layers: Layers) -> None:
    work = layers.upper.with_name(".upper.work")
    programs.unionfs("mount", *layers.arguments)
    assert stat.S_IMODE(work.stat().st_mode) == 0o700
    programs.unionfs("umount", layers.merged)
    assert not work.exists()


def test_a_work_directory_of_the_user_stays(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    programs.unionfs("mount", "-w", tmp_path / "work", *layers.arguments)
    programs.unionfs("umount", layers.merged)
    assert (tmp_path / "work").is_dir()


def test_the_callers_umask_counts_not_that_of_whoever_mounted(programs: Programs, layers: Layers, transport: str) -> None:
    previous = os.umask(0o077)
    try:
        programs.unionfs("mount", "--transport", transport, *layers.arguments)
        os.umask(0o002)
        (layers.merged / "new").touch()
    finally:
        os.umask(previous)
    assert stat.S_IMODE((layers.merged / "new").stat().st_mode) == 0o664
    programs.unionfs("umount", layers.merged)


def test_daemon_forgets_what_the_kernel_forgets(programs: Programs, layers: Layers, transport: str) -> None:
    for number in range(300):
        (layers.base / f"d{number}").mkdir()
        (layers.base / f"d{number}/f").touch()

    def inodes() -> int:
        count: int = json.loads(programs.unionfs("status", "--json", layers.merged))["union"]["inodes"]
        return count

    programs.unionfs("mount", "--transport", transport, *layers.arguments)
    at_first = inodes()
    assert sum(path.is_file() for path in layers.merged.rglob("f")) == 300
    assert inodes() >= at_first + 600
    # Makes the kernel drop all names of this filesystem that are not in use (reconfigure_super()).
    mount(b"none", bytes(layers.merged), b"none", MS_REMOUNT, b"")
    wait_until(lambda: inodes() <= at_first + 1)
    programs.unionfs("umount", layers.merged)


# -- the daemon -------------------------------------------------------------------------------------------------------------


def test_the_daemon_keeps_no_standard_stream_and_no_directory(programs: Programs, layers: Layers, transport: str) -> None:
    reader, writer = os.pipe()
    command = [BIN / "unionfs", "mount", "--transport", transport, *layers.arguments]
    run(command, environment=programs.environment, stdout=writer, stderr=writer, cwd=layers.upper)
    os.close(writer)
    # The end of file comes only when nobody has the pipe open any more.
    assert select.select([reader], [], [], TIMEOUT)[0]
    assert os.read(reader, 1) == b""
    os.close(reader)
    pid = programs.daemon_of(layers.merged)
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert {Path(f"/proc/{pid}/fd/{stream}").readlink() for stream in (0, 1, 2)} == {Path("/dev/null")}
    assert os.getsid(pid) == pid
    programs.unionfs("umount", layers.merged)


def test_umount_returns_when_the_daemon_has_ended_and_the_upper_is_free(
    programs: Programs, layers: Layers, transport: str
) -> None:
    programs.unionfs("mount", "--transport", transport, *layers.arguments)
    pid = programs.daemon_of(layers.merged)
    started = start_time(pid)
    assert started is not None
    programs.unionfs("umount", layers.merged)
    assert not is_running(pid, started)
    assert list(programs.registry.iterdir()) == []
    fd = os.open(layers.upper, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)


def test_umount8_ends_the_daemon_as_well(programs: Programs, layers: Layers, transport: str) -> None:
    programs.unionfs("mount", "--transport", transport, *layers.arguments)
    pid = programs.daemon_of(layers.merged)
    started = start_time(pid)
    assert started is not None
    run(["umount", layers.merged])
    assert wait_for_end(pid, started, TIMEOUT)
    assert programs.ls() == []


def test_sigterm_unmounts_and_ends_the_daemon(programs: Programs, layers: Layers, transport: str) -> None:
    programs.unionfs("mount", "--transport", transport, *layers.arguments)
    (layers.merged / "unsynced").write_text("x" * 100_000)
    pid = programs.daemon_of(layers.merged)
    started = start_time(pid)
    assert started is not None
    os.kill(pid, signal.SIGTERM)
    assert wait_for_end(pid, started, TIMEOUT)
    assert not is_mounted(layers.merged)
    assert (layers.upper / "unsynced").stat().st_size == 100_000
    assert list(programs.registry.iterdir()) == []


def test_a_busy_mount_is_not_unmounted_but_lazily(programs: Programs, layers: Layers, transport: str) -> None:
    programs.unionfs("mount", "--transport", transport, *layers.arguments)
    pid = programs.daemon_of(layers.merged)
    started = start_time(pid)
    assert started is not None
    with (layers.merged / "new").open("w+") as file:
        assert "is in use" in programs.refusal("umount", layers.merged)
        ended = programs.run("unionfs", "umount", "-l", layers.merged)
        assert ended.status == 0
        assert ended.stderr == f"{layers.merged}: still in use; process {pid} serves it until its last user has gone\n"
        assert not is_mounted(layers.merged)
        assert [mount["state"] for mount in programs.ls()] == ["detached"]
        file.write("still served")
        file.flush()
        file.seek(0)
        assert file.read() == "still served"
    assert wait_for_end(pid, started, TIMEOUT)
    assert (layers.upper / "new").read_text() == "still served"


def test_a_killed_daemon_is_listed_as_dead_and_umount_cleans_up(programs: Programs, layers: Layers, transport: str) -> None:
    programs.unionfs("mount", "--transport", transport, *layers.arguments)
    pid = programs.daemon_of(layers.merged)
    started = start_time(pid)
    assert started is not None
    os.kill(pid, signal.SIGKILL)
    assert wait_for_end(pid, started, TIMEOUT)
    (listed,) = programs.ls()
    assert (listed["state"], listed["remedy"]) == ("dead", f"unionfs umount {layers.merged}")
    assert f"unionfs umount {layers.merged}" in programs.unionfs("ls")
    assert "is dead; clean up with: unionfs umount" in programs.refusal("status", layers.merged)
    assert "is dead; clean up with: unionfs umount" in programs.refusal("explain", layers.merged / "both")
    assert "a union is mounted there already" in programs.refusal("mount", *layers.arguments)
    programs.unionfs("umount", layers.merged)
    assert not is_mounted(layers.merged)
    assert programs.ls() == []
    programs.unionfs("mount", *layers.arguments)
    programs.unionfs("umount", layers.merged)


# -- foreground -------------------------------------------------------------------------------------------------------------


def test_ctrl_c_unmounts_a_foreground_mount(programs: Programs, layers: Layers, transport: str) -> None:
    with programs.foreground("--transport", transport, *layers.arguments) as process:
        assert (layers.merged / "both").read_text() == "top\n"
        assert programs.daemon_of(layers.merged) == process.pid
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert not is_mounted(layers.merged)
    assert programs.ls() == []


def test_a_foreground_mount_ends_well_when_it_is_unmounted(programs: Programs, layers: Layers, transport: str) -> None:
    with programs.foreground("--transport", transport, *layers.arguments) as process:
        run(["umount", layers.merged])
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_second_signal_ends_a_mount_that_is_in_use(programs: Programs, layers: Layers, transport: str) -> None:
    with programs.foreground("--transport", transport, *layers.arguments) as process:
        # O_PATH: in use, but nothing to say to the server when it is closed.
        fd = os.open(layers.merged / "both", os.O_PATH)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_mounted(layers.merged))
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT)
        os.close(fd)
    assert process.returncode == 0


def test_a_signal_that_the_shell_ignores_is_ignored(programs: Programs, layers: Layers) -> None:
    with programs.foreground(*layers.arguments, prefix=["nohup"]) as process:
        status = Path(f"/proc/{process.pid}/status").read_text()
        (ignored,) = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn:")]
        assert ignored >> (signal.SIGHUP - 1) & 1
        process.terminate()
    assert process.returncode == 0


def test_layers_on_overlayfs_are_read_past_us_all_the_same(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    below = {name: tmp_path / "below" / name for name in ("upper", "work", "merged")}
    for directory in below.values():
        directory.mkdir(parents=True)
    options = f"lowerdir={layers.top}:{layers.base},upperdir={below['upper']},workdir={below['work']}"
    run(["mount", "-t", "overlay", "-o", options, "overlay", below["merged"]])
    try:
        programs.unionfs("mount", "-l", below["merged"], "-u", layers.upper, layers.merged)
        assert (layers.merged / "base").read_text() == "base\n"
        status = json.loads(programs.unionfs("status", "--json", layers.merged))
        assert (status["negotiated"]["stack_depth"], status["requests"]["backing_refused"]) == (2, 0)
        programs.unionfs("umount", layers.merged)
    finally:
        run(["umount", below["merged"]])
