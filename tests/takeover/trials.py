"""One trial: an operation in the midst of which the worker dies, and everything that must be as if it had not.

Two runs are compared, one of them undisturbed, by all that the kernel was answered: during the operation and afterwards, when it
asks about everything it knows.  Node ids and inode numbers are compared by where they appear first: no two runs have the same.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

from tests.faults.operations import Operation
from tests.faults.tree import OLD, Inos, State, make_stack, shown_by, shown_by_new
from tests.overlay.client import Client
from tests.takeover.backing import Backings
from tests.takeover.kernel import Answer, Kernel, decode_readdirplus
from tests.takeover.mount import Mount, Report
from tests.takeover.worker import DIED, STEP, Shortening
from unionfs.check.checked_stack import Directories
from unionfs.check.checker import check
from unionfs.filesystem import ROOT_ID, Attr
from unionfs.fuse import wire
from unionfs.fuse.protocol import Opcode
from unionfs.overlay import Options, Stack, Union

_ATTRS = len(Attr._fields)
_ENTRIES = (Opcode.LOOKUP, Opcode.SYMLINK, Opcode.MKNOD, Opcode.MKDIR, Opcode.LINK, Opcode.CREATE, Opcode.TMPFILE)
_NOW = -1


class Death(NamedTuple):
    """When workers die: each after so many steps, the first one counted from the beginning of the operation, the others from
    their own."""

    steps: tuple[int, ...]


@dataclass
class Run:
    """What came of one run.

    Attributes:
        steps: those of the operation, if nobody died.
        answers: what the kernel was answered, made comparable.
        shown: what a new union of the layers shows.
        deaths: before which steps workers died.
        resent: how many requests were sent again.
        answered: how many requests the last worker answered with what another one had kept.
        problems: what is wrong in itself.
        log: what else the workers said.
    """

    steps: list[str] = field(default_factory=list)
    answers: list[object] = field(default_factory=list)
    shown: tuple[State, Inos] = ({}, {})
    deaths: list[str] = field(default_factory=list)
    resent: int = 0
    answered: int = 0
    problems: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


def differences(run: Run, reference: Run) -> Iterator[str]:
    """What is wrong with a run, in words that tell where the worker died."""
    where = f"died before {', then before '.join(run.deaths)}"
    for problem in (*run.problems, *run.log):
        yield f"{where}: {problem}"
    for number, (found, wanted) in enumerate(zip(run.answers, reference.answers, strict=False)):
        if found != wanted:
            yield f"{where}: answer {number} is {found} and not {wanted}"
            return
    if len(run.answers) != len(reference.answers):
        yield f"{where}: {len(run.answers)} answers and not {len(reference.answers)}"
    for path in sorted({*run.shown[0], *reference.shown[0]}):
        if run.shown[0].get(path) != reference.shown[0].get(path):
            yield f"{where}: a new mount shows {path} as {run.shown[0].get(path)} and not {reference.shown[0].get(path)}"


def run(
    top: Path,
    options: Options,
    operation: Operation,
    death: Death | None = None,
    *,
    looks: bool = True,
    shortening: Shortening = "seldom",
    passthrough: bool = False,
) -> Run:
    """Carry out ``operation`` on new layers under ``top``; ``looks``: the kernel knows everything before."""
    stack = make_stack(top, operation.linked)
    union = Union(stack, options)
    operation.prepare(Client(union))
    union.close()
    result = Run()
    backings = Backings() if passthrough else None
    mount = Mount(stack, options, shortening, backings)
    try:
        _use(mount, operation, death, result, looks)
    except AssertionError as error:
        result.problems.append(f"assertion: {error}")
    finally:
        _take_log(mount, result)
        left = mount.end()
    if left:
        result.problems.append(f"descriptors left open: {left}")
    if backings is not None and backings.registered:
        result.problems.append(f"backing ids left registered: {backings.registered}")
    _look_at_layers(stack, options, result)
    shutil.rmtree(top)
    return result


def _take_log(mount: Mount, result: Run) -> None:
    result.resent = mount.kernel.resent
    for line in mount.log():
        if line.startswith(STEP):
            result.steps.append(line.removeprefix(STEP))
        elif line.startswith(DIED):
            result.deaths.append(line.removeprefix(DIED))
        else:
            result.log.append(line)


def _use(mount: Mount, operation: Operation, death: Death | None, result: Run, looks: bool) -> None:
    kernel = mount.kernel
    client = Client(cast(Union, kernel))
    operation.begin(client)
    call = operation.bind(client)
    if looks:
        shown_by(client)
    known = kernel.nodes
    before = len(kernel.answers)
    if death is not None:
        mount.deaths = list(death.steps[1:])
    mount.fate.arm(death.steps[0] if death is not None else -1)
    with contextlib.suppress(OSError):  # it is among the answers
        call()
    mount.fate.disarm()
    after = len(kernel.answers)
    _ask_everything(kernel, client, known)
    _count(kernel, mount.report(), result)
    result.answers = list(_comparable(kernel.answers[:before], kernel.answers[before:after], kernel.answers[after:]))
    kernel.forget_all()
    nodes = mount.report().nlookup
    if set(nodes) != {ROOT_ID} and not (kernel.forgotten and mount.died):
        result.problems.append(f"nodes {sorted(nodes)} stay though all were forgotten")


def _ask_everything(kernel: Kernel, client: Client, known: list[int]) -> None:
    """About what was known before, by its node, then about all that is there, by its names."""
    for node in known:
        with contextlib.suppress(OSError):  # it is among the answers
            attr = kernel.getattr(node)
            if stat.S_ISREG(attr.mode):
                kernel.read(node, 0, 1 << 16)
            elif stat.S_ISLNK(attr.mode):
                kernel.readlink(node)
            elif stat.S_ISDIR(attr.mode):
                list(kernel.readdir(node, 0))
    shown_by(client)


def _count(kernel: Kernel, report: Report, result: Run) -> None:
    result.answered = report.answered
    counted = {node: nlookup for node, nlookup in report.nlookup.items() if nlookup}
    for node in sorted({*counted, *kernel.nlookup}):
        lost = node in kernel.forgotten and counted.get(node, 0) > kernel.nlookup[node]
        if counted.get(node, 0) != kernel.nlookup[node] and not lost:
            result.problems.append(f"node {node} was looked up {kernel.nlookup[node]} times and counts {counted.get(node, 0)}")


def _look_at_layers(stack: Stack, options: Options, result: Run) -> None:
    assert stack.upper is not None
    assert stack.work is not None
    result.shown = shown_by_new(stack, options)
    found = check(Directories(stack.upper, None, stack.lowers))
    Union(stack, options).close()
    left = os.listdir(stack.work / "work")
    if left:
        result.problems.append(f"the next mount leaves {left} in the work directory")
    found += check(Directories(stack.upper, stack.work, stack.lowers))
    result.problems += [f"`unionfs check` finds: {outcome.finding.problem}" for outcome in found if outcome.is_left]


# -- making answers comparable ------------------------------------------------------------------------------------------------


class _Labels(dict[int, str]):
    """A name for each number, by its first appearance."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def __missing__(self, number: int) -> str:
        self[number] = label = f"{self._kind}{len(self)}"
        return label


