"""Deaths that once left something wrong: what must be so instead."""

from __future__ import annotations

from pathlib import Path

from tests.faults.operations import LINKED, OPERATIONS, Operation
from tests.takeover.more_operations import MORE
from tests.takeover.trials import Death, differences, run
from unionfs.overlay import Options

_PLAIN = Options(fsync="volatile")
_INDEX = Options(fsync="volatile", index="on")


def _wrong(top: Path, options: Options, operation: Operation, before: str) -> list[str]:
    """What is wrong after deaths before each of the steps of that name."""
    reference = run(top / "reference", options, operation)
    places = [at for at, step in enumerate(reference.steps) if step == before]
    assert places, reference.steps
    return [problem for at in places for problem in differences(run(top / str(at), options, operation, Death((at,))), reference)]


def _wrong_after_two(top: Path, operation: Operation, before: str, then: range, which: int = -1) -> list[str]:
    """What is wrong after a death before a step of that name (``which`` of them: the last), and one of the next worker before
    each of its steps ``then``."""
    reference = run(top / "reference", _PLAIN, operation)
    at = [at for at, step in enumerate(reference.steps) if step == before][which]
    runs = [run(top / str(second), _PLAIN, operation, Death((at, second))) for second in then]
    assert max(len(found.deaths) for found in runs) == 2
    return [problem for found in runs for problem in differences(found, reference)]


def test_listing_of_a_lower_directory_keeps_its_order_over_the_death_that_leaves_its_first_upper_name(tmp_path: Path) -> None:
    assert _wrong(tmp_path, _PLAIN, OPERATIONS["link of a lower file"], "journal number 0") == []


def test_descriptor_for_a_removal_that_did_not_come_to_pass_is_closed(tmp_path: Path) -> None:
    assert _wrong(tmp_path, _PLAIN, OPERATIONS["unlink of a copied-up file"], "rename") == []


def test_count_of_names_is_right_after_a_death_between_linking_an_indexed_file_up_and_settling(tmp_path: Path) -> None:
    assert _wrong(tmp_path, _INDEX, LINKED["unlink of a name that was not copied up"], "setxattr") == []


def test_indexed_file_whose_last_name_went_with_its_worker_can_be_used(tmp_path: Path) -> None:
    assert _wrong(tmp_path, _INDEX, LINKED["unlink of the last name"], "unlink") == []


def test_descriptor_of_an_unnamed_file_that_got_a_name_with_the_death_is_closed(tmp_path: Path) -> None:
    assert _wrong(tmp_path, _PLAIN, OPERATIONS["link of an unnamed file"], "journal number 0") == []


def test_attribute_that_a_removed_file_got_with_the_death_is_not_made_again(tmp_path: Path) -> None:
    assert _wrong(tmp_path, _PLAIN, MORE["attribute of a removed file"], "a write") == []


def test_times_of_a_directory_are_given_back_once_though_the_next_worker_dies_as_well(tmp_path: Path) -> None:
    """What the second one has done in the directory after that has moved them."""
    operation = OPERATIONS["rename of a lower directory, same parent"]
    assert _wrong_after_two(tmp_path, operation, "journal number 8", range(20)) == []


def test_removed_file_is_known_though_the_next_worker_dies_before_that_is_written_down(tmp_path: Path) -> None:
    """What the first one had prepared must not be written over before it counts."""
    assert _wrong_after_two(tmp_path, OPERATIONS["unlink of a lower file"], "journal number 0", range(16)) == []


def test_lookup_whose_answer_was_lost_counts_once_though_the_next_worker_dies_as_well(tmp_path: Path) -> None:
    assert _wrong_after_two(tmp_path, MORE["lookup"], "a write", range(0, 24, 2), which=0) == []
