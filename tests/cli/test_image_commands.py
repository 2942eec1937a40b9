"""``unionfs image``: every subcommand, what it prints, for people and as JSON, and what it refuses."""

from __future__ import annotations

import base64
import json
import os
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Programs
from tests.cli.registry import PASSWORD, USER, registry
from tests.cli.stored_images import BASE, OTHER, TOP, StoreCommands, store
from tests.programs import command_lines, wait_until
from tests.store.images.made_images import Layout, archived, docker_archive, layout
from unionfs.store.digest import digest_of

__all__ = ["store"]  # the fixture

HEADINGS = "NAME  ID  CREATED  SIZE  SHARED  UNIQUE\n"
SIZE_OF_BASE = 50_005
CREATED = ["2024-05-06", "07:08:09"]


def names(store: StoreCommands) -> list[list[str]]:
    return sorted(image["names"] for image in store.json("image", "ls"))


# -- ls -------------------------------------------------------------------------------------------------------------------


def test_empty_store_is_an_empty_list(store: StoreCommands) -> None:
    assert store.ok("image", "ls") == HEADINGS
    assert store.json("image", "ls") == []


def test_images_are_listed_by_name_with_their_sizes(store: StoreCommands) -> None:
    digest = store.import_("site/web:1.0", BASE)
    assert store.rows("image", "ls")[1:] == [["site/web:1.0", digest[7:19], *CREATED, "50kB", "0B", "50kB"]]
    (listed,) = store.json("image", "ls")
    assert (listed["id"], listed["names"], listed["created"]) == (digest, ["site/web:1.0"], 1714979289.5)
    assert (listed["size"], listed["shared"], listed["unique"]) == (SIZE_OF_BASE, 0, SIZE_OF_BASE)
    assert listed["imported"] > listed["created"]


def test_an_image_has_a_row_for_each_name_and_one_without_any(store: StoreCommands) -> None:
    store.import_("a", BASE)
    store.ok("image", "tag", "a", "b:2")
    store.import_("b:2", TOP)
    store.import_("b:2", OTHER)
    assert [row[0] for row in store.rows("image", "ls")[1:]] == ["b:2", "<none>", "a:latest"]


def test_images_that_share_a_layer_take_its_space_once(store: StoreCommands) -> None:
    def used() -> int:
        done = subprocess.run(["du", "-s", "-B1", store.root / "layers"], check=True, capture_output=True, text=True)
        return int(done.stdout.split()[0])

    store.import_("one", BASE, TOP)
    before = used()
    store.import_("two", BASE, OTHER)
    one, two = sorted(store.json("image", "ls"), key=lambda image: str(image["names"]))
    assert (one["size"], one["shared"], one["unique"]) == (SIZE_OF_BASE + 4, SIZE_OF_BASE, 4)
    assert (two["size"], two["shared"], two["unique"]) == (SIZE_OF_BASE + 7_000, SIZE_OF_BASE, 7_000)
    assert [row[-3:] for row in store.rows("image", "ls")[1:]] == [["57kB", "50kB", "7kB"], ["50kB", "50kB", "4B"]]
    # What is its own, a recipe and directories in blocks; the layer that both have is not there twice.
    assert two["unique"] <= used() - before < SIZE_OF_BASE
    store.ok("image", "rm", "two")
    assert used() == before


