"""What is refused before mounting: each refusal names the directory and the remedy."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.mounts import KERNEL
from unionfs.mounter.checks import check, default_work
from unionfs.mounter.errors import RefusedError
from unionfs.mounter.request import MountRequest


class Place(NamedTuple):
    """Directories to make a union of."""

    root: Path

    def directory(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def request(self, **changes: object) -> MountRequest:
        fields: dict[str, object] = {
            "mountpoint": self.directory("merged"),
            "lowers": (self.directory("lower0"), self.directory("lower1")),
            "upper": self.directory("upper"),
            "work": self.directory("work"),
        }
        return MountRequest(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def bind(place: Place) -> Iterator[Callable[[Path, str], Path]]:
    """Bind-mounts a directory at a name of the place."""
    made: list[Path] = []

    def bind(source: Path, name: str) -> Path:
        target = place.directory(name)
        subprocess.run(["mount", "--bind", source, target], check=True, timeout=10)
        made.append(target)
        return target

    yield bind
    for target in reversed(made):
        subprocess.run(["umount", target], check=True, timeout=10)


def refusal(request: MountRequest) -> str:
    with pytest.raises(RefusedError) as caught:
        check(request)
    line = str(caught.value)
    assert "; " in line, f"no remedy in {line!r}"
    assert "\n" not in line
    return line


def test_a_good_request_comes_back_with_resolved_paths(place: Place) -> None:
    (place.root / "link").symlink_to(place.directory("lower0"))
    request = place.request(lowers=(place.root / "link", place.directory("x/..") / "lower1"))
    assert check(request) == place.request()


def test_relative_paths_count_from_the_current_directory(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = place.request()
    monkeypatch.chdir(place.root)
    relative = MountRequest(Path("merged"), (Path("lower0"), Path("lower1")), Path("upper"), Path("work"))
    assert check(relative) == expected


def test_nothing_is_made_by_checking(place: Place) -> None:
    request = place.request(work=None)
    before = sorted(place.root.rglob("*"))
    assert check(request).work == default_work(place.root / "upper") == place.root / ".upper.work"
    assert sorted(place.root.rglob("*")) == before


def test_with_ro_an_upper_needs_no_work_directory(place: Place) -> None:
    checked = check(place.request(read_only=True, work=None))
    assert checked.lowers == tuple(place.root / name for name in ("lower0", "lower1"))
    assert (checked.upper, checked.work) == (place.root / "upper", None)
    (place.root / ".upper.work/index").mkdir(parents=True)
    assert check(place.request(read_only=True, work=None)).work == place.root / ".upper.work"


# -- each directory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["lower", "upper", "work"])
def test_missing_directory(place: Place, role: str) -> None:
    missing = place.root / "missing"
    changes = {"lower": {"lowers": (missing,)}, "upper": {"upper": missing}, "work": {"work": missing}}[role]
    assert refusal(place.request(**changes)) == f"{missing}: {role}: no such file or directory; make it, or correct the path"


@pytest.mark.parametrize("role", ["lower", "upper", "work"])
def test_not_a_directory(place: Place, role: str) -> None:
    file = place.root / "file"
    file.touch()
    changes = {"lower": {"lowers": (file,)}, "upper": {"upper": file}, "work": {"work": file}}[role]
    assert refusal(place.request(**changes)) == f"{file}: {role}: not a directory; give a directory"


def test_missing_mount_point(place: Place) -> None:
    missing = place.root / "missing"
    assert refusal(place.request(mountpoint=missing)).startswith(f"{missing}: mount point: no such file or directory; make")


def test_mount_point_that_is_a_file(place: Place) -> None:
    file = place.root / "file"
    file.touch()
    assert refusal(place.request(mountpoint=file)) == f"{file}: mount point is not a directory; choose a directory"


def test_symbolic_link_to_itself(place: Place) -> None:
    loop = place.root / "loop"
    loop.symlink_to(loop)
    assert "a symbolic link leads to itself" in refusal(place.request(lowers=(loop,)))


@pytest.mark.parametrize(("mode", "problem"), [(0o701, "permission denied"), (0o704, "no right to search it")])
def test_layer_that_the_user_may_not_read_or_search(place: Place, mode: int, problem: str) -> None:
    request = place.request()
    os.chmod(place.root / "lower0", mode)
    line = refused_to_user(request)
    assert line == f"{place.root / 'lower0'}: lower: {problem}; get the right to read and search it, or run as root"


def test_upper_that_the_user_may_not_write(place: Place) -> None:
    request = place.request()
    os.chmod(place.root / "upper", 0o705)
    assert refused_to_user(request).startswith(f"{place.root / 'upper'}: upper: no right to write; get the right")


def refused_to_user(request: MountRequest) -> str:
    """The refusal that a process without root's rights over files gets.

    A child that gives up CAP_DAC_* but stays root: so it still gets to /dev/fuse and to the interpreter, wherever that is; the
    directories belong to somebody else, and only the last digit of their modes counts."""
    program = f"""
