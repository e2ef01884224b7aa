"""Small file systems of their own, for tests of what happens when one is full or loses its power."""

from __future__ import annotations

import filecmp
import os
import subprocess
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tasks.tests.workers import wait_until


@contextmanager
def small_disk_at(disk: Path, *, size: str) -> Iterator[Path]:
    """``size`` as mount takes it, "4m". Skips the test where none can be mounted."""
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(path: Path) -> None:
    """To the last byte."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (65536, 4096, 1):
            try:
                while True:
                    os.write(file, b"x" * size)
            except OSError:
                continue
    finally:
        os.close(file)


@contextmanager
def read_only(*paths: Path) -> Iterator[None]:
    """Nobody can write to these files, or make any in these folders, not even who has them open already."""
    with ExitStack() as stack:
        for path in paths:
            made = subprocess.run(["chattr", "+i", str(path)], capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"no file can be made immutable here: {made.stderr.strip()}")
            stack.callback(subprocess.run, ["chattr", "-i", str(path)], check=True)
        yield


# --- one whose power can be cut


class Disk:
    """An ext4 file system in a file. Without a flush it writes nothing for minutes, as ``commit`` says."""

    def __init__(self, folder: Path, *, size: str) -> None:
        """Raises OSError where there can be none."""
        self.place, self._image = folder / "disk", folder / "image"
        self.place.mkdir()
        _run("truncate", "--size", size, self._image)
        _run("mkfs.ext4", "-q", self._image)
        self._mount()

    def cut_power(self, processes: Collection[psutil.Process]) -> None:
        """End all that use it at one moment; it is left as it had been written to by then, and nothing more.

        What they had written without a flush is still in the memory, and lost with it.
        """
        for process in processes:
            process.suspend()
        left = self._photograph()
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=10)
        wait_until(self._unmounted, "nobody uses it any more")
        os.replace(left, self._image)

    def restore_power(self) -> None:
        """Its journal is played back, as at the next start of the machine."""
        self._mount()

    def _unmounted(self) -> bool:
        with suppress(OSError):
            _run("umount", self.place)
        return not self.place.is_mount()

    def flush(self) -> None:
        _run("sync", "--file-system", self.place)

    def remove(self) -> None:
        with suppress(OSError):
            _run("umount", "--lazy", self.place)

    def _mount(self) -> None:
        _run("mount", "-o", "loop,commit=300", self._image, self.place)

    def _photograph(self) -> Path:
        """Of one instant: the kernel may write on by itself, so look again until nothing has changed."""
        copies = [self._image.with_name(f"copy-{number}") for number in range(2)]
        while True:
            for copy in copies:
                _run("cp", "--sparse=always", self._image, copy)
            if filecmp.cmp(copies[0], copies[1], shallow=False):
                copies[1].unlink()
                return copies[0]


def _run(*words: object) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{words[0]}: {done.stderr.strip()}")


@contextmanager
def disk_in(folder: Path, *, size: str) -> Iterator[Disk]:
    """Skips the test where none can be made."""
    try:
        disk = Disk(folder, size=size)
    except OSError as error:
        pytest.skip(f"no disk in a file can be mounted here: {error}")
    try:
        yield disk
    finally:
        disk.remove()
