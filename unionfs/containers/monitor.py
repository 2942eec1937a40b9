"""The process that belongs to one container: it makes it, owns its standard streams and its log, waits for it, and undoes
everything.

It is forked by ``unionfs run`` and outlives it.  As a subreaper it becomes the parent of the container's first process when the
runtime has made that, so it learns the exit status, and needs nothing of the runtime while the container runs.  Each step is
ordered so that a SIGKILL leaves what `unionfs.containers.recovery` can find: first the writable layer, which names its
container, then the record, which names the monitor, then files and mounts, which lie in a directory of the container's own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from unionfs.containers import frames, teardown
from unionfs.containers.bundle import CONFIG, runtime_config
from unionfs.containers.container import DIRECTORY, Container, Containers
from unionfs.containers.container_log import LogWriter
from unionfs.containers.frames import Kind
from unionfs.containers.host_files import write_host_files
from unionfs.containers.init_layer import ensure_init_layer
from unionfs.containers.mount_specs.inherit import inherited, parse_inherited
from unionfs.containers.mount_specs.plan import merged_mounts
from unionfs.containers.mount_specs.spec import MountSpec
from unionfs.containers.names import new_id
from unionfs.containers.options import RunOptions, dump, parse_signal
from unionfs.containers.process import arguments_of, default_environment, merged_environment, process_config
from unionfs.containers.recovery import container_labels, snapshot_key
from unionfs.containers.relay import Relay, Streams, set_size
from unionfs.containers.rootless import fit_to_user_namespace, fit_user
from unionfs.containers.runtime import FAILED, Runtime, RuntimeFailedError, find_runtime
from unionfs.containers.status import Status, write_status
from unionfs.containers.stdio import Pipes, console_socket, receive_terminal
from unionfs.containers.subreaper import become_subreaper, end_children, exit_code_of
from unionfs.containers.users import find_user
from unionfs.containers.volumes import ReadyMounts, ensure_volumes, make_ready, remove_unused
from unionfs.mounter.errors import MounterError, from_os_error
from unionfs.mounter.log import default_log, log_to_file
from unionfs.mounter.process_setup import detach_from_terminal
from unionfs.mounter.processes import start_time
from unionfs.store.image_config import ImageConfig
from unionfs.store.store import Store, open_store
from unionfs.volumes import open_volumes

_log = logging.getLogger("unionfs.containers")

DEFAULT_SIZE = (24, 80)


def start_monitor(root: Path, options: RunOptions, size: tuple[int, int] = DEFAULT_SIZE) -> tuple[int, socket.socket]:
    """Run a container as ``options`` say, in a new monitor: its process id, a child of this process, and the socket that speaks
    `unionfs.containers.frames`.  ``size``: rows and columns of its terminal.

    Nothing of the store may be open here: SQLite must not go through a fork.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _become_monitor(root, options, size, theirs)
    theirs.close()
    return pid, ours


def _become_monitor(root: Path, options: RunOptions, size: tuple[int, int], client: socket.socket) -> NoReturn:
    """The monitor's whole life.  Does not return: below are the frames of the command."""
    status = 1
    try:
        os.setsid()
        os.umask(0o022)
        detach_from_terminal()
        container_id = new_id()
        log_to_file(default_log(root / DIRECTORY / container_id))
        become_subreaper()
        with contextlib.closing(client):
            Monitor(root, container_id, options, size, client).run()
        status = 0
    except BaseException:
        _log.exception("a monitor ends on an internal error")
    finally:
        logging.shutdown()
        os._exit(status)