from pathlib import PosixPath
from unionfs.mounter.checks import check
from unionfs.mounter.request import MountRequest
from unionfs.overlay.options import Options, OwnerOptions
check({request!r})
"""
    for path in (request.mountpoint, *request.lowers, request.upper, request.work):
        assert path is not None
        os.chown(path, 65534, 65534)
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    done = subprocess.run([*drop, sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith("unionfs.mounter.errors.RefusedError: ")
    return last_line.partition(": ")[2]


# -- the work directory -----------------------------------------------------------------------------------------------------


def test_work_on_another_filesystem(place: Place) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        line = refusal(place.request(work=Path(elsewhere)))
    assert line.startswith(f"{elsewhere}: work is not on the same mount as the upper {place.root / 'upper'}; ")


def test_work_on_another_mount_of_the_same_filesystem(place: Place, bind: Callable[[Path, str], Path]) -> None:
    bound = bind(place.directory("work"), "bound")
    assert "not on the same mount" in refusal(place.request(work=bound))


def test_default_work_of_an_upper_that_is_itself_a_mount_point(place: Place, bind: Callable[[Path, str], Path]) -> None:
    bound = bind(place.directory("upper"), "bound")
    assert "not on the same mount" in refusal(place.request(upper=bound, work=None))


def test_default_work_that_is_a_symbolic_link(place: Place) -> None:
    request = place.request(work=None)
    (place.root / ".upper.work").symlink_to("/")
    assert "is a symbolic link or somebody else's; name the work directory" in refusal(request)


def test_default_work_that_belongs_to_somebody_else(place: Place) -> None:
    request = place.request(work=None)
    os.chown(place.directory(".upper.work"), 65534, 65534)
    assert "is a symbolic link or somebody else's; name the work directory" in refusal(request)


def test_upper_on_a_read_only_mount(place: Place, bind: Callable[[Path, str], Path]) -> None:
    bound = bind(place.directory("writable"), "bound")
    for name in ("u", "w"):
        place.directory(f"bound/{name}")
    subprocess.run(["mount", "-o", "remount,bind,ro", bound], check=True, timeout=10)
    assert "on a read-only filesystem" in refusal(place.request(upper=bound / "u", work=bound / "w"))


def test_work_that_a_volatile_mount_left_behind(place: Place) -> None:
    request = place.request()
    place.directory("work/work/incompat/volatile")
    line = refusal(request)
    assert "was mounted volatile" in line
    assert line.endswith(f"rm -r {place.root}/work/work/incompat/volatile")


def test_upper_that_a_volatile_mount_left_behind_is_not_even_looked_at(place: Place) -> None:
    request = place.request(read_only=True)
    place.directory("work/work/incompat/volatile")
    assert "was mounted volatile" in refusal(request)


def test_work_with_an_unknown_feature(place: Place) -> None:
    request = place.request()
    place.directory("work/work/incompat/later")
    assert "the upper uses what is not supported here: later" in refusal(request)


def test_an_empty_incompat_directory_is_no_obstacle(place: Place) -> None:
    request = place.request()
    place.directory("work/work/incompat")
    assert check(request) == request


# -- directories against each other -----------------------------------------------------------------------------------------


def test_layer_listed_twice(place: Place) -> None:
    lower = place.directory("lower0")
    (place.root / "again").symlink_to(lower)
    assert refusal(place.request(lowers=(lower, place.root / "again"))) == f"{lower}: given twice as lower; name each layer once"


@pytest.mark.parametrize(("first", "second"), [("lower", "upper"), ("lower", "work"), ("upper", "work")])
def test_one_directory_in_two_roles(place: Place, first: str, second: str) -> None:
    both = place.directory("both")
    changes: dict[str, object] = {role: both for role in (first, second) if role != "lower"}
    if first == "lower":
        changes["lowers"] = (both,)
    assert refusal(place.request(**changes)).startswith(f"{both}: is both {first} and {second} ")


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        ("upper", "lower"),
        ("work", "lower"),
        ("lower", "upper"),
        ("lower", "work"),
        ("work", "upper"),
        ("upper", "work"),
        ("mount point", "lower"),
        ("mount point", "upper"),
        ("mount point", "work"),
        ("lower", "mount point"),
        ("upper", "mount point"),
        ("work", "mount point"),
    ],
)
def test_one_directory_inside_another(place: Place, inner: str, outer: str) -> None:
    outer_path = place.directory("outer")
    inner_path = place.directory("outer/deep/inner")
    changes: dict[str, object] = {}
    for role, path in ((inner, inner_path), (outer, outer_path)):
        changes |= {"lowers": (path,)} if role == "lower" else {role.replace("mount point", "mountpoint"): path}
    assert refusal(place.request(**changes)).startswith(f"{inner_path}: {inner} lies inside the {outer} {outer_path}; ")


def test_lower_inside_another_lower(place: Place) -> None:
    outer = place.directory("lower0")
    inner = place.directory("lower0/inner")
    assert refusal(place.request(lowers=(inner, outer))).startswith(f"{inner}: lower lies inside the lower {outer}; ")


@pytest.mark.parametrize("role", ["lower", "upper", "work"])
def test_mount_point_that_is_a_layer(place: Place, role: str) -> None:
    path = place.directory("lower0" if role == "lower" else role)
    assert refusal(place.request(mountpoint=path)).startswith(f"{path}: is both the mount point and the {role}; ")


def test_nesting_behind_a_symbolic_link(place: Place) -> None:
    place.directory("lower0/inner")
    (place.root / "link").symlink_to(place.root / "lower0/inner")
    assert "mount point lies inside the lower" in refusal(place.request(mountpoint=place.root / "link"))


def test_nesting_behind_a_bind_mount(place: Place, bind: Callable[[Path, str], Path]) -> None:
    place.directory("lower0/deep/inner")
    bound = bind(place.root / "lower0/deep", "bound")
    assert "mount point lies inside the lower" in refusal(place.request(mountpoint=bound / "inner"))


def test_nesting_of_a_bind_mount_inside_a_layer(place: Place, bind: Callable[[Path, str], Path]) -> None:
    bind(place.directory("elsewhere"), "lower0/bound")
    upper, work = (place.directory(f"lower0/bound/{name}") for name in ("upper", "work"))
    assert "upper lies inside the lower" in refusal(place.request(upper=upper, work=work))


def test_the_same_directory_behind_a_bind_mount(place: Place, bind: Callable[[Path, str], Path]) -> None:
    bound = bind(place.directory("lower0"), "bound")
    assert "given twice as lower" in refusal(place.request(lowers=(place.root / "lower0", bound)))


def test_names_that_only_begin_alike_are_not_nested(place: Place) -> None:
    request = place.request(lowers=(place.directory("upper2"), place.directory("merged2")))
    assert check(request) == request


# -- other mounts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["upper", "work"])
def test_directory_in_use_by_the_kernels_overlay(place: Place, role: str) -> None:
    request = place.request()
    taken = {"upper": place.directory("kernel/upper"), "work": place.directory("kernel/work")}
    overlay = place.directory("kernel/merged")
    KERNEL.mount([place.root / "lower0"], taken["upper"], taken["work"], overlay)
    try:
        line = refusal(dataclasses.replace(request, **{role: taken[role]}))
    finally:
        KERNEL.umount(overlay)
    assert line.startswith(f"{taken[role]}: {role} is in use by the kernel's overlay on {overlay}; ")


def test_mounting_over_a_mount_of_another_kind_is_allowed(place: Place, bind: Callable[[Path, str], Path]) -> None:
    request = place.request(mountpoint=bind(place.directory("elsewhere"), "merged"))
    assert check(request) == request


def test_missing_fuse_device_names_the_module(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unionfs.mounter.checks._FUSE_DEVICE", str(place.root / "fuse"))
    assert refusal(place.request()).startswith(f"{place.root / 'fuse'}: no such device; load the kernel module (modprobe fuse)")
