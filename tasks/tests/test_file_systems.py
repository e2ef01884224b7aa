"""SQLite on a network file system is refused before anything starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from tasks import checks
from tasks.sqlite import file_systems
from tasks.sqlite.file_systems import kind_of, network_file_system, refuse_network

ROOT = Path(__file__).parents[2]

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:45 / /srv/my\040tasks rw,relatime shared:19 master:2 - nfs4 nas:/export/tasks rw,vers=4.2
41 27 0:46 /deep /srv/win rw - cifs //nas/share rw
42 27 0:47 / /mnt rw,nosuid shared:7 - fuse.sshfs me@host:/ rw,user_id=0
43 27 0:48 / /host rw - 9p host rw,trans=virtio
44 27 0:49 / /vm rw - virtiofs shared rw
45 27 0:50 / /strange rw - fuse.something it rw
""".strip()


@pytest.mark.parametrize(
    ("mount_id", "kind", "is_refused"),
    [
        ("27", "ext4", False),
        ("40", "nfs4", True),
        ("41", "cifs", True),
        ("42", "fuse.sshfs", True),
        ("43", "9p", False),
        ("44", "virtiofs", False),
        ("45", "fuse.something", False),
    ],
)
def test_the_table_of_mounts_names_the_file_system(mount_id: str, kind: str, is_refused: bool) -> None:
    assert kind_of(mount_id, MOUNTS) == kind
    assert (kind in file_systems.NETWORK) == is_refused


def test_a_mount_that_is_not_in_the_table_has_no_name() -> None:
    with pytest.raises(LookupError):
        kind_of("4", MOUNTS)


def test_where_the_kernel_does_not_tell_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(file_systems, "_mounts", lambda: "")

    assert network_file_system(str(tmp_path / "tasks.db")) is None


Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount something on a new folder."""
    made: list[Path] = []

    def mount_(name: str, *arguments: str, file: bool = False) -> Path:
        place = tmp_path / name
        place.touch() if file else place.mkdir()
        done = subprocess.run(["mount", *arguments, str(place)], capture_output=True, check=False)
        if os.geteuid() != 0 or done.returncode:
            pytest.skip("only root can mount")
        made.append(place)
        return place

    yield mount_
    for place in reversed(made):
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def tmpfs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_systems, "NETWORK", frozenset({"tmpfs"}))


@pytest.mark.usefixtures("tmpfs_is_refused")
def test_the_mount_is_found_through_odd_names_links_and_binds(mount: Mount, tmp_path: Path) -> None:
    memory = mount("a b\\c\n", "-t", "tmpfs", "tmpfs")
    (memory / "tasks.db").touch()
    (memory / "inside").mkdir()
    (tmp_path / "link").symlink_to(memory)
    (tmp_path / "link.db").symlink_to(memory / "tasks.db")
    (tmp_path / "link-of-none.db").symlink_to(memory / "none.db")
    bound = mount("bound", "--bind", str(memory / "inside"))
    alone = mount("alone.db", "--bind", str(memory / "tasks.db"), file=True)

    links = [tmp_path / "link" / "t.db", tmp_path / "link.db", tmp_path / "link-of-none.db"]
    refused = [memory / "new.db", *links, bound / "t.db", alone]

    assert [network_file_system(str(path)) for path in refused] == ["tmpfs"] * len(refused)
    assert network_file_system(str(tmp_path / "tasks.db")) is None


@pytest.mark.usefixtures("tmpfs_is_refused")
def test_of_mounts_upon_mounts_the_upper_one_counts(mount: Mount, tmp_path: Path) -> None:
    lower = mount("place", "-t", "tmpfs", "tmpfs")
    (tmp_path / "disk").mkdir()
    subprocess.run(["mount", "--bind", str(tmp_path / "disk"), str(lower)], check=True)
    try:
        assert network_file_system(str(lower / "tasks.db")) is None
    finally:
        subprocess.run(["umount", "--lazy", str(lower)], check=True)
    assert network_file_system(str(lower / "tasks.db")) == "tmpfs"


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A folder that the kernel takes for one of sshfs: bindfs, under its name."""
    place, behind = tmp_path / "shared", tmp_path / "behind"
    place.mkdir()
    behind.mkdir()
    bindfs = shutil.which("bindfs")
    command = [str(bindfs), "-o", "subtype=sshfs", str(behind), str(place)]
    if bindfs is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("bindfs is not installed, or may not mount")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


COMMANDS = [
    ["manage.py", "serve", "--port", "0"],
    ["manage.py", "runworkers"],
    ["-m", "gunicorn", "--config", "taskservice/gunicorn.conf.py"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=["serve", "runworkers", "gunicorn"])
def test_nothing_starts_on_one_and_a_sentence_says_why(shared: Path, command: list[str]) -> None:
    path = shared / "tasks.db"
    env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    env |= {"DB_PATH": str(path), "DJANGO_SETTINGS_MODULE": "taskservice.settings", "PORT": "0"}

    ended = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode != 0
    assert f"{path} is on a network file system (fuse.sshfs)" in ended.stderr
    assert "DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not path.exists()


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
@pytest.mark.usefixtures("tmpfs_is_refused")
def test_it_is_an_error_of_the_system_check_with_a_hint(settings: Settings, mount: Mount) -> None:
    path = mount("memory", "-t", "tmpfs", "tmpfs") / "tasks.db"
    options = {"transaction_mode": "IMMEDIATE"}
    settings.DATABASES = {"default": {"ENGINE": "tasks.sqlite", "NAME": str(path), "OPTIONS": options}}

    [message] = checks.check_database()

    assert message.id == "tasks.E009"
    assert "PostgreSQL" in str(message.hint)
    with pytest.raises(ImproperlyConfigured, match=r"network file system \(tmpfs\)"):
        refuse_network(str(path))