# -- import ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["layout", "layout.tar", "docker", "rootfs", "rootfs.tar"])
def test_import_tells_name_and_id_and_nothing_on_stderr(store: StoreCommands, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    if kind == "docker":
        docker_archive(source, BASE)
    elif kind.startswith("layout"):
        made = layout(tmp_path / "layout", BASE)
        source = made if kind == "layout" else archived(made, source)
    elif kind == "rootfs.tar":
        source.write_bytes(BASE)
    else:
        (source / "etc").mkdir(parents=True)
    told = store.ok("image", "import", source, "site/web")
    assert re.fullmatch(r"site/web:latest: sha256:[0-9a-f]{64}\n", told)
    assert names(store) == [["site/web:latest"]]


def test_name_of_another_image_moves_and_that_is_said(store: StoreCommands) -> None:
    before = store.import_("a", BASE)
    after = store.json("image", "inspect", store.import_("b", TOP))["id"]
    source = docker_archive(store.root.with_name("again.tar"), TOP)
    assert store.ok("image", "import", source, "a") == (
        f"a:latest: {after}\na:latest was {before[7:19]} before, which stays without that name (unionfs image prune removes it)\n"
    )
    assert names(store) == [[], ["a:latest", "b:latest"]]


def test_one_of_several_images_is_chosen_by_its_name(store: StoreCommands, tmp_path: Path) -> None:
    made, key = Layout(tmp_path / "layout"), "org.opencontainers.image.ref.name"
    source = made.index(made.image([BASE], annotations={key: "x"}), made.image([TOP], annotations={key: "y"}))
    line = store.refusal("image", "import", source, "a")
    assert line == f"{source}: has several images: x, y; choose one by --image NAME"
    store.ok("image", "import", "--image", "y", source, "a")
    assert [layer["diff_id"] for layer in store.json("image", "inspect", "a")["layers"]] == [digest_of(TOP)]
    assert "has no image z; choose one of: x, y" in store.refusal("image", "import", "--image", "z", source, "a")


def test_bad_sources_and_names_are_refused_in_one_line(store: StoreCommands, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive" * 99)
    assert store.refusal("image", "import", tmp_path / "none", "a").endswith(
        "none: no such file or directory; name an archive or a directory"
    )
    assert "not a tar" in store.refusal("image", "import", tmp_path / "text", "a")
    assert store.refusal("image", "import", tmp_path / "text", "A:b:c", status=2).startswith("A:b:c: ")
    assert "Missing argument" in store.refusal("image", "import", tmp_path / "text", status=2)
    assert store.json("image", "ls") == []


def test_progress_is_drawn_on_a_terminal(store: StoreCommands, tmp_path: Path) -> None:
    source = docker_archive(tmp_path / "source.tar", BASE, TOP)
    shown = store.on_terminal("image", "import", source, "a")
    assert f"layer {digest_of(BASE).short}" in shown
    assert "━" in shown
    assert "a:latest: sha256:" in shown
    shown = store.on_terminal("image", "export", "a", tmp_path / "out.tar")
    assert f"layer {digest_of(TOP).short}" in shown


def test_tables_on_a_terminal_show_the_same(store: StoreCommands) -> None:
    digest = store.import_("site/web:1.0", BASE)
    shown = store.on_terminal("image", "ls")
    assert "site/web:1.0" in shown
    assert digest[7:19] in shown


@pytest.fixture
def shared_store(programs: Programs) -> Iterator[StoreCommands]:
    """One that another user can reach: the directories above tmp_path are root's alone."""
    with tempfile.TemporaryDirectory(prefix="unionfs-test-", dir="/tmp") as directory:
        Path(directory).chmod(0o777)
        yield StoreCommands(programs, Path(directory) / "store")


def test_what_a_user_may_not_set_is_told_once_and_by_inspect(shared_store: StoreCommands) -> None:
    store = shared_store
    source = store.root.with_name("rootfs.tar")
    capability = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0).decode("utf-8", "surrogateescape")  # struct vfs_cap_data
    with tarfile.open(source, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, headers in (("first", {}), ("second", {"SCHILY.xattr.security.capability": capability})):
            member = tarfile.TarInfo(name)
            member.uid, member.pax_headers = 7, headers
            archive.addfile(member)
    # The commands of a user without a namespace of his own: the code that they share, as no root.
    program = """
import os, sys
from pathlib import Path
from unionfs.store.store import open_store
from unionfs.store.reference import parse_reference
from unionfs.store.sources.archive import import_image
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
with open_store(Path(sys.argv[1])) as store:
    import_image(store, Path(sys.argv[2]), parse_reference("a"))
"""
    subprocess.run([sys.executable, "-c", program, store.root, source], check=True, timeout=60)
    told = "2 entries (the first: 'first') without what only root may set: owner, security.capability"
    assert re.search(f"^skipped: +{re.escape(told)}$", store.ok("image", "inspect", "a"), re.MULTILINE)
    assert store.json("image", "inspect", "a")["skipped"] == told
    ended = store.run("image", "import", source, "b")
    assert (ended.status, ended.stderr) == (
        0,
        f"unionfs: b:latest: {told}; import it as root, or with subordinate ids (/etc/subuid)\n",
    )
    # What it could not set is no damage.
    assert store.json("layer", "verify")[0]["problem"] is None


# -- inspect --------------------------------------------------------------------------------------------------------------


def test_inspect_shows_config_and_layers(store: StoreCommands) -> None:
    digest = store.import_("site/web:1.0", BASE, TOP)
    shown = store.ok("image", "inspect", digest[7:15])
    for line in (
        rf"id: +{digest}",
        r"names: +site/web:1\.0",
        r"created: +2024-05-06 07:08:09",
        r"size: +50kB",
        r'Cmd: +\["/bin/sh"\]',
    ):
        assert re.search(f"^{line}$", shown, re.MULTILINE), line
    # The topmost first, as they lie on each other.
    assert re.findall(r"^sha256:\S+", shown, re.MULTILINE) == [digest_of(TOP), digest_of(BASE)]
    described = store.json("image", "inspect", "site/web:1.0")
    assert described["config"]["config"] == {"Cmd": ["/bin/sh"], "Env": ["A=b"]}
    assert described["layers"][0] == {"diff_id": digest_of(BASE), "size": SIZE_OF_BASE, "tar_size": len(BASE)}
    assert (described["containers"], described["skipped"], described["platform"]) == ([], None, "linux/amd64")


@pytest.mark.parametrize("arguments", [["inspect", "none"], ["rm", "none"], ["tag", "none", "a"], ["export", "none", "x"]])
def test_image_that_is_not_there_is_named(store: StoreCommands, arguments: list[str]) -> None:
    assert store.refusal("image", *arguments) == "none: no such image; unionfs image ls shows those there are"


@pytest.mark.parametrize("command", ["import", "pull", "inspect", "rm", "export", "tag"])
def test_missing_arguments_are_wrong_usage(store: StoreCommands, command: str) -> None:
    line = store.refusal("image", command, status=2)
    assert line.startswith("Missing argument")
    assert line.endswith(f"; unionfs image {command} --help tells how")


# -- tag, rm, prune -------------------------------------------------------------------------------------------------------


def test_tag_gives_one_more_name(store: StoreCommands) -> None:
    digest = store.import_("a", BASE)
    assert store.ok("image", "tag", "a", "site/b:2") == f"site/b:2: {digest}\n"
    assert names(store) == [["a:latest", "site/b:2"]]
    other = store.import_("c", TOP)
    assert store.ok("image", "tag", "c", "site/b:2").splitlines()[1].startswith(f"site/b:2 was {digest[7:19]} before")
    assert store.json("image", "inspect", "site/b:2")["id"] == other
    assert store.refusal("image", "tag", "a", "B!", status=2).startswith("B!: ")


def test_rm_takes_names_away_and_with_the_last_one_the_image(store: StoreCommands) -> None:
    digest = store.import_("a", BASE)
    store.ok("image", "tag", "a", "b")
    assert store.ok("image", "rm", "a") == "untagged: a:latest\n"
    assert len(store.json("layer", "ls")) == 1
    assert store.ok("image", "rm", "b") == f"untagged: b:latest\ndeleted: {digest}\n"
    assert store.json("layer", "ls") == []


def test_rm_by_id_of_an_image_with_several_names_needs_force(store: StoreCommands) -> None:
    digest = store.import_("a", BASE)
    store.ok("image", "tag", "a", "b")
    line = store.refusal("image", "rm", digest)
    assert line.endswith("has several names: a:latest, b:latest; remove one by one, or use --force to remove all")
    assert store.ok("image", "rm", "-f", digest) == f"untagged: a:latest\nuntagged: b:latest\ndeleted: {digest}\n"


def test_rm_of_several_removes_those_before_the_one_that_is_not_there(store: StoreCommands) -> None:
    store.import_("a", BASE)
    store.import_("b", TOP)
    ended = store.run("image", "rm", "a", "none", "b")
    assert (ended.status, ended.stderr) == (1, "unionfs: none: no such image; unionfs image ls shows those there are\n")
    assert ended.stdout.startswith("untagged: a:latest\n")
    assert len(store.json("layer", "ls")) == 1
    assert names(store) == [["b:latest"]]


def test_prune_removes_images_without_a_name_and_with_all_the_others_too(store: StoreCommands) -> None:
    nameless = store.import_("a", BASE)
    kept = store.import_("a", OTHER)
    assert store.ok("image", "prune") == f"deleted: {nameless}\nfreed 50kB\n"
    assert names(store) == [["a:latest"]]
    assert store.json("image", "prune") == {"images": [], "freed": 0}
    assert store.json("image", "prune", "--all") == {"images": [kept], "freed": 7_000}
    assert store.json("layer", "ls") == []


# -- export ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "mark"), [("oci", "oci-layout"), ("oci-dir", "oci-layout"), ("docker", "manifest.json")])
def test_export_writes_the_format_that_is_asked_for(store: StoreCommands, tmp_path: Path, kind: str, mark: str) -> None:
    digest = store.import_("a", BASE, TOP)
    assert store.ok("image", "export", "--format", kind, "a", tmp_path / "out") == ""
    if kind == "oci-dir":
        found = os.listdir(tmp_path / "out")
    else:
        with tarfile.open(tmp_path / "out") as archive:
            found = archive.getnames()
    assert mark in found
    assert store.ok("image", "import", tmp_path / "out", "b") == f"b:latest: {digest}\n"


def test_export_has_the_name_that_was_asked_for_or_all(store: StoreCommands, tmp_path: Path) -> None:
    digest = store.import_("a", BASE)
    store.ok("image", "tag", "a", "b:2")
    for number, (asked, expected) in enumerate((("a", ["a:latest"]), ("b:2", ["b:2"]), (digest, ["a:latest", "b:2"]))):
        target = tmp_path / str(number)
        store.ok("image", "export", "--format", "docker", asked, target)
        with tarfile.open(target) as archive:
            manifest = archive.extractfile("manifest.json")
            assert manifest is not None
            assert json.load(manifest)[0]["RepoTags"] == expected


def test_export_refuses_what_is_there_and_a_format_that_is_none(store: StoreCommands, tmp_path: Path) -> None:
    store.import_("a", BASE)
    (tmp_path / "out").write_text("mine")
    line = store.refusal("image", "export", "a", tmp_path / "out")
    assert line == f"{tmp_path}/out: is there already; name another file, or remove it first"
    assert (tmp_path / "out").read_text() == "mine"
    assert "'--format'" in store.refusal("image", "export", "--format", "zip", "a", tmp_path / "new", status=2)
    assert store.refusal("image", "export", "a", tmp_path / "none/out") == f"{tmp_path}/none: No such file or directory"


def test_exported_file_is_readable_as_the_umask_lets_it(store: StoreCommands, tmp_path: Path) -> None:
    store.import_("a", BASE)
    for kind, mode in (("oci", 0o640), ("oci-dir", 0o750)):
        command = f"umask 027; exec unionfs image export --format {kind} a {tmp_path}/{kind}"
        subprocess.run(["sh", "-c", command], env=store.environment, check=True, timeout=60)
        assert os.stat(tmp_path / kind).st_mode & 0o7777 == mode


# -- pull -----------------------------------------------------------------------------------------------------------------


def test_pull_from_a_registry_names_the_image_after_it(store: StoreCommands, tmp_path: Path) -> None:
    with registry(layout(tmp_path / "layout", BASE, TOP)) as (host, _):
        told = store.ok("image", "pull", "--tls-verify=false", f"{host}/site/web:1.0")
        assert told.startswith(f"{host}/site/web:1.0: sha256:")
        store.ok("image", "pull", "--tls-verify", "false", f"docker://{host}/site/web:1.0", "mine")
    (listed,) = store.json("image", "ls")
    assert listed["names"] == [f"{host}/site/web:1.0", "mine:latest"]
    assert [layer["diff_id"] for layer in store.json("image", "inspect", "mine")["layers"]] == [digest_of(BASE), digest_of(TOP)]


def test_pull_takes_the_credentials_of_a_file(store: StoreCommands, tmp_path: Path) -> None:
    with registry(layout(tmp_path / "layout", BASE), with_password=True) as (host, _):
        arguments = ["image", "pull", "--tls-verify=false", f"{host}/a"]
        line = store.refusal(*arguments)
        assert "skopeo copy failed" in line
        assert "skopeo login" in line
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        authfile = tmp_path / "auth.json"
        authfile.write_text(json.dumps({"auths": {host: {"auth": token}}}))
        store.ok(*arguments, "--authfile", authfile)
    assert names(store) == [[f"{host}/a:latest"]]


def test_pull_insists_on_tls_unless_told_otherwise(store: StoreCommands, tmp_path: Path) -> None:
    with registry(layout(tmp_path / "layout", BASE)) as (host, _):
        assert "skopeo copy failed" in store.refusal("image", "pull", f"{host}/a")
    assert store.json("image", "ls") == []


@pytest.mark.parametrize("transport", ["oci", "oci-archive", "docker-archive", "dir"])
def test_pull_reads_the_other_transports_of_skopeo(store: StoreCommands, tmp_path: Path, transport: str) -> None:
    made = layout(tmp_path / "layout", BASE)
    source = made
    if transport == "docker-archive":
        source = docker_archive(tmp_path / "a.tar", BASE)
    elif transport != "oci":
        source = tmp_path / "copy"
        subprocess.run(["skopeo", "copy", "-q", f"oci:{made}", f"{transport}:{source}"], check=True, timeout=60)
    assert store.ok("image", "pull", f"{transport}:{source}", "a").startswith("a:latest: sha256:")
    assert [layer["diff_id"] for layer in store.json("image", "inspect", "a")["layers"]] == [digest_of(BASE)]


def test_pull_of_what_makes_no_name_asks_for_one(store: StoreCommands) -> None:
    line = store.refusal("image", "pull", "oci:/somewhere", status=2)
    assert line.endswith("; give one: unionfs image pull oci:/somewhere NAME[:TAG]")


def test_pull_on_a_terminal_shows_how_far_it_is(store: StoreCommands, tmp_path: Path) -> None:
    shown = store.on_terminal("image", "pull", f"oci:{layout(tmp_path / 'layout', BASE)}", "a")
    assert "Copying" in shown
    assert f"layer {digest_of(BASE).short}" in shown


def test_killed_pull_takes_skopeo_along_and_leaves_what_gc_removes(store: StoreCommands, tmp_path: Path) -> None:
    mark = os.fsencode(store.root / "staging")
    with registry(layout(tmp_path / "layout", BASE), stalls=True) as (host, asked):
        with store.started("image", "pull", "--tls-verify=false", f"{host}/a") as process:
            assert asked.wait(60)
            process.kill()
        wait_until(lambda: not any(mark in command for command in command_lines()), "the end of skopeo")
    assert store.json("image", "ls") == []
    assert len(store.json("gc")["staging"]) == 1
    assert os.listdir(store.root / "staging") == []


def test_pull_with_bad_options_is_wrong_usage(store: StoreCommands, tmp_path: Path) -> None:
    assert "'--tls-verify'" in store.refusal("image", "pull", "--tls-verify=maybe", "a", status=2)
    assert "'--authfile'" in store.refusal("image", "pull", "--authfile", tmp_path / "none", "a", status=2)
