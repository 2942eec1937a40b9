"""Rules for every test of the suite.

* In CI (environment variable ``CI`` set) a skip is a failure: there nothing may be left out for lack of root, FUSE or a tool.
* A test that hangs is ended: by pytest-timeout, and where the process waits for a dead FUSE server by `tests.watchdog`.
* A test that leaves a signal with another handler fails, and the handler is put back.
* A test that leaves a mount behind under its ``tmp_path`` fails, and the mount is taken away.
* A test fails when something logged an error (in this process, or in the daemon of a mount) that it did not declare by
  ``@pytest.mark.expects_log_error(REGEX)``.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import preloaded
from tests.daemon_logs import DaemonLogs
from tests.mounts import mounts_under, tear_down
from tests.schedule import WORKERS
from tests.workers import Distributor, shorten_basetemp

IN_CI = bool(os.environ.get("CI"))

ABORT_GRACE = 5.0
"""Seconds after pytest-timeout's limit: by then only an aborted connection helps."""

_watchdog = pytest.StashKey[subprocess.Popen[bytes]]()
_limit = pytest.StashKey[float]()

hypothesis.settings.register_profile("default", deadline=None)  # a busy machine is no failure
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if IN_CI else "default")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "expects_log_error(regex): the test makes something log an error that matches")
    config.pluginmanager.register(Distributor())
    shorten_basetemp(config)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell lets what it starts in the background ignore ctrl-C, which all that we start would inherit.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """As many workers as ``-n auto`` means; called before `pytest_configure`."""
    return WORKERS


# -- skips ----------------------------------------------------------------------------------------------------------


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if IN_CI and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure in CI: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report


# -- signals ----------------------------------------------------------------------------------------------------------


_WATCHED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)


@pytest.fixture(autouse=True)
def _signals_stay_as_they_were() -> Iterator[None]:
    """What one test lets its process ignore would be ignored in all that follow: they wait for ever for a ctrl-C, say."""
    before = [signal.getsignal(number) for number in _WATCHED_SIGNALS]
    yield
    changed = []
    for number, handler in zip(_WATCHED_SIGNALS, before, strict=True):
        if signal.getsignal(number) != handler:
            changed.append(number.name)
            signal.signal(number, handler)
    assert not changed, f"the test has left other handlers of {', '.join(changed)}"


# -- hung and left mounts ---------------------------------------------------------------------------------------------


def _tell_watchdog(config: pytest.Config, message: str) -> None:
    watchdog = config.stash.get(_watchdog, None)
    if watchdog is not None and watchdog.stdin is not None:
        watchdog.stdin.write(f"{message}\n".encode())
        watchdog.stdin.flush()


def _set_watchdog(config: pytest.Config, seconds: float) -> None:
    # The timer of the first test is set before any fixture: the watchdog, once it runs, gets the limit from here.
    config.stash[_limit] = seconds
    _tell_watchdog(config, f"{seconds}")


def pytest_timeout_set_timer(item: pytest.Item, settings: object) -> None:
    """Called by pytest-timeout; returns None, so that its own timer is set as well."""
    _set_watchdog(item.config, getattr(settings, "timeout", 0.0) + ABORT_GRACE)


def pytest_timeout_cancel_timer(item: pytest.Item) -> None:
    _set_watchdog(item.config, 0.0)


@pytest.fixture(scope="session", autouse=True)
def _no_mount_outlives_the_session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    directory = tmp_path_factory.getbasetemp()
    # A session of its own: ctrl-C must end pytest, and only then the watchdog.
    with subprocess.Popen(
        [sys.executable, "-m", "tests.watchdog", directory],
        stdin=subprocess.PIPE,
        cwd=request.config.rootpath,
        start_new_session=True,
    ) as watchdog:
        request.config.stash[_watchdog] = watchdog
        _set_watchdog(request.config, request.config.stash.get(_limit, 0.0))
        yield
        left = _take_away_mounts(directory)
        # Not by closing the pipe alone: a process that a test forked and forgot would hold it open.
        _tell_watchdog(request.config, "end")
        del request.config.stash[_watchdog]
    assert not left, f"mounts left behind: {left}"
    assert watchdog.returncode == 0


def _take_away_mounts(directory: Path) -> list[str]:
    left = list(mounts_under(directory))
    for mount in left:
        tear_down(mount)
    return [f"{mount.mountpoint} ({mount.fstype})" for mount in left]


@pytest.fixture(scope="session", autouse=True)
def _no_preloaded_server_outlives_the_session() -> Iterator[None]:
    yield
    preloaded.end()


@pytest.fixture(autouse=True)
def _no_mount_outlives_its_test(request: pytest.FixtureRequest) -> Iterator[None]:
    # Only tests that have a tmp_path: a directory for each of the others would cost more than they do.
    directory: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    if directory is not None:
        left = _take_away_mounts(directory)
        assert not left, f"mounts left behind: {left}"


# -- logs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def _daemon_logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonLogs]:
    directory = tmp_path_factory.mktemp("daemon-logs")
    os.environ["UNIONFS_LOG_DIR"] = os.fspath(directory)
    # Not those of the machine, which other workers and runs share: what is there would be listed among ours.
    os.environ["UNIONFS_RUNTIME_DIR"] = os.fspath(tmp_path_factory.mktemp("run"))
    os.environ["UNIONFS_PLUGIN_DIRS"] = os.fspath(tmp_path_factory.mktemp("plugins"))
    logs = DaemonLogs(directory)
    yield logs
    assert logs.new_errors() == []


@pytest.fixture(autouse=True)
def _no_undeclared_log_errors(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, _daemon_logs: DaemonLogs
) -> Iterator[None]:
    yield
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    errors = [record.getMessage() for record in records if record.levelno >= logging.ERROR] + _daemon_logs.new_errors()
    declared = [re.compile(marker.args[0]) for marker in request.node.iter_markers("expects_log_error")]
    undeclared = [message for message in errors if not any(regex.search(message) for regex in declared)]
    assert not undeclared, f"logged errors that the test did not declare: {undeclared}"
