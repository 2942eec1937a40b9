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


class Lane:
    """What works wait for."""


def test_works_of_a_lane_leave_threads_to_all_others() -> None:
    gate = threading.Event()

    async def main() -> object:
        works, lane = BlockingWorks(), Lane()

        async def wait() -> None:
            await works.finish(Blocking(lambda: gate.wait(10), lane=lane))

        async with trio.open_nursery() as nursery:
            for _ in range(trio.to_thread.current_default_thread_limiter().total_tokens * 2):  # type: ignore[arg-type]
                nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            result = await works.finish(Blocking(lambda: "another", restart=False))
            other = await works.finish(Blocking(lambda: "other lane", restart=False, lane=Lane()))
            gate.set()
        return result, other

    assert trio.run(main) == ("another", "other lane")


def test_who_waits_for_a_work_of_a_lane_may_leave_and_the_others_get_its_result() -> None:
    gate = threading.Event()

    async def main() -> list[object]:
        works, results = BlockingWorks(), list[object]()
        blocking = Blocking(lambda: gate.wait(10), restart=False, lane=Lane())

        async def wait() -> None:
            results.append(await works.finish(blocking))

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as first:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                first.cancel()
                await works.finish(blocking)
            assert first.cancelled_caught
            gate.set()
        return results

    assert trio.run(main) == [True]


def test_run_ends_though_a_work_of_a_lane_does_not() -> None:
    gate = threading.Event()

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await BlockingWorks().finish(Blocking(lambda: gate.wait(10), lane=Lane()))

    trio.run(main)
    gate.set()


def test_call_runs_what_a_method_asks_for_and_calls_it_again() -> None:
    done: list[int] = []

    def method(number: int) -> str:
        if not done:
            raise Blocking(lambda: done.append(number))
        if len(done) < 2:
            raise Blocking(lambda: f"result {done}", restart=False)
        raise AssertionError

    assert trio.run(BlockingWorks().call, method, 5) == "result [5]"
