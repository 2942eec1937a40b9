from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest
import trio
import trio.testing

from unionfs.filesystem import Blocking
from unionfs.fuse.blocking import BlockingWorks


def fails_with(error: Exception) -> Callable[[], object]:
    def work() -> object:
        raise error

    return work


def test_work_runs_in_another_thread_and_its_result_comes_back() -> None:
    async def main() -> object:
        return await BlockingWorks().finish(Blocking(threading.current_thread, restart=False))

    assert trio.run(main) is not threading.current_thread()


def test_requests_that_raise_the_same_work_share_one_run() -> None:
    runs: list[int] = []
    all_waiting = threading.Event()

    def work() -> int:
        assert all_waiting.wait(10)
        runs.append(1)
        return len(runs)

    async def main() -> list[int]:
        works = BlockingWorks()
        results: list[int] = []

        async def request() -> None:
            results.append(await works.finish(Blocking(work, restart=False)))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(request)
            await trio.testing.wait_all_tasks_blocked()
            assert len(works) == 1
            all_waiting.set()
        assert len(works) == 0
        return results

    assert trio.run(main) == [1, 1, 1]


def test_error_of_work_with_restart_is_left_to_the_second_call() -> None:
    async def main() -> None:
        await BlockingWorks().finish(Blocking(fails_with(OSError(errno.ENOSPC, "full"))))

    trio.run(main)


def test_error_of_work_without_restart_is_the_result() -> None:
    async def main() -> None:
        await BlockingWorks().finish(Blocking(fails_with(OSError(errno.ENOSPC, "full")), restart=False))

    with pytest.raises(OSError, match="full"):
        trio.run(main)


@pytest.mark.parametrize("restart", [True, False])
def test_bug_in_work_is_never_swallowed(restart: bool) -> None:
    async def main() -> None:
        await BlockingWorks().finish(Blocking(fails_with(ZeroDivisionError("bug")), restart))

    with pytest.raises(ZeroDivisionError):
        trio.run(main)
