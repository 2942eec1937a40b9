"""Containers of a user who is not root, in a user namespace that the commands make and share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.rootless_user import User
from tests.mounts import UNIONFS

_NEEDED = ("runc", "newuidmap")


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    if os.geteuid() != 0 or any(shutil.which(name) is None for name in _NEEDED) or not Path("/bin/busybox").exists():
        pytest.skip(f"rootless containers are tested by root, with {', '.join(_NEEDED)} and busybox-static")
    one = User(tmp_path / "home")
    yield one
    one.end_all()


IMPORT = "unionfs image import base.tar app >/dev/null\n"


# -- run ----------------------------------------------------------------------------------------------------------------------


def test_run_prints_and_ends_as_the_program_does_and_leaves_nothing(user: User) -> None:
    script = """
        unionfs run --rm app id -u
        unionfs run --rm app sh -c 'echo out; exit 7' || echo $?
        echo in | unionfs run --rm -i app cat
        unionfs run --rm app /absent 2>/dev/null || echo $?
        unionfs run --rm app /plain 2>/dev/null || echo $?
        left
    """
    assert user.ok(IMPORT + script).split() == ["0", "out", "7", "in", "127", "126"]


def test_owners_of_the_image_are_seen_inside_and_can_be_given(user: User) -> None:
    script = """
        unionfs run --rm app sh -c 'stat -c "%n %u:%g %a" /bin /owned; touch /new; chown 7:8 /new; stat -c %u:%g /new'
    """
    assert user.ok(IMPORT + script).splitlines() == ["/bin 0:0 755", "/owned 1000:50 640", "7:8"]


@pytest.mark.parametrize("runtime", ["runc", "crun"])
@pytest.mark.parametrize("network", ["host", "none"])
def test_both_runtimes_run_with_either_network(user: User, runtime: str, network: str) -> None:
    if shutil.which(runtime) is None:
        pytest.skip(f"{runtime} is not installed")
    inside = "id; ls -d /sys/class/net/lo; ls /sys/class/net | wc -l"
    script = f"unionfs run --rm --runtime {runtime} --network {network} -u alice app sh -c '{inside}'"
    who, loopback, interfaces = user.ok(IMPORT + script).splitlines()
    assert who.startswith("uid=1000(alice) gid=1000(alice) groups=50(staff),1000(alice)")
    assert loopback == "/sys/class/net/lo"
    there = 1 if network == "none" else len(os.listdir("/sys/class/net"))
    assert int(interfaces) == there


def test_store_and_containers_are_in_the_users_data_home_whatever_the_working_directory(user: User) -> None:
    script = """
        mkdir work && cd work
        unionfs image import ../base.tar app >/dev/null
        unionfs run --rm app true
        unionfs image ls --json | query "each['names'][0]"
        test -f $XDG_DATA_HOME/unionfs/store.db && stat -c %U $XDG_DATA_HOME/unionfs
    """
    assert user.ok(script).split() == ["app:latest", "nobody"]


def test_terminal_is_handed_over(user: User) -> None:
    script = """
        script -qec 'unionfs run --rm -it app sh -c "test -t 0 && test -t 1 && echo terminal"' /dev/null </dev/null
    """
    assert "terminal" in user.ok(IMPORT + script)


# -- containers in the background -----------------------------------------------------------------------------------------------


def test_containers_in_the_background_are_seen_entered_and_stopped(user: User) -> None:
    script = """
        unionfs run -d --name web app sh -c 'echo started; trap "exit 3" TERM; while :; do sleep 0.02; done' >/dev/null
        until unionfs logs web | grep started; do :; done
        unionfs ps --json | query "each['name'], each['state']"
        unionfs exec web sh -c 'echo inside > /new; cat /new'
        unionfs exec -u alice web id -u
        unionfs exec web sh -c 'exit 5' || echo $?
        unionfs diff web
        unionfs stop web
        unionfs ps -a --json | query "each['state'], each['exit_code']"
        unionfs rm web
        left
    """
    assert user.ok(IMPORT + script).splitlines() == [
        "started",
        "web running",
        "inside",
        "1000",
        "5",
        "A /new",
        "web",
        "exited 3",
        "web",
    ]


def test_two_containers_never_see_each_others_changes_or_processes(user: User) -> None:
    script = """
        for name in one two; do unionfs run -d --name $name app sleep 600 >/dev/null; done
        unionfs exec one sh -c 'echo one > /mine; rm /owned'
        unionfs exec two sh -c 'ls /mine; ls /owned; ps | wc -l' 2>/dev/null
        unionfs diff one
        unionfs diff two
        unionfs rm -f one two
        left
    """
    heard = user.ok(IMPORT + script).splitlines()
    assert heard[0] == "/owned"
    assert int(heard[1]) <= 5  # its first one, those of this exec, the heading
    assert heard[2:] == ["A /mine", "D /owned", "one", "two"]


def test_commands_that_begin_at_once_share_one_namespace(user: User) -> None:
    script = """
        for name in one two three; do unionfs run -d --name $name app sleep 600 >/dev/null & done
        wait
        for name in one two three; do readlink /proc/$(first $name)/ns/user; done | sort -u | wc -l
        for name in one two three; do unionfs exec $name true; done
        unionfs rm -f one two three >/dev/null
        left
    """
    assert user.ok(IMPORT + script).split() == ["1"]


# -- kills ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["union", "overlay", "copy"])
def test_killed_monitor_is_cleaned_up_by_the_next_command_and_changes_are_kept(user: User, driver: str) -> None:
    script = """
        unionfs run -d --name web app sleep 600 >/dev/null
        unionfs exec web rm /owned
        first=$(first web)
        kill -9 $(monitor web)
        unionfs ps -a --json | query "each['state'], each['exit_code']"
        gone $first
        unionfs diff web
        unionfs commit web app:2 >/dev/null
        unionfs rm web
        left
        unionfs run --rm app:2 ls /owned 2>/dev/null || echo deleted
    """
    assert user.ok(IMPORT + script, UNIONFS_DRIVER=driver).splitlines() == ["exited 137", "D /owned", "web", "deleted"]


def test_container_of_another_user_id_is_ended_after_monitor_and_daemon_were_killed(user: User) -> None:
    # Nobody is left in the mount namespace then, and only root of the same user namespace may kill what runs as 1000 in it.
    script = """
        unionfs run -d --name web -u alice app sleep 600 >/dev/null
        first=$(first web)
        daemon=$(daemons)
        kill -9 $(monitor web) $daemon
        gone $daemon
        unionfs ps -a --json | query "each['state'], each['exit_code']"
        gone $first
        unionfs rm web
        left
    """
    assert user.ok(IMPORT + script).splitlines() == ["exited 137", "web"]


def test_container_is_reached_after_the_runtime_directory_was_taken_away(user: User) -> None:
    # logind removes it with the last session, and makes it anew for the next one.
    script = """
        unionfs run -d --name web -u alice app sleep 600 >/dev/null
        rm -r run
        unionfs exec web id -u
        unionfs rm -f web
        left
    """
    assert user.ok(IMPORT + script).split() == ["1000", "web"]


def test_killed_command_in_the_foreground_takes_its_container_along(user: User) -> None:
    script = """
        unionfs run --rm --name web --stop-signal KILL app sh -c 'echo begun; exec sleep 600' >out &
        until grep -q begun out; do [ -d /proc/$! ]; done
        first=$(first web) monitor=$(monitor web)
        kill -9 $!
        wait $! 2>/dev/null || echo $?
        gone $first
        gone $monitor
        unionfs ps -aq
        left
    """
    ended = user.run(IMPORT + script)
    assert (ended.status, ended.stdout) == (0, "137\n"), ended
    assert user.processes() == {}


# -- images ---------------------------------------------------------------------------------------------------------------------


def test_commit_and_export_make_an_image_that_skopeo_reads(user: User) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    script = """
        unionfs run -d --name web app sh -c 'while :; do sleep 0.02; done' >/dev/null
        unionfs exec web sh -c 'echo more > /more; chown 7:8 /more; rm /plain'
        unionfs commit -c 'CMD ["ls"]' web app:2 >/dev/null
        unionfs exec web ps | grep -c '[s]leep 0.02' >/dev/null || echo no longer running
        unionfs rm -f web >/dev/null
        unionfs run --rm app:2 sh -c 'stat -c %u:%g /more; ls /plain 2>/dev/null || echo gone'
        unionfs image export --format oci-dir app:2 layout
        skopeo inspect --config oci:layout:app:2 | tr -d ' \\n' | grep -o '"Cmd":[^]]*]'
        unionfs export app:2 | tar -t --numeric-owner -v | grep ' more$' | cut -d ' ' -f 2
    """
    assert user.ok(IMPORT + script).splitlines() == ["7:8", "gone", '"Cmd":["ls"]', "7/8"]


def test_image_that_root_exported_is_the_same_after_a_users_import_and_export(user: User, tmp_path: Path) -> None:
    def as_root(*words: str | Path) -> None:
        environment = {**os.environ, "UNIONFS_ROOT": str(tmp_path / "store")}
        subprocess.run([UNIONFS, *words], env=environment, check=True, capture_output=True)

    as_root("image", "import", user.home / "base.tar", "app")
    as_root("image", "export", "--format", "oci-dir", "app", user.home / "layout")
    shutil.chown(user.home / "layout", 65534, 65534)
    subprocess.run(["chmod", "-R", "a+rX", user.home / "layout"], check=True)
    script = """
        unionfs image import layout app >/dev/null
        unionfs layer verify >/dev/null && echo verified
        unionfs image export --format oci-dir app again
        diff -r layout again && echo same
    """
    assert user.ok(script).splitlines() == ["verified", "same"]


# -- without what it needs ------------------------------------------------------------------------------------------------------


def test_without_subordinate_ids_there_is_only_root(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("runc") is None:
        pytest.skip("tested by root, with runc")
    user = User(tmp_path / "home", has_ids=False)
    try:
        script = """
            unionfs image import base.tar app >/dev/null 2>&1
            unionfs run --rm app sh -c 'cat /proc/self/uid_map; id -u; stat -c %u:%g /owned'
            unionfs run --rm -u alice app id || echo $?
            left
        """
        ended = user.run(script)
        assert ended.status == 0, ended
        uid_map, *rest = ended.stdout.splitlines()
        assert uid_map.split() == ["0", "65534", "1"]
        assert rest == ["0", "0:0", "125"]
        assert ended.stderr.startswith("unionfs: user 1000:1000: not among the ids that you may use; get ranges in /etc/subuid")
    finally:
        user.end_all()


def test_missing_newuidmap_is_named_with_the_package(user: User) -> None:
    script = """
        mkdir bin
        ln -s $(command -v unionfs) $(command -v runc) bin
        PATH=$HOME/bin unionfs ps || /bin/echo $?
    """
    ended = user.run(script)
    assert ended.stdout == "1\n"
    assert ended.stderr == (
        "unionfs: newuidmap: no such program on PATH, so your ids of /etc/subuid cannot be used; apt-get install uidmap\n"
    )


def test_missing_runtime_directory_is_named(user: User) -> None:
    ended = user.run("unset XDG_RUNTIME_DIR UNIONFS_RUNTIME_DIR; unionfs ps")
    assert ended.status == 1
    assert ended.stderr.startswith("unionfs: XDG_RUNTIME_DIR: is not set")


def test_diff_of_a_path_needs_no_namespace(user: User) -> None:
    script = """
        mkdir lower upper merged
        echo x > upper/new
        PATH=$(dirname $(command -v unionfs)):/usr/bin:/bin unionfs diff --json ./upper
        ls run 2>/dev/null || true
    """
    first, *rest = user.ok(script).split("\n]")
    assert json.loads(first + "\n]" if rest else first) == [{"kind": "A", "path": "/new"}]
    assert "rootless" not in "".join(rest)
