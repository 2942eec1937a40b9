"""Containers of one image and of two, at the same time: none sees what another one changes."""

from __future__ import annotations

from tests.containers.engine import Engine


def test_three_containers_on_two_images_stay_apart(engine: Engine) -> None:
    engine.add_image("other", {"etc/other": "of the other image\n"})
    names = {"one": "box", "two": "box", "three": "other"}
    for name, image in names.items():
        script = f"echo {name} >/etc/file; echo {name} >/{name}; rm /etc/group; echo up; exec sleep 1000"
        engine.ok("run", "-d", "--name", name, image, "sh", "-c", script)
    for name in names:
        engine.wait_for_output(name, "up")
    for name in names:
        assert engine.ok("exec", name, "cat", "/etc/file") == f"{name}\n"
        shown = set(engine.ok("exec", name, "ls", "/").split())
        assert shown & set(names) == {name}
        assert engine.ok("diff", name) == f"M /etc\nM /etc/file\nD /etc/group\nA /{name}\n"
    assert engine.ok("exec", "three", "cat", "/etc/other") == "of the other image\n"
    assert engine.ok("run", "--rm", "box", "cat", "/etc/file") == "image\n"
    engine.ok("stop", "-t", "0", *names)
    engine.ok("rm", *names)
    assert engine.leftovers() == []


def test_containers_begun_at_the_same_moment_all_run(engine: Engine) -> None:
    processes = []
    for number in range(4):
        context = engine.started("run", "--rm", "--network", "none", "box", "sh", "-c", f"echo {number} >/own; cat /own")
        processes.append((number, context, context.__enter__()))
    for number, context, process in processes:
        out, err = process.communicate(timeout=60)
        context.__exit__(None, None, None)
        assert (process.returncode, out, err) == (0, f"{number}\n".encode(), b"")
    assert engine.leftovers() == []


def test_names_and_unique_beginnings_of_ids_are_found(engine: Engine) -> None:
    container_id = engine.ok("run", "-d", "--name", "named", "box", "sleep", "1000").strip()
    assert len(container_id) == 64
    for text in ("named", container_id, container_id[:12], container_id[:5]):
        assert engine.ok("exec", text, "echo", "found") == "found\n"
    assert engine.run("exec", "f" * 63, "true").stderr.endswith("no such container; unionfs ps -a lists them\n")
    assert engine.ok("ps", "-q") == f"{container_id[:12]}\n"


def test_exec_has_a_user_an_environment_and_a_directory_of_its_own(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "base", "-e", "GIVEN=1", "box", "sleep", "1000")
    script = "id -un; pwd; echo $GIVEN $MORE $HOME"
    shown = engine.ok("exec", "-u", "alice", "-w", "/etc", "-e", "MORE=2", "base", "sh", "-c", script)
    assert shown == "alice\n/etc\n1 2 /home/alice\n"
    assert engine.ok("exec", "-i", "base", "cat", stdin=b"typed") == "typed"
    assert engine.ok("exec", "base", "cat", stdin=b"typed") == ""
    assert engine.run("exec", "base", "sh", "-c", "exit 5").status == 5
    assert engine.run("exec", "base", "nosuch").status == 127
    assert engine.run("exec", "base", "/plain").status == 126


def test_exec_in_what_does_not_run_is_refused(engine: Engine) -> None:
    engine.ok("run", "--name", "over", "box", "true")
    ended = engine.run("exec", "over", "true")
    assert (ended.status, ended.stderr) == (1, "unionfs: over: the container does not run; unionfs ps lists those that do\n")


def test_logs_have_streams_times_and_a_tail(engine: Engine) -> None:
    engine.run("run", "--name", "talks", "box", "sh", "-c", "echo one; echo two; echo error >&2; echo -n three")
    ended = engine.run("logs", "talks")
    assert (ended.stdout, ended.stderr) == ("one\ntwo\nthree", "error\n")
    assert engine.ok("logs", "--tail", "1", "talks") == "three"
    first = engine.run("logs", "-t", "talks").stdout.splitlines()[0]
    assert first.endswith("Z one")
    assert first[4] == "-"


def test_logs_follow_until_the_container_has_ended(engine: Engine) -> None:
    script = "trap 'echo bye; exit' TERM; echo up; while :; do sleep 0.05; done"
    engine.ok("run", "-d", "--name", "talks", "box", "sh", "-c", script)
    with engine.started("logs", "-f", "talks") as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"up\n"
        engine.ok("stop", "talks")
        assert follower.stdout.read() == b"bye\n"
        assert follower.wait(60) == 0
