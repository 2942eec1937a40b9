"""git on a repository of a lower layer: thousands of small files made, and more looked at."""

from __future__ import annotations

import os
import random
from pathlib import Path

from unionfs.bench.program import FIXED_TIME, run_program
from unionfs.bench.workload import Corpora, Place, Workload, expect

FILES = 2000
"""Files that are committed in the repository, and as many that are not."""

FILES_A_DIRECTORY = 40
STATUSES = 20
TOUCHES = 5

_SETTINGS = {
    "user.name": "The unionfs authors",
    "user.email": "unionfs@example.org",
    "gc.auto": "0",  # nothing may go on in the background when the time is taken
    "maintenance.auto": "false",
    "pack.threads": "1",  # more make packs that differ from run to run
}

_VARIABLES = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_DATE": f"{FIXED_TIME} +0000",
    "GIT_COMMITTER_DATE": f"{FIXED_TIME} +0000",
    "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
    **{f"GIT_CONFIG_KEY_{number}": key for number, key in enumerate(_SETTINGS)},
    **{f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(_SETTINGS.values())},
}


def _git(repository: Path, home: Path, *arguments: str) -> str:
    return run_program(["git", *arguments], home=home, cwd=repository, environment=_VARIABLES).decode()


def _file(number: int, *, tracked: bool) -> str:
    """The path of a file in the repository."""
    return f"{'src' if tracked else 'new'}/{number // FILES_A_DIRECTORY:03}/file{number:05}.txt"


def _count(corpora: Corpora) -> int:
    return max(3, corpora.scaled(FILES))  # one to change, one to remove, one to leave


def _write_files(repository: Path, count: int, *, tracked: bool) -> None:
    rng = random.Random(f"git {tracked}")  # noqa: S311  # reproducible on purpose
    for number in range(count):
        path = repository / _file(number, tracked=tracked)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{rng.randbytes(30).hex()}\n" for _ in range(rng.randrange(20, 80))))
        # Of the past: git reads every file again that is not older than its index.
        os.utime(path, (FIXED_TIME, FIXED_TIME))


def _repository(corpora: Corpora) -> Path:
    """A layer with the directory ``repository``: one commit in a pack, one file changed, one removed, and files not added."""
    count = _count(corpora)

    def make(layer: Path) -> None:
        repository = layer / "repository"
        repository.mkdir(parents=True)
        _git(repository, layer, "init", "--quiet", "--initial-branch=main")
        _write_files(repository, count, tracked=True)
        _git(repository, layer, "add", "--all")
        _git(repository, layer, "commit", "--quiet", "--message=base")
        _git(repository, layer, "repack", "-adq")
        _write_files(repository, count, tracked=False)
        changed = repository / _file(0, tracked=True)
        changed.write_text("changed\n")
        os.utime(changed, (FIXED_TIME, FIXED_TIME))
        (repository / _file(1, tracked=True)).unlink()

    return corpora.get(f"git-{count}", make)


_STATUS = f" M {_file(0, tracked=True)}\n D {_file(1, tracked=True)}\n?? new/\n"
"""What `git status --porcelain` says of the repository."""


class Commit:
    """All that is new is added and committed: every file read, an object written for it and renamed into place."""

    name = "git-commit"
    title = f"git add and commit, {FILES:,} new files"
    group = "programs"
    requires: tuple[str, ...] = ("git",)

    def layers(self, corpora: Corpora) -> list[Path]:
        return [_repository(corpora)]

    def prepare(self, place: Place) -> None:
        pass

    def run(self, place: Place) -> None:
        repository = place.merged / "repository"
        _git(repository, place.scratch, "add", "--all")
        _git(repository, place.scratch, "commit", "--quiet", "--message=new")

    def check(self, place: Place) -> None:
        repository = place.merged / "repository"
        expect("commits", _git(repository, place.scratch, "rev-list", "--count", "HEAD"), "2\n")
        expect("files left uncommitted", _git(repository, place.scratch, "status", "--porcelain"), "")
        committed = _git(repository, place.scratch, "ls-tree", "-r", "--name-only", "HEAD").splitlines()
        expect("files in the commit", len(committed), 2 * _count(place.corpora) - 1)
        _git(repository, place.scratch, "fsck", "--full", "--strict")


class WarmStatus:
    """Nothing has changed since git looked last: one lstat for each file and a listing of each directory."""

    name = "git-status"
    title = f"git status {STATUSES} times, {FILES:,} files, warm"
    group = "programs"
    requires: tuple[str, ...] = ("git",)

    def layers(self, corpora: Corpora) -> list[Path]:
        return [_repository(corpora)]

    def prepare(self, place: Place) -> None:
        # Inode numbers and ctimes are not those that the index was made with: the first status reads every file.
        _git(place.merged / "repository", place.scratch, "status", "--porcelain")

    def run(self, place: Place) -> None:
        for number in range(STATUSES):
            status = _git(place.merged / "repository", place.scratch, "status", "--porcelain")
            (place.scratch / f"status{number}").write_text(status)

    def check(self, place: Place) -> None:
        for number in range(STATUSES):
            path = place.scratch / f"status{number}"
            expect("status", path.read_text() if path.exists() else None, _STATUS)


class TouchedStatus:
    """All files have new times, as after a build or a checkout: git reads each of them and writes its index anew."""

    name = "git-status-touched"
    title = f"touch {FILES:,} files and git status, {TOUCHES} times"
    group = "programs"
    requires: tuple[str, ...] = ("git",)

    def layers(self, corpora: Corpora) -> list[Path]:
        return [_repository(corpora)]

    def prepare(self, place: Place) -> None:
        self._touch(place, 1)  # copies them up, which is another row's matter
        _git(place.merged / "repository", place.scratch, "status", "--porcelain")

    def run(self, place: Place) -> None:
        for number in range(TOUCHES):
            self._touch(place, 2 + number)
            _git(place.merged / "repository", place.scratch, "status", "--porcelain")

    def check(self, place: Place) -> None:
        repository = place.merged / "repository"
        last = repository / _file(_count(place.corpora) - 1, tracked=True)
        expect(f"mtime of {last.name}", int(last.stat().st_mtime), FIXED_TIME + 1 + TOUCHES)
        # It compares times only: a file whose new times are not in the index counts as changed.
        changed = _git(repository, place.scratch, "diff-files", "--name-only").split()
        expect("files that are not in the index as they are", changed[:3], [_file(0, tracked=True), _file(1, tracked=True)])

    def _touch(self, place: Place, seconds: int) -> None:
        for number in range(_count(place.corpora)):
            if number != 1:  # the removed one
                path = place.merged / "repository" / _file(number, tracked=True)
                os.utime(path, (FIXED_TIME + seconds, FIXED_TIME + seconds))


WORKLOADS: tuple[Workload, ...] = (Commit(), WarmStatus(), TouchedStatus())
