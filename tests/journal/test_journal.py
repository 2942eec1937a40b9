"""What a journal says after its writer ended: of requests that were carried out, or about to be, and of what was put off."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.fake_filesystem import FakeFilesystem
from unionfs.filesystem import Opened
from unionfs.fuse import wire
from unionfs.fuse.backing import BackingFiles
from unionfs.fuse.intents import intents_of
from unionfs.fuse.negotiation import negotiate
from unionfs.fuse.protocol import InitFlag, Opcode
from unionfs.fuse.session import SessionSettings
from unionfs.journal import records, storage
from unionfs.journal.journal import Finished, Journal
from unionfs.journal.records import Act, Kind
from unionfs.journal.recovered import Recovered, read_journal
from unionfs.journal.storage import HEAD, IN_PLACE, WHOLE, Answer, JournalFile, new_journal

_NEGOTIATED = negotiate(wire.InitRequest(7, 44, 1 << 17, InitFlag(sum(InitFlag))), SessionSettings(), may_register_backing=True)


@pytest.fixture
def fd() -> Iterator[int]:
    fd = new_journal()
    yield fd
    os.close(fd)


def recovered(fd: int) -> Recovered:
    """What another worker reads."""
    return read_journal(JournalFile(fd), intents_of(_NEGOTIATED))


def read_request(journal: Journal, unique: int, opcode: Opcode, node: int, body: bytes) -> None:
    """As if the kernel had sent it."""
    assert journal.request is not None
    size = wire.REQUEST_HEADER.size + len(body)
    journal.request[:size] = wire.REQUEST_HEADER.pack(size, opcode, unique, node, 0, 0, 1, 0) + body


def commit(journal: Journal, unique: int, record: bytes) -> None:
    journal.touched[Finished(record)] = None
    journal.commit(unique, Answer.DONE)


# -- intents ------------------------------------------------------------------------------------------------------------------


def test_what_is_intended_is_what_the_request_asks_for(fd: int) -> None:
    journal = Journal(JournalFile(fd))
    read_request(journal, 8, Opcode.CREATE, 1, wire.CREATE_IN.pack(0, 0, 0, 0) + b"made\0")
    journal.intend(IN_PLACE)
    intent = recovered(fd).intent
    assert intent is not None
    assert (intent.unique, intent.act, intent.parent, intent.name) == (8, Act.CREATE, 1, b"made")


def test_intent_is_over_with_the_next_request(fd: int) -> None:
    journal = Journal(JournalFile(fd))
    read_request(journal, 8, Opcode.UNLINK, 1, b"name\0")
    journal.intend(WHOLE)
    read_request(journal, 10, Opcode.LOOKUP, 1, b"other\0")
    assert recovered(fd).intent is None


def test_intent_is_over_with_the_next_transaction(fd: int) -> None:
    journal = Journal(JournalFile(fd))
    read_request(journal, 8, Opcode.MKDIR, 1, wire.MKDIR_IN.pack(0o755, 0) + b"name\0")
    journal.intend(IN_PLACE)
    commit(journal, 8, records.node(2, 1, 1, b"name"))
    journal.note_gone(7)
    journal.flush()
    assert recovered(fd).intent is None


def test_failed_request_intends_nothing(fd: int) -> None:
    journal = Journal(JournalFile(fd))
    read_request(journal, 8, Opcode.UNLINK, 1, b"name\0")
    journal.intend_with((), Finished(records.node(2, 1, 1, b"name")).write)
    journal.retract()
    assert recovered(fd).intent is None
    commit(journal, 10, records.node(3, 1, 1, b"other"))
    assert set(recovered(fd).nodes) == {3}


def test_states_of_an_intent_hold_once_it_is_committed(fd: int) -> None:
    journal = Journal(JournalFile(fd))
    commit(journal, 6, records.node(2, 1, 1, b"old"))
    read_request(journal, 8, Opcode.RENAME, 1, wire.RENAME_IN.pack(1) + b"old\0new\0")
    journal.intend_with((), lambda window, at: records.write_moved_node(window, at, 77, 2, 1, 1, b"new"))
    before = recovered(fd)
    assert before.nodes[2].names == [(1, b"old")]
    assert before.intent is not None
    assert (before.intent.moved, before.intent.states[2].names) == (77, [(1, b"new")])
    commit(journal, 8, records.node(3, 1, 1, b"more"))
    after = recovered(fd)
    assert (after.nodes[2].names, after.nodes[3].names) == ([(1, b"new")], [(1, b"more")])
    assert list(after.replies) == [8]


def test_what_a_failed_request_prepared_at_the_end_of_a_segment_is_no_transaction(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_SEGMENT", 4096)
    journal = Journal(JournalFile(fd))
    for number in range(3):
        commit(journal, 2 + 2 * number, records.node(2 + number, 1, 1, b"%d" % number * 1200))
    read_request(journal, 20, Opcode.UNLINK, 1, b"name\0")
    journal.intend_with((), Finished(records.node(90, 1, 1, b"not")).write)
    journal.retract()
    commit(journal, 22, records.node(9, 1, 1, b"y" * 1200))
    assert set(recovered(fd).nodes) == {2, 3, 4, 9}


def test_transaction_that_was_written_and_does_not_count_was_not_prepared(fd: int) -> None:
    """Or the next worker would take it over, and write down the same once more: a name was listed twice."""
    file = JournalFile(fd)
    journal = Journal(file)
    read_request(journal, 8, Opcode.RENAME, 1, wire.RENAME_IN.pack(1) + b"old\0new\0")
    journal.intend(WHOLE)
    head = file.numbers[HEAD]
    commit(journal, 8, records.node(2, 1, 1, b"new"))
    file.numbers[HEAD] = head
    found = recovered(fd)
    assert found.intent is not None
    assert not found.intent.states
    journal = Journal(JournalFile(fd))
    journal.take_prepared(8)
    journal.flush()
    assert not recovered(fd).nodes


# -- what was put off ---------------------------------------------------------------------------------------------------------


def test_node_whose_name_another_one_has_was_forgotten(fd: int) -> None:
    journal = Journal(JournalFile(fd))
    commit(journal, 2, records.node(2, 1, 1, b"name"))
    journal.note_gone(2)
    commit(journal, 4, records.node(3, 1, 1, b"name"))
    found = recovered(fd)
    assert set(found.nodes) == {3}
    assert found.last_node == 3


def test_node_whose_name_another_one_has_had_was_forgotten(fd: int) -> None:
    """Or it would have the name again that the other one has lost, and whatever is given that name next would be lost."""
    journal = Journal(JournalFile(fd))
    commit(journal, 2, records.node(2, 1, 1, b"name"))
    journal.note_gone(2)
    commit(journal, 4, records.node(3, 1, 1, b"name"))
    commit(journal, 6, records.unnamed(3, 1, 33, 8, -1, b"/layer", b"file"))
    assert {node: state.names for node, state in recovered(fd).nodes.items()} == {3: []}


def test_nodes_that_change_their_names_in_one_transaction_keep_what_is_known_of_them(fd: int) -> None:
    journal = Journal(JournalFile(fd))
    commit(journal, 2, records.node(2, 1, 1, b"a") + records.order(2, 1, [b"in-a"]))
    commit(journal, 4, records.node(3, 1, 1, b"b") + records.order(3, 1, [b"in-b"]))
    commit(journal, 6, records.node(2, 1, 1, b"b") + records.node(3, 1, 1, b"a"))
    found = recovered(fd)
    assert {node: state.names for node, state in found.nodes.items()} == {2: [(1, b"b")], 3: [(1, b"a")]}
    assert found.orders == {2: {1: [b"in-a"]}, 3: {1: [b"in-b"]}}


def test_node_that_loses_its_name_in_the_transaction_in_which_another_one_gets_it_is_known_without(fd: int) -> None:
    journal = Journal(JournalFile(fd))
    commit(journal, 2, records.node(2, 1, 1, b"a"))
    commit(journal, 4, records.node(3, 1, 1, b"b"))
    commit(journal, 6, records.node(2, 1, 1, b"b") + records.unnamed(3, 1, 33, 8, -1, b"/layer", b"file"))
    assert {node: state.names for node, state in recovered(fd).nodes.items()} == {2: [(1, b"b")], 3: []}


def test_node_that_loses_its_name_before_it_is_told_what_it_is_then_stays_open(fd: int) -> None:
    """A rename over a name prepares what is known of that before it commits what a copy-up in between has changed."""
    journal = Journal(JournalFile(fd))
    commit(
        journal,
        2,
        records.node(2, 1, 1, b"a") + records.BACKING.pack(Kind.BACKING, records.BACKING.size, 2, 9, 99, 7, 1, False),
    )
    commit(journal, 4, records.node(3, 1, 1, b"a"))
    commit(journal, 4, records.succeeded(2, 1, 4))
    found = recovered(fd)
    assert (found.nodes[2].successor, found.backings[2].opens) == (4, 1)


def test_node_that_was_found_under_a_name_again_keeps_it(fd: int) -> None:
    journal = Journal(JournalFile(fd))
    commit(journal, 2, records.node(2, 1, 1, b"a"))
    commit(journal, 4, records.node(3, 1, 1, b"b"))
    journal.note_gone(3)
    commit(journal, 6, records.name(2, 1, b"b"))
    assert {node: state.names for node, state in recovered(fd).nodes.items()} == {2: [(1, b"a"), (1, b"b")]}


def test_what_was_gone_is_closed_once_that_is_written_down(fd: int) -> None:
    journal = Journal(JournalFile(fd))
    commit(journal, 2, records.node(2, 1, 1, b"name"))
    closed: list[tuple[int, set[int]]] = []
    journal.note_gone(2)
    journal.close_later(9, lambda number: closed.append((number, set(recovered(fd).nodes))))
    commit(journal, 4, records.node(3, 1, 1, b"other"))
    assert closed == []
    journal.flush()
    assert closed == [(9, {3})]


def test_listed_nodes_are_as_if_each_had_been_looked_up(fd: int) -> None:
    journal = Journal(JournalFile(fd))
    commit(journal, 2, records.run(5, 1, [b"a", b"b"]))
    assert {node: (state.nlookup, state.names) for node, state in recovered(fd).nodes.items()} == {
        5: (1, [(1, b"a")]),
        6: (1, [(1, b"b")]),
    }


# -- open files ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(
    fd: int, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Journal, BackingFiles]]:
    filesystem = FakeFilesystem(tmp_path_factory.mktemp("real"))
    filesystem.add(b"a")
    ids = iter(range(1, 100))
    monkeypatch.setattr("unionfs.fuse.backing.fcntl.ioctl", lambda _fd, _request, _argument: next(ids))
    journal = Journal(JournalFile(fd))
    yield journal, BackingFiles(-1, filesystem, journal)
    filesystem.close()


A = 2


def test_opening_a_file_again_that_was_read_changes_nothing(fd: int, files: tuple[Journal, BackingFiles]) -> None:
    journal, backing_files = files
    backing_files.acquire(A, Opened(0), writes=False)
    journal.commit(2, Answer.AGAIN)
    for _ in range(3):
        backing_files.release(A)
        backing_files.acquire(A, Opened(0), writes=False)
    assert not journal.touched
    assert recovered(fd).backings[A].opens == 1


def test_release_is_written_down_in_a_pause(fd: int, files: tuple[Journal, BackingFiles]) -> None:
    journal, backing_files = files
    backing_files.acquire(A, Opened(0), writes=False)
    journal.commit(2, Answer.AGAIN)
    backing_files.release(A)
    backing_files.note_released()
    journal.flush()
    assert (recovered(fd).backings[A].id, recovered(fd).backings[A].opens) == (1, 0)


def test_opening_a_file_for_writing_is_written_down_though_it_was_open(fd: int, files: tuple[Journal, BackingFiles]) -> None:
    journal, backing_files = files
    backing_files.acquire(A, Opened(0), writes=False)
    journal.commit(2, Answer.AGAIN)
    backing_files.release(A)
    backing_files.acquire(A, Opened(0), writes=True)
    journal.commit(4, Answer.AGAIN)
    assert recovered(fd).backings[A].is_written


def test_which_file_is_read_is_written_down_though_it_was_registered_by_a_writer(
    fd: int, files: tuple[Journal, BackingFiles]
) -> None:
    """A snapshot may freeze it, and a copy-up put another one in its place, and then the worker die."""
    journal, backing_files = files
    backing_files.acquire(A, Opened(0), writes=True)
    journal.commit(2, Answer.AGAIN)
    backing_files.release(A)
    backing_files.acquire(A, Opened(0), writes=False)
    backing_files.note_released(readers=False)
    journal.commit(4, Answer.AGAIN)
    found = recovered(fd).backings[A]
    assert (found.opens, found.is_written, found.ino != 0) == (1, False, True)


def test_node_that_counts_as_open_gives_its_id_back_when_it_is_forgotten(fd: int, files: tuple[Journal, BackingFiles]) -> None:
    journal, backing_files = files
    backing_files.acquire(A, Opened(0), writes=False)
    journal.commit(2, Answer.AGAIN)
    backing_files.forget(A, is_known=True)
    assert len(backing_files) == 1
    backing_files.forget(A)
    assert len(backing_files) == 0
    backing_files.note_released()
    journal.flush()
    found = recovered(fd)
    assert (found.backings, found.closed) == ({}, {1})
