"""``manage.py serve`` as a user meets it: real processes, real sockets, real signals."""

from __future__ import annotations

import re
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import psutil
import pytest

from tasks.tests.databases import rows
from tasks.tests.service import Serve, Service, serve, where

__all__ = ["serve", "where"]


def run_a_task(service: Service) -> None:
    """Afterwards all of its processes are up."""
    service.until(service.call("/tasks", {"handler": "demo.echo"})["id"], "completed")


def gone(processes: list[psutil.Process], *, within: float) -> bool:
    return psutil.wait_procs(processes, timeout=within)[1] == []


def test_a_task_that_is_asked_for_over_http_is_done(serve: Serve) -> None:
    service = serve()

    created = service.call("/tasks", {"title": "First", "handler": "demo.echo", "payload": {"a": 1}})
    done = service.until(created["id"], "completed")

    assert created["status"] == "pending"
    assert done["result"] == {"a": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_with_exit_code_0(serve: Serve, number: signal.Signals) -> None:
    service = serve()
    run_a_task(service)
    family = service.family()

    assert service.stop(number) == 0
    assert gone(family, within=2)


def test_what_runs_is_finished_before_the_end(serve: Serve, where: dict[str, str]) -> None:
    service = serve()
    task = service.call("/tasks", {"handler": "demo.sleep", "payload": {"seconds": 1.5}})
    service.until(task["id"], "processing")

    assert service.stop() == 0
    assert rows(where, "SELECT status, attempt FROM tasks") == [("completed", 1)]


def test_a_second_ctrl_c_does_not_wait_for_what_runs(serve: Serve, where: dict[str, str]) -> None:
    service = serve()
    task = service.call("/tasks", {"handler": "demo.sleep", "payload": {"seconds": 60}})
    service.until(task["id"], "processing")
    family = service.family()

    service.process.send_signal(signal.SIGINT)
    time.sleep(1.2)  # sooner it may be the same one, sent twice
    service.stop(signal.SIGINT, within=10)

    assert gone(family, within=2)
    assert rows(where, "SELECT status FROM tasks") == [("pending",)]


@pytest.mark.parametrize("side", ["api", "workers"])
def test_if_one_side_dies_the_other_is_stopped_and_the_exit_code_is_1(serve: Serve, side: str) -> None:
    service = serve()
    run_a_task(service)
    family = service.family()

    service.side(side).kill()

    assert service.process.wait(timeout=30) == 1
    assert gone(family, within=5)


def test_nothing_outlives_a_service_that_is_killed(serve: Serve) -> None:
    service = serve()
    run_a_task(service)
    family = service.family()

    service.process.kill()

    assert gone(family, within=10)


def test_two_that_start_at_once_on_a_new_database_both_come_up(serve: Serve) -> None:
    services = [serve(wait=False) for _ in range(2)]
    for service in services:
        service.wait_for_url()

    created = services[0].call("/tasks", {"handler": "demo.echo"})

    assert services[1].until(created["id"], "completed")["id"] == created["id"]
    assert [service.stop() for service in services] == [0, 0]


def test_a_service_that_others_can_reach_shows_a_first_token_once_and_asks_for_it(serve: Serve) -> None:
    service = serve("--host", "0.0.0.0", wait=False)
    assert service.process.stdout is not None
    shown = re.search(r"tsk_\w[\w-]+", service.process.stdout.readline())
    service.wait_for_url()

    with pytest.raises(HTTPError) as refused:
        service.call("/tasks", {"title": "a"})
    created = service.call("/tasks", {"title": "a"}, Authorization=f"Bearer {shown and shown[0]}")

    assert refused.value.code == 401
    assert created["status"] == "pending"
    assert service.stop() == 0
    assert "tsk_" not in service.process.communicate()[0]
    again = serve("--host", "0.0.0.0")
    again.stop()
    assert "tsk_" not in "".join(again.process.communicate())


def test_a_port_in_use_is_one_sentence(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = serve("--port", str(port), wait=False)
        said, complaint = service.process.communicate(timeout=30)

    assert service.process.returncode == 1
    assert said == ""
    assert complaint == (
        f"CommandError: Cannot listen on 127.0.0.1, port {port}: Address already in use. See HOST and PORT.\n"
    )


def test_handlers_that_cannot_be_loaded_are_told_before_anything_is_up(serve: Serve) -> None:
    service = serve(wait=False, TASKSERVICE_DEFAULT_HANDLER="demo.slep")
    said, complaint = service.process.communicate(timeout=30)

    assert service.process.returncode == 1
    assert "No handler is called 'demo.slep', as TASKSERVICE_DEFAULT_HANDLER says." in complaint
    assert "Task service on" not in said


@pytest.mark.sqlite
def test_a_file_that_is_no_database_is_one_sentence(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "tasks.db").write_text("this is no database, but long enough to be read as one" * 100)
    service = serve(wait=False)
    complaint = service.process.communicate(timeout=30)[1]

    assert service.process.returncode == 1
    assert complaint.startswith("CommandError: The database /")
    assert complaint.endswith(" cannot be used (see DATABASE_URL, DB_PATH): file is not a database.\n")


def test_without_workers_the_process_turns_into_the_api(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    service = serve("--n", "0", "--port", str(port), wait=False)
    service.url = f"http://127.0.0.1:{port}"

    wait_until_listening(service)

    assert service.call("/tasks", {"handler": "demo.echo"})["status"] == "pending"
    assert "gunicorn" in " ".join(psutil.Process(service.process.pid).cmdline())
    assert service.stop() == 0


def wait_until_listening(service: Service) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(URLError):
            service.call("/healthz")
            return
        time.sleep(0.05)


def test_the_admin_has_its_stylesheets_and_a_strict_policy_without_debug(serve: Serve) -> None:
    service = serve()

    with urlopen(service.url + "/admin", timeout=20) as page:
        assert page.url.endswith("/admin/login/?next=/admin/")
        policy = page.headers["Content-Security-Policy"]
    with urlopen(service.url + "/static/admin/css/base.css", timeout=20) as sheet:
        assert sheet.headers["Content-Type"].startswith("text/css")

    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