class _Comparable:
    def __init__(self) -> None:
        self._nodes = _Labels("node")
        self._inos = _Labels("ino")
        self._backings = _Labels("backing")

    def of(self, answer: Answer) -> tuple[str, str, object]:
        opcode, error, payload = answer
        if error:
            return opcode.name, errno.errorcode[error], b""
        return opcode.name, "", self._payload(opcode, payload)

    def _payload(self, opcode: Opcode, payload: bytes) -> object:
        if opcode in _ENTRIES:
            node, generation, *rest = wire.ENTRY_OUT.unpack_from(payload)
            opened = payload[wire.ENTRY_OUT.size :] and self._opened(payload[wire.ENTRY_OUT.size :])
            return self._nodes[node], generation, rest[:4], self._attr(rest[4:]) if node else None, opened
        if opcode is Opcode.OPEN:
            return self._opened(payload)
        if opcode in (Opcode.GETATTR, Opcode.SETATTR):
            seconds, nanoseconds, *rest = wire.ATTR_OUT.unpack(payload)
            return seconds, nanoseconds, self._attr(rest)
        if opcode is Opcode.READDIRPLUS:
            return [
                (row.name, row.kind, row.entry and (self._nodes[row.entry.node], self._attr(list(row.entry.attr))))
                for row in decode_readdirplus(payload)
            ]
        if opcode is Opcode.READDIR:
            return list(self._dirents(payload))
        return payload

    def _dirents(self, payload: bytes) -> Iterator[tuple[str, bytes, int]]:
        at = 0
        while at < len(payload):
            ino, _, length, kind = wire.DIRENT.unpack_from(payload, at)
            at += wire.DIRENT.size
            yield self._inos[ino], payload[at : at + length], kind
            at += length + wire.padding(length)

    def _opened(self, payload: bytes) -> tuple[int, int, str]:
        handle, flags, backing_id = wire.OPEN_OUT.unpack(payload)
        return handle, flags, self._backings[backing_id] if backing_id else ""

    def _attr(self, fields: list[int]) -> tuple[object, ...]:
        attr = Attr(*fields[-_ATTRS:])
        is_directory = stat.S_ISDIR(attr.mode)
        mtime = attr.mtime * 10**9 + attr.mtimensec
        return (
            self._inos[attr.ino],
            attr.mode,
            (attr.uid, attr.gid),
            bool(attr.nlink) if is_directory else attr.nlink,
            None if is_directory else attr.size,
            mtime if mtime % OLD == 0 else _NOW,
            attr.rdev,
        )


def _comparable(*parts: list[Answer]) -> Iterator[object]:
    """The answers of the parts of a run but the first, which gives the numbers their names."""
    comparable = _Comparable()
    for number, answers in enumerate(parts):
        for answer in answers:
            found = comparable.of(answer)
            if number:
                yield found