class Monitor:
    """Makes and serves one container."""

    def __init__(self, root: Path, container_id: str, options: RunOptions, size: tuple[int, int], client: socket.socket) -> None:
        self._root = root
        self._id = container_id
        self._options = options
        self._size = size
        self._client = client
        self._container: Container | None = None

    def run(self) -> None:
        """From the first look at the image to the last thing undone; says the outcome to the client."""
        try:
            exit_code = self._run()
        except MounterError as error:
            self._say_failure(error)
        except OSError as error:
            self._say_failure(from_os_error(error))
        else:
            self._say(Kind.ENDED, b"%d" % exit_code)

    def _run(self) -> int:
        runtime = find_runtime(self._options.runtime)
        self._options = dataclasses.replace(self._options, runtime=runtime.path)
        store = open_store(self._root)
        try:
            containers = Containers(self._root, store.database)
            image = self._make(store, containers)
            assert self._container is not None
            with self._undoing(store, containers, self._container, runtime):
                return self._serve(store, self._container, runtime, image)
        finally:
            store.close()

    # -- making it ------------------------------------------------------------------------------------------------------------

    def _make(self, store: Store, containers: Containers) -> ImageConfig:
        """Writable layer and record, or neither.  The image's config."""
        key = snapshot_key(self._id)
        image = store.images.find(self._options.image)
        config = image.config
        # Before anything is made: most mistakes show here.
        arguments_of(config, self._options.entrypoint, self._options.command, self._options.image)
        parse_signal(self._stop_signal_of(config))
        mounts = self._merged_mounts(containers, config)
        parent = ensure_init_layer(store, image)
        with contextlib.ExitStack() as undoing:
            store.snapshots.prepare(key, parent, size_limit=self._options.size, labels=container_labels(self._id))
            undoing.callback(store.snapshots.remove, key)
            volumes = open_volumes(store)
            named, anonymous = ensure_volumes(volumes, mounts)
            undoing.callback(remove_unused, volumes, anonymous)
            self._options = dataclasses.replace(self._options, mounts=named)
            self._container = containers.add(self._id, image.id, key, self._options)
            undoing.pop_all()
        return config

    def _merged_mounts(self, containers: Containers, config: ImageConfig) -> tuple[MountSpec, ...]:
        """All mounts that it is to have: asked for, inherited, declared by the image."""
        taken: list[MountSpec] = []
        for text in self._options.volumes_from:
            name, mode = parse_inherited(text)
            taken += inherited(containers.find(name).options.mounts, mode)
        return merged_mounts(self._options.mounts, taken, config.volumes)

    def _stop_signal_of(self, config: ImageConfig) -> str:
        return self._options.stop_signal or config.stop_signal or "SIGTERM"

    @contextlib.contextmanager
    def _undoing(self, store: Store, containers: Containers, container: Container, runtime: Runtime) -> Iterator[None]:
        """Whatever happens inside: afterwards nothing runs and nothing is mounted, and a container that shall go is gone."""
        failure: str | None = None
        exit_code = FAILED
        try:
            yield
        except BaseException as error:
            failure = str(error)
            exit_code = error.exit_code if isinstance(error, RuntimeFailedError) else FAILED
            raise
        finally:
            teardown.undo(store, container, runtime)
            end_children()
            if container.options.removes:
                teardown.remove(store, containers, container, with_volumes=True)
            elif failure is not None and container.directory.exists():
                teardown.note_end(container, exit_code, failure)

    def _serve(self, store: Store, container: Container, runtime: Runtime, image: ImageConfig) -> int:
        container.directory.parent.mkdir(mode=0o711, exist_ok=True)
        container.directory.mkdir(mode=0o700)
        container.rootfs.mkdir(mode=0o755)
        store.snapshots.mount(container.snapshot, container.rootfs)
        ready = make_ready(open_volumes(store), container.options.mounts, container.id, container.directory, container.rootfs)
        self._write_bundle(container, image, ready)
        log = LogWriter(container.directory)
        try:
            pid, streams = self._create(container, runtime)
            return self._follow(container, runtime, log, pid, streams, parse_signal(self._stop_signal_of(image)))
        finally:
            log.close()

    def _write_bundle(self, container: Container, image: ImageConfig, ready: ReadyMounts) -> None:
        options = self._options
        hostname = options.hostname or (os.uname().nodename if options.network == "host" else container.id[:12])
        user = fit_user(find_user(container.rootfs, options.user if options.user is not None else image.user))
        process = process_config(
            arguments_of(image, options.entrypoint, options.command, options.image),
            environment=merged_environment(
                image.env,
                options.environment,
                ours=os.environ,
                defaults=default_environment(home=user.home, hostname=hostname, terminal=options.terminal),
            ),
            working_dir=options.working_dir or image.working_dir or "/",
            user=user,
            terminal=options.terminal,
        )
        config = runtime_config(
            process=process,
            container_id=container.id,
            hostname=hostname,
            network=options.network,
            read_only=options.read_only,
            host_files=write_host_files(container.directory, hostname, options.network),
            ready=ready,
        )
        (container.directory / CONFIG).write_text(dump(fit_to_user_namespace(config, options.network)))

    # -- running it -----------------------------------------------------------------------------------------------------------

    def _create(self, container: Container, runtime: Runtime) -> tuple[int, Streams]:
        if not self._options.terminal:
            pipes = Pipes(self._options.interactive)
            try:
                pid = runtime.create(container.directory, container.id, stdio=pipes.theirs)
            finally:
                pipes.give_away()
            return pid, pipes.ours
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            with console_socket(container.directory) as (listener, path):
                pid = runtime.create(container.directory, container.id, stdio=(null, null, null), console_socket=path)
                streams = receive_terminal(listener, self._options.interactive)
        finally:
            os.close(null)
        set_size(streams.stdout, frames.SIZE.pack(*self._size))
        return pid, streams

    def _follow(
        self, container: Container, runtime: Runtime, log: LogWriter, pid: int, streams: Streams, stop_signal: signal.Signals
    ) -> int:
        """Start it, serve it, note its end; its exit status."""
        client = None if self._options.detached else self._client
        relay = Relay(pid, streams, log, stop_signal, client)
        status = Status("running", pid, start_time(pid), time.time())
        write_status(container.directory, status)
        runtime.start(container.directory, container.id)
        self._say(Kind.STARTED, container.id.encode())
        if client is None:
            self._client.close()
        else:
            client.setblocking(False)
        exit_code = exit_code_of(relay.run())
        if client is not None:
            client.setblocking(True)
        teardown.note_end(container, exit_code)
        return exit_code

    # -- talking --------------------------------------------------------------------------------------------------------------

    def _say_failure(self, error: MounterError) -> None:
        status = error.exit_code if isinstance(error, RuntimeFailedError) else FAILED
        _log.info("a container could not be run: %s", error)
        self._say(Kind.FAILED, json.dumps([error.thing, error.problem, error.remedy, status]).encode())

    def _say(self, kind: Kind, data: bytes) -> None:
        if self._client.fileno() < 0:
            if kind is Kind.FAILED:
                _log.error("a container ended badly: %s", data.decode(errors="replace"))
            return
        # Nobody may be left to hear it; the outcome is in the container's status.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._client.sendall(frames.encode(kind, data))
