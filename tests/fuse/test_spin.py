from __future__ import annotations

from unionfs.fuse.spin import Spin

WINDOW_US = 300
MICROSECOND = 1000


class Client:
    """Requests at given distances, on a clock of its own."""

    def __init__(self, spin: Spin) -> None:
        self.spin = spin
        self.now = 0

    def send(self, gap_us: int, count: int = 1) -> None:
        for _ in range(count):
            self.spin.idle(self.now)
            self.now += gap_us * MICROSECOND
            self.spin.arrived(self.now)

    def is_waited_for(self) -> bool:
        self.spin.idle(self.now)
        return self.spin.may_continue(self.now)


def test_nothing_is_waited_for_before_the_first_burst() -> None:
    assert not Client(Spin(WINDOW_US, cpus=2)).is_waited_for()


def test_requests_in_a_burst_are_waited_for() -> None:
    client = Client(Spin(WINDOW_US, cpus=2))
    client.send(gap_us=20, count=10)
    assert client.is_waited_for()


def test_waiting_ends_with_the_window() -> None:
    client = Client(Spin(WINDOW_US, cpus=2))
    client.send(gap_us=20, count=10)
    client.spin.idle(client.now)
    assert client.spin.may_continue(client.now + (WINDOW_US - 1) * MICROSECOND)
    assert not client.spin.may_continue(client.now + WINDOW_US * MICROSECOND)


def test_requests_further_apart_than_the_window_are_not_waited_for() -> None:
    client = Client(Spin(WINDOW_US, cpus=2))
    client.send(gap_us=20, count=100)
    client.send(gap_us=1000, count=3)
    assert not client.is_waited_for()


def test_a_burst_after_an_hour_is_recognised_after_a_few_requests() -> None:
    client = Client(Spin(WINDOW_US, cpus=2))
    client.send(gap_us=3_600_000_000)
    client.send(gap_us=20, count=10)
    assert client.is_waited_for()


def test_one_cpu_never_waits() -> None:
    client = Client(Spin(WINDOW_US, cpus=1))
    client.send(gap_us=20, count=100)
    assert not client.is_waited_for()


def test_window_of_zero_never_waits() -> None:
    client = Client(Spin(0, cpus=2))
    client.send(gap_us=0, count=100)
    assert not client.is_waited_for()


def test_who_gives_way_waits_for_nothing_until_requests_have_come_fast_for_a_while() -> None:
    client = Client(Spin(WINDOW_US, cpus=2))
    client.send(gap_us=20, count=10)
    client.spin.give_way()
    assert not client.is_waited_for()
    client.send(gap_us=20)
    assert not client.is_waited_for()
    client.send(gap_us=20, count=20)
    assert client.is_waited_for()
