"""Proof of life on one SQLite host: each worker, with its executors, holds an flock on a file of its own."""

from __future__ import annotations

import fcntl
import glob
import os
import stat
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from tasks.contract import LeaseKey
from tasks.sqlite.base import DatabaseWrapper
from tasks.worker.marks import Marks, begun_in, open_marks

Begun = frozenset[LeaseKey] | None  # None: nobody knows
Bury = Callable[[str], bool]  # the worker's id; True: nothing is left of it


def place_of_locks(alias: str) -> str:
    """What the names of lock files begin with: the SQLite file, or a folder of this host for the database.

    Raises ImproperlyConfigured where that folder is somebody else's, who could make us think that
    workers are dead.
    """
    connection = connections[alias]
    if isinstance(connection, DatabaseWrapper):
        return connection.path
    given = connection.settings_dict
    name = sha256(f"{given['HOST']}:{given['PORT']}/{given['NAME']}".encode()).hexdigest()[:16]
    return str(_folder_of_ours() / name)


def _folder_of_ours() -> Path:
    folder = Path(tempfile.gettempdir()) / f"taskservice-{os.geteuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ImproperlyConfigured(f"{folder} must be a folder that only you can write to: remove it.")
    return folder


class WorkerLock:
    """``<place>-worker-<id>``. The lock is free only when the dispatcher and all its executors are dead.

    In the file stands which leases the executors have begun: if all die at once, what else they
    had in hand was not.
    """

    def __init__(self, place: str, worker_id: str, *, executors: int = 1) -> None:
        """Raises ImproperlyConfigured where no file can be made."""
        self._prefix = f"{place}-worker-"
        self._free_places = count()
        self._left_places: deque[int] = deque()
        self._kept_places = executors
        self.path = self._prefix + worker_id
        try:
            self.file = _locked(self.path)
            open_marks(self.file)
        except OSError as error:
            raise ImproperlyConfigured(
                f"A worker needs a file of its own, and cannot make {self.path}: {error.strerror}."
            ) from error

    def close(self) -> None:
        os.close(self.file)

    def remove(self) -> None:
        """When nothing is left in its name: else the next worker needs to find it."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)

    def marks(self) -> Marks:
        """A place in the file, for a new executor. Raises OSError when the disk has no room."""
        place = next(self._free_places) if self._all_are_kept else self._left_places.popleft()
        marks = Marks(self.file, place)
        try:
            marks.reserve()
        except OSError:
            self.leave(marks)
            raise
        return marks

    def leave(self, marks: Marks) -> None:
        """Its executor has ended: another may have the place, but not at once.

        What stands there counts until the next commit, and until then no more than all executors
        can be replaced, as there is nothing new for them to run.
        """
        self._left_places.append(marks.place)

    @property
    def _all_are_kept(self) -> bool:
        return len(self._left_places) <= self._kept_places

    def begun_by(self, worker_id: str) -> Begun:
        """The leases that a worker of this host has begun, dead or alive; None: nobody knows."""
        try:
            file = os.open(self._prefix + worker_id, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # it is gone, or another host's
            return None
        try:
            return begun_in(file)
        finally:
            os.close(file)

    def for_each_dead(self, bury: Bury) -> None:
        """``bury`` each worker whose lock is free."""
        for path in glob.glob(glob.escape(self._prefix) + "*"):
            if path != self.path:
                _if_free(path, partial(bury, path.removeprefix(self._prefix)))


def _locked(path: str) -> int:
    """The file, made and locked; made anew if somebody took it for a dead worker's meanwhile."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(file)):
                return file
        os.close(file)


def _if_free(path: str, act: Callable[[], bool]) -> None:
    with suppress(FileNotFoundError, PermissionError):  # somebody else was faster; another user's
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if act():
                os.unlink(path)
        except BlockingIOError:  # it lives
            pass
        finally:
            os.close(file)
