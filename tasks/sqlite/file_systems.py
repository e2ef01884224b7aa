"""What keeps a file: on a disk that machines share a WAL is not safe, on a read-only one nothing is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator

from django.core.exceptions import ImproperlyConfigured

# By their names in the mount table. What is not in the list is not refused: 9p, virtiofs and whatever FUSE
# brings are also how virtual machines and containers see the disk of their one host.
NETWORK = frozenset(
    {
        "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs2", "glusterfs", "gpfs",
        "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3",
        "smbfs", "wekafs", "fuse.beegfs", "fuse.blobfuse2", "fuse.ceph", "fuse.ceph-fuse",
        "fuse.curlftpfs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.mfs",
        "fuse.moosefs", "fuse.mount-s3", "fuse.nfs", "fuse.rclone", "fuse.s3fs", "fuse.seaweedfs",
        "fuse.smbnetfs", "fuse.sshfs",
    }
)  # fmt: skip
HINT = "Keep it on a disk of this machine, or use PostgreSQL (DATABASE_URL)."


def network_file_system(path: str) -> str | None:
    """The name of the one that keeps the file, or the files that come beside it; None where all is well."""
    return next((kind for kind in _kinds(os.path.realpath(path)) if kind in NETWORK), None)


def refuse_network(path: str) -> None:
    """Raises ImproperlyConfigured."""
    if kind := network_file_system(path):
        raise ImproperlyConfigured(f"{refusal(path, kind)} {HINT}")


def refusal(path: str, kind: str) -> str:
    return f"{path} is on a network file system ({kind}), where SQLite's locks do not keep it whole."


def can_be_written_to(path: str) -> bool:
    """The database, its WAL and the folder of both; asked without writing."""
    folder = os.path.dirname(os.path.abspath(path))
    files = [name for name in (path, f"{path}-wal") if os.path.exists(name)]
    return all(os.access(place, os.W_OK) for place in (folder, *files))


def _kinds(path: str) -> Iterator[str]:
    """Of the file, which may be a mount of its own, and of its folder; nothing where /proc does not tell."""
    for place in (path, os.path.dirname(path)):
        try:
            yield kind_of(_mount_id(place), _mounts())
        except (OSError, ValueError, LookupError):
            continue


def _mount_id(path: str) -> str:
    """The kernel finds it, through whatever links, binds and mounts upon mounts."""
    file = os.open(path, os.O_PATH | os.O_CLOEXEC)  # opens nothing: SQLite's locks on the file stay
    try:
        with open(f"/proc/self/fdinfo/{file}") as info:
            [found] = [line.split()[1] for line in info if line.startswith("mnt_id:")]
    finally:
        os.close(file)
    return found


def _mounts() -> str:
    with open("/proc/self/mountinfo", errors="surrogateescape") as file:
        return file.read()


def kind_of(mount_id: str, mounts: str) -> str:
    """The file system of one mount in /proc/self/mountinfo; LookupError if it is not there."""
    for line in mounts.splitlines():
        mount, _, super_block = line.partition(" - ")
        if mount.split(" ", 1)[0] == mount_id:
            return super_block.split(" ", 1)[0]
    raise LookupError(mount_id)
