from __future__ import annotations

import errno

import pytest

from unionfs.filesystem import ROOT_ID
from unionfs.fuse.pyfuse3_node_ids import NodeIds


def test_id_is_the_inode_number() -> None:
    ids = NodeIds()
    assert ids.look_up(node=2, ino=700) == 700
    assert ids.node(700) == 2
    assert ids.known_id(2) == 700


def test_root_is_known_from_the_start_and_for_ever() -> None:
    ids = NodeIds()
    assert ids.look_up(ROOT_ID, ino=99) == ROOT_ID
    ids.forget(ROOT_ID, 5)
    assert ids.node(ROOT_ID) == ROOT_ID


def test_node_is_known_until_every_lookup_is_taken_back() -> None:
    ids = NodeIds()
    ids.look_up(2, 700)
    ids.look_up(2, 700)
    assert ids.forget(700, 1) == 2
    assert ids.node(700) == 2
    assert ids.forget(700, 1) == 2
    with pytest.raises(OSError, match="Stale") as caught:
        ids.node(700)
    assert caught.value.errno == errno.ESTALE
    assert ids.known_id(2) is None
    assert len(ids) == 1


@pytest.mark.parametrize("ino", [0, ROOT_ID, 700])
def test_taken_number_is_replaced_by_a_spare_one(ino: int) -> None:
    ids = NodeIds()
    ids.look_up(2, 700)
    first, second = ids.look_up(3, ino), ids.look_up(4, ino)
    assert len({first, second, 700, ROOT_ID, 0}) == 5
    assert [ids.node(first), ids.node(second), ids.node(700)] == [3, 4, 2]


def test_spare_number_never_meets_a_real_one() -> None:
    ids = NodeIds()
    ids.look_up(2, 700)
    spare = ids.look_up(3, 700)
    ids.look_up(4, spare + 1)
    assert ids.look_up(5, 700) not in {spare, spare + 1, 700}


def test_number_is_free_again_when_its_node_is_forgotten() -> None:
    ids = NodeIds()
    ids.look_up(2, 700)
    ids.forget(700, 1)
    assert ids.look_up(3, 700) == 700


def test_stand_in_is_nobodys_id_and_gone_when_it_is_forgotten() -> None:
    ids = NodeIds()
    kernel_id = ids.look_up(5, 100)
    stand_ins = [ids.stand_in(), ids.stand_in()]
    assert len({kernel_id, *stand_ins}) == 3
    for stand_in in stand_ins:
        ids.forget(stand_in, 1)
    assert len(ids) == 2
    assert ids.node(kernel_id) == 5
