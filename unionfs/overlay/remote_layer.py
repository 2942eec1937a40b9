"""Layers on filesystems that somebody else answers for: a server in the network, the daemon of a FUSE mount.

Whoever asks those may wait for ever, so the thread that serves the union never does.  What it wants to know it asks here: if it
is known, the answer comes at once; if not, `Blocking` is raised, its work asks in another thread, and the operation starts again
from its beginning.  That is right because a lower layer does not change: an answer is as good later as it was at first.  So an
operation on such a layer goes on from question to question, and waits for nobody's answers but its own.

Nothing of these layers stays open but the root, and files that were read lately: closing one is a request, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, TypeVar

from unionfs.filesystem import Blocking
from unionfs.overlay.remote_files import RemoteFiles

T = TypeVar("T")

_MOST_ANSWERS = 16_384
"""Remembered of a layer: far more than all operations under way want at a time.  One that finds an answer gone only asks again,
but two could take them from each other for ever."""

_OPEN_DIR = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

_ANSWERS = frozenset(
    (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.ENODATA,
        errno.EOPNOTSUPP,
        errno.ENOTTY,
        errno.EACCES,
        errno.EPERM,
        errno.EINVAL,
        errno.ENAMETOOLONG,
    )
)
"""Errors that tell of what was asked about.  All others tell of the moment, and whoever comes next asks anew."""

Place = tuple[bytes, ...]
"""A directory of a layer: the names that lead to it from the root."""


class RemoteLayer:
    """What one such layer has answered.  All methods but `opened` belong to the thread that serves the union."""

    def __init__(self, root_fd: int) -> None:
        """``root_fd``: the root directory; it stays its owner's."""
        self._root_fd = root_fd
        self._questions: OrderedDict[Hashable, _Question] = OrderedDict()
        self._files = RemoteFiles()
        self._waits = True

    def ask(self, place: Place, function: Callable[..., T], *arguments: Any) -> T:
        """What ``function``, which only looks, returns for the descriptor of ``place`` and ``arguments``, which are hashable.

        Raises:
            Blocking: it is not known yet.
            OSError: that of ``function``, or of the way to ``place``.
        """
        if not self._waits:
            with self._directory(place) as fd:
                return function(fd, *arguments)
        key = place, function, arguments
        question = self._question(key)
        if not question.is_answered:
            raise Blocking(question, lane=self)
        if question.error is None:
            self._questions.move_to_end(key)
            answer: T = question.answer
            return answer
        if question.error.errno not in _ANSWERS:
            del self._questions[key]
        raise question.error.with_traceback(None)

    def ask_all(self, asked: Iterable[tuple[Place, Callable[..., object], tuple[Any, ...]]]) -> None:
        """Ask several things at once, each given as for `ask`, which has the answers then.

        Raises:
            Blocking: not all is known yet.
        """
        if not self._waits:
            return
        unknown = [question for question in map(self._question, asked) if not question.is_answered]
        if unknown:
            raise Blocking(_Questions(unknown), lane=self)

    def _question(self, key: tuple[Place, Callable[..., object], tuple[Any, ...]]) -> _Question:
        question = self._questions.get(key)
        if question is None:
            question = self._questions[key] = _Question(self._directory, *key)
            if len(self._questions) > _MOST_ANSWERS:
                self._questions.popitem(last=False)
        return question

    def drop(self, place: Place, function: Callable[..., object], *arguments: Any) -> None:
        """Forget one answer."""
        self._questions.pop((place, function, arguments), None)

    def read(self, place: Place, name: bytes, read: Callable[[int], T]) -> T:
        """What ``read`` returns for a descriptor of the file ``name`` in ``place``.

        Raises:
            Blocking: always, but for `waiting`; the result is that of the work.
            OSError: what open(2) gives, or ``read``.
        """

        def work() -> T:
            with self.opened(place, name) as fd:
                return read(fd)

        if not self._waits:
            return work()
        raise Blocking(work, restart=False, lane=self)

    @contextlib.contextmanager
    def opened(self, place: Place, name: bytes) -> Iterator[int]:
        """The file ``name`` in ``place``, open for reading, for works in other threads.

        Raises:
            OSError: what open(2) gives.
        """
        files, key = self._files, (place, name)
        fd = files.take(key)
        if fd < 0:
            with self._directory(place) as directory:
                fd = os.open(name, _OPEN_FILE, dir_fd=directory)
        try:
            yield fd
        finally:
            files.give(key, fd)

    def lend(self, place: Place, name: bytes) -> int:
        """A descriptor of the file ``name`` in ``place``, good until the next call of this.

        Raises:
            Blocking: the file is not open.
            OSError: what open(2) gives.
        """
        fd = self._files.lend((place, name))
        while fd < 0:
            self.ask(place, self._open, name, place)
            # The answer is good once: somebody else's files may take the place of this one.
            self.drop(place, self._open, name, place)
            fd = self._files.lend((place, name))
        return fd

    def _open(self, _directory: int, name: bytes, place: Place) -> None:
        with self.opened(place, name):
            pass

    @contextlib.contextmanager
    def _directory(self, place: Place) -> Iterator[int]:
        # One name after the other, as `unionfs.overlay.layer.RealDir.open` does, and for the same reason.
        fd = self._root_fd
        try:
            for name in place:
                above, fd = fd, os.open(name, _OPEN_DIR, dir_fd=fd)
                if above != self._root_fd:
                    os.close(above)
            yield fd
        finally:
            if fd != self._root_fd:
                os.close(fd)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Within, whoever asks waits for the answer: for what is one step, however long, as a change of the layers is."""
        waits, self._waits = self._waits, False
        try:
            yield
        finally:
            self._waits = waits

    def forget(self) -> None:
        """Somebody changed the layer."""
        self._questions.clear()
        self._files.close()
        self._files = RemoteFiles()

    def close(self) -> None:
        """Close the files, without waiting for that."""
        self._files.close()


class _Questions:
    """Several of them."""

    def __init__(self, questions: list[_Question]) -> None:
        self._questions = questions

    def __call__(self) -> None:
        for question in self._questions:
            if not question.is_answered:
                question()


class _Question:
    """One thing that is asked, and the answer.  The work of a `Blocking`."""

    __slots__ = ("_arguments", "_directory", "_function", "_place", "answer", "error", "is_answered")

    def __init__(
        self,
        directory: Callable[[Place], contextlib.AbstractContextManager[int]],
        place: Place,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        self._directory = directory
        self._place = place
        self._function = function
        self._arguments = arguments
        self.is_answered = False
        self.answer: Any = None
        self.error: OSError | None = None

    def __call__(self) -> None:
        try:
            with self._directory(self._place) as fd:
                self.answer = self._function(fd, *self._arguments)
        except OSError as error:
            self.error = error
        self.is_answered = True
