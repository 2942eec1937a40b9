"""git: lock files renamed into place, read-only objects, packs read by mmap, thousands of small files deleted by gc."""

from __future__ import annotations

import os

import pytest

from .machine import Machine

COMMITS = 25
IDENTITY = ("-c", "user.name=tester", "-c", "user.email=tester@example.org")


def git(machine: Machine, repository: str, *arguments: str) -> str:
    return machine.run("git", *IDENTITY, *arguments, directory=repository).strip()


@pytest.mark.timeout(300)
def test_git_history_survives_clone_and_gc(machine: Machine) -> None:
    directory = machine.make_directory("/repository")
    git(machine, "/repository", "init", "--quiet", "--initial-branch=main")
    script = (
        "set -e; n=0; while [ $n -lt {commits} ]; do n=$((n+1)); mkdir -p d$((n%5));"
        " seq $n $((n+200)) >d$((n%5))/f$n; echo $n >>log; git add -A;"
        " git {identity} commit --quiet -m c$n; done"
    ).format(commits=COMMITS, identity=" ".join(IDENTITY))
    machine.run("sh", "-c", script, directory="/repository")
    git(machine, "/repository", "checkout", "--quiet", "-b", "side", "HEAD~3")
    (directory / "side").write_text("on a branch\n")
    git(machine, "/repository", "add", "side")
    git(machine, "/repository", "commit", "--quiet", "-m", "side")
    git(machine, "/repository", "checkout", "--quiet", "main")
    git(machine, "/repository", "merge", "--quiet", "--no-edit", "side")
    history = git(machine, "/repository", "rev-list", "--objects", "--all")

    machine.run("git", "clone", "--quiet", "--no-hardlinks", "/repository", "/clone")
    machine.run("git", "clone", "--quiet", "/repository", "/linked-clone")
    git(machine, "/repository", "gc", "--quiet", "--prune=now")

    for repository in ("/repository", "/clone", "/linked-clone"):
        git(machine, repository, "fsck", "--full", "--strict")
        assert git(machine, repository, "status", "--porcelain") == ""
    assert git(machine, "/repository", "rev-list", "--objects", "--all") == history
    assert git(machine, "/clone", "rev-list", "--count", "HEAD") == str(COMMITS + 2)
    assert git(machine, "/repository", "count-objects") == "0 objects, 0 kilobytes"
    assert len(os.listdir(directory / ".git/objects/pack")) >= 2
