"""Whose files are, through mounts: what is shown is what the kernel checks, on every transport and data path."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Layers, Programs
from tests.programs import Ended, run

BACKENDS = ["transport=direct,data_path=auto", "transport=direct,data_path=cached", "transport=pyfuse3"]
PODMAN = "uidmapping=:0:100000:65536,gidmapping=:0:100000:65536"
NAME = "user.containers.override_stat"


@contextmanager
def mounted(programs: Programs, layers: Layers, options: str, program: str = "fuse-unionfs") -> Iterator[Path]:
    words = f"lowerdir={layers.top}:{layers.base},upperdir={layers.upper},workdir={layers.upper.parent}/work,{options}"
    (layers.upper.parent / "work").mkdir(exist_ok=True)
    first = {"unionfs": ["mount"], "fuse-unionfs": [], "mount.unionfs": ["union"]}[program]
    assert programs.run(program, *first, layers.merged, "-o", words) == (0, "", "")
    yield layers.merged
    programs.unionfs("umount", layers.merged)


def run_as(uid: int, gid: int, script: str, directory: Path) -> Ended:
    """Run a shell command as somebody without privileges but that of reaching ``directory``, which is ``$M``."""
    command = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "sh", "-c", script]
    return run(command, status=None, environment={**os.environ, "M": str(directory)})


def owner(path: Path) -> tuple[int, int, str]:
    st = path.lstat()
    return st.st_uid, st.st_gid, stat.filemode(st.st_mode)


@pytest.fixture
def reachable(layers: Layers) -> Iterator[Layers]:
    """Layers that others than root may reach, with files of ours."""
    (layers.base / "mine").write_text("mine\n")
    os.chown(layers.base / "mine", 5, 6)
    (layers.base / "mine").chmod(0o640)
    closed = [path for path in layers.merged.parents if not path.stat().st_mode & stat.S_IXOTH]
    modes = {path: path.stat().st_mode for path in closed}
    for path in closed:
        path.chmod(stat.S_IMODE(modes[path]) | stat.S_IXOTH)
    (layers.upper).chmod(0o755)
    yield layers
    for path, mode in modes.items():
        path.chmod(stat.S_IMODE(mode))


@pytest.mark.parametrize("backend", BACKENDS)
def test_podmans_mapping_is_what_the_kernel_checks(programs: Programs, reachable: Layers, backend: str) -> None:
    with mounted(programs, reachable, f"{backend},{PODMAN}") as merged:
        assert owner(merged / "mine") == (100005, 100006, "-rw-r-----")
        assert {entry.name: entry.stat().st_uid for entry in os.scandir(merged)}["mine"] == 100005
        # On disk it belongs to 5, which is nobody in the union.
        assert run_as(5, 6, 'cat "$M/mine"', merged).status == 1
        assert run_as(100005, 1, 'cat "$M/mine"; echo more >> "$M/mine"; chmod 600 "$M/mine"', merged).stdout == "mine\n"
        (merged / "open").mkdir()
        os.chown(merged / "open", 100007, 100008)
        assert owner(merged / "open") == (100007, 100008, "drwxr-xr-x")
        done = run_as(100007, 100008, 'cd "$M/open" && touch f && mkdir d && ln -s x l && chgrp 100008 f', merged)
        assert (done.status, done.stderr) == (0, "")
        (merged / "of root").touch()
        assert owner(merged / "of root") == (165534, 165534, "-rw-r--r--")
    assert owner(reachable.upper / "mine") == (5, 6, "-rw-------")
    assert (reachable.upper / "mine").read_text() == "mine\nmore\n"
    assert {owner(path)[:2] for path in (reachable.upper / "open").iterdir()} == {(7, 8)}
    assert owner(reachable.upper / "of root") == (65534, 65534, "-rw-r--r--")


def test_acl_of_a_mapped_user_is_what_the_kernel_checks(programs: Programs, reachable: Layers) -> None:
    with mounted(programs, reachable, PODMAN) as merged:
        run(["setfacl", "-m", "u:100009:rw", merged / "mine"])
        assert run_as(100009, 1, 'cat "$M/mine"', merged).stdout == "mine\n"
        assert run_as(100010, 1, 'cat "$M/mine"', merged).status == 1
    assert "user:9:rw-\n" in run(["getfacl", "-cn", reachable.upper / "mine"]).stdout


def test_squashed_owner_may_do_everything(programs: Programs, reachable: Layers) -> None:
    with mounted(programs, reachable, "squash_to_uid=77,squash_to_gid=78", "unionfs") as merged:
        assert owner(merged / "mine") == (77, 78, "-rw-r-----")
        done = run_as(77, 1, 'cd "$M" && echo x > mine && chmod 755 mine && mkdir d && mv mine d && rm base', merged)
        assert (done.status, done.stderr) == (0, "")
        assert owner(merged / "d/mine") == (77, 78, "-rwxr-xr-x")
    assert owner(reachable.upper / "d/mine") == (5, 6, "-rwxr-xr-x")


@pytest.mark.parametrize("backend", BACKENDS)
def test_owner_and_mode_in_attributes_are_what_the_kernel_checks(programs: Programs, reachable: Layers, backend: str) -> None:
    with mounted(programs, reachable, f"{backend},xattr_permissions=2") as merged:
        os.chown(merged / "both", 1000, 1001)
        (merged / "both").chmod(0o4600)
        assert owner(merged / "both") == (1000, 1001, "-rwS------")
        assert run_as(1001, 1001, 'cat "$M/both"', merged).status == 1
        assert run_as(1000, 1, 'cat "$M/both" && chmod 6777 "$M/both"', merged).stdout == "top\n"
        assert run_as(2000, 1, 'printf x >> "$M/both"', merged).status == 0
        # Somebody else has written: the set-id bits are gone.
        assert owner(merged / "both") == (1000, 1001, "-rwxrwxrwx")
        assert run_as(5, 1, 'printf x >> "$M/mine"', merged).status == 0
        (merged / "cat").write_bytes(Path("/bin/cat").read_bytes())
        (merged / "cat").chmod(0o755)
        run(["setcap", "cap_net_raw+ep", merged / "cat"])
        assert "CapEff:\t0000000000002000" in run_as(77, 77, '"$M/cat" /proc/self/status', merged).stdout
    assert os.getxattr(reachable.upper / "both", NAME) == b"1000:1001:777"
    assert os.getxattr(reachable.upper / "mine", NAME) == b"5:6:640"
    assert {owner(path) for path in reachable.upper.iterdir()} == {(0, 0, "-rwxr-xr-x")}
    assert "security.capability" not in os.listxattr(reachable.upper / "cat")


@pytest.mark.parametrize("program", ["unionfs", "fuse-unionfs", "mount.unionfs"])
def test_all_programs_know_all_the_options(programs: Programs, layers: Layers, program: str) -> None:
    options = "squash_to_root,noacl,static_nlink,ino32_t,noxattrs=1,uidmapping=0:1:1,gidmapping=0:1:1,xattr_permissions=1"
    with mounted(programs, layers, options, program) as merged:
        st = merged.stat()
        assert (st.st_uid, st.st_gid, st.st_nlink) == (0, 0, 1)
        with pytest.raises(OSError, match="not supported"):
            os.listxattr(merged)
    assert os.getxattr(layers.upper, "security.fuseoverlayfs.override_stat") == b"0:0:755"


def test_upper_that_cannot_hold_the_attribute_is_told(programs: Programs, layers: Layers) -> None:
    # ramfs has no attributes in user.
    script = f"""
        mount -t ramfs none /mnt
        mkdir /mnt/upper
        unionfs mount -o xattr_permissions=2 -l {layers.base} -u /mnt/upper {layers.merged} || echo status $?
    """
    ended = programs.in_namespaces(script)
    assert ended.stdout == "status 1\n"
    assert "the upper cannot hold user.containers.override_stat, which xattr_permissions needs" in ended.stderr
    assert ended.stderr.count("\n") == 1


# -- without the right to chown -----------------------------------------------------------------------------------------------

_NOBODY = 65534


def by_user(programs: Programs, options: str, script: str) -> Ended:
    """Run ``script`` in a union that a user mounted, over a file of somebody else that everybody may write."""
    return programs.in_namespaces(
        f"""
        as_user() {{
            setpriv --reuid={_NOBODY} --regid={_NOBODY} --clear-groups \\
                --inh-caps=+dac_read_search --ambient-caps=+dac_read_search "$@"
        }}
        mount -t tmpfs none /mnt
        mkdir -p /mnt/lower/d /mnt/upper /mnt/merged /mnt/run /mnt/log
        echo base > /mnt/lower/d/file
        chown 5:6 /mnt/lower/d/file /mnt/lower/d
        chmod 4666 /mnt/lower/d/file
        chmod 777 /mnt/lower/d
        mknod -m 666 /mnt/fuse c 10 229
        mount --bind /mnt/fuse /dev/fuse
        chown {_NOBODY}:{_NOBODY} /mnt /mnt/upper /mnt/merged /mnt/run /mnt/log
        unset UNIONFS_RUNTIME_DIR
        export XDG_RUNTIME_DIR=/mnt/run UNIONFS_LOG_DIR=/mnt/log
        as_user unionfs mount -o {options} -l /mnt/lower -u /mnt/upper /mnt/merged
        cat > /mnt/script
        as_user sh /mnt/script
        as_user unionfs umount /mnt/merged
    """.replace("cat > /mnt/script", f"cat > /mnt/script <<'END'\ncd /mnt/merged\n{script}\nEND\n")
    )


def test_user_cannot_copy_up_what_belongs_to_somebody_else(programs: Programs) -> None:
    ended = by_user(programs, "transport=direct", "echo changed > d/file || cat d/file; ls /mnt/upper")
    assert (ended.status, ended.stdout) == (0, "base\n")
    assert "Operation not permitted" in ended.stderr


def test_squashed_to_the_user_everything_can_be_copied_up(programs: Programs) -> None:
    script = """
        stat -c "%n %u:%g:%a" d d/file
        chmod 4755 d/file
        touch d/new; ln -s x d/link; mkfifo d/pipe
        stat -c "%n %u:%g:%a" d/*
        stat -c "%n %u:%g:%a" /mnt/upper/d /mnt/upper/d/*
        cat d/file
    """
    ended = by_user(programs, f"squash_to_uid={_NOBODY},squash_to_gid={_NOBODY}", script)
    objects = ["d/file 65534:65534:4755", "d/link 65534:65534:777", "d/new 65534:65534:644", "d/pipe 65534:65534:644"]
    expected = ["d 65534:65534:777", "d/file 65534:65534:4666", *objects]
    expected += ["/mnt/upper/d 65534:65534:777", *(f"/mnt/upper/{line}" for line in objects), "base"]
    assert (ended.status, ended.stdout.splitlines(), ended.stderr) == (0, expected, "")


def test_set_id_bit_of_somebody_else_does_not_become_the_users(programs: Programs) -> None:
    ended = by_user(programs, f"squash_to_uid={_NOBODY}", "touch d/file; stat -c %a d/file /mnt/upper/d/file")
    assert (ended.status, ended.stdout, ended.stderr) == (0, "666\n666\n", "")


def test_owners_in_attributes_can_be_copied_up_by_the_user(programs: Programs) -> None:
    script = f"""
        echo more >> d/file
        touch d/new; chmod 4600 d/new; ln -s x d/link; mkdir -m 500 d/sub; mkfifo d/pipe
        stat -c "%n %u:%g:%a" d d/*
        cat d/file
        for name in d d/file d/new d/sub; do
            getfattr --absolute-names --only-values -n {NAME} /mnt/upper/$name; stat -c " %u:%g:%a" /mnt/upper/$name
        done
    """
    ended = by_user(programs, "xattr_permissions=2", script)
    expected = ["d 5:6:777", "d/file 5:6:666", "d/link 65534:65534:777", "d/new 65534:65534:4600"]
    expected += ["d/pipe 65534:65534:644", "d/sub 65534:65534:500", "base", "more"]
    expected += [f"{value} 65534:65534:755" for value in ("5:6:777", "5:6:666", "65534:65534:4600", "65534:65534:500")]
    assert (ended.status, ended.stdout.splitlines(), ended.stderr) == (0, expected, "")
