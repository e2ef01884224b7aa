"""Tracebacks in the admin: own frames open, those of libraries folded, nothing lost, nothing runs."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

import tasks
from tasks import registry
from tasks.admin import tracebacks
from tasks.masking import MASK

TRACE = """\
Traceback (most recent call last):
  File "/app/shop/tasks.py", line 12, in charge
    return Basket().pay()
           ~~~~~~~~~~~~^^
  File "/app/.venv/lib/python3.13/site-packages/requests/api.py", line 73, in get
    return request("get", url)
  File "/app/.venv/lib/python3.13/site-packages/urllib3/pool.py", line 700, in urlopen
  File "/usr/lib/python3.13/socket.py", line 837, in create_connection
    raise exceptions[0]
  File "/app/shop/billing.py", line 5, in <lambda>
    raise Refused(card)
  [Previous line repeated 3 more times]
shop.Refused: card 1
    with a second line
"""


def folded(text: str, handler: str = "no.such") -> str:
    return tracebacks.folded(text, handler)


def text_of(html: str) -> str:
    return unescape(re.sub("<[^>]+>", "", html))


def folded_away(html: str) -> list[str]:
    return [text_of(part) for part in re.findall(r"<details.*?</details>", html, re.DOTALL)]


def test_frames_of_libraries_are_folded_and_named() -> None:
    [libraries] = folded_away(folded(TRACE))

    assert libraries.startswith("3 frames of requests, urllib3, socket")
    assert "raise exceptions[0]" in libraries


def test_own_frames_and_the_error_stay_open() -> None:
    html = folded(TRACE)
    opened = text_of(re.sub(r"<details.*?</details>", "", html, flags=re.DOTALL))

    for line in (
        "/app/shop/tasks.py:12 in charge",
        "return Basket().pay()",
        "<lambda>",
        "repeated 3 more times",
    ):
        assert line in opened
    assert "shop.Refused: card 1\n    with a second line" in opened
    assert "requests" not in opened
    assert html.count('<pre class="frame">') == 2


def test_no_line_is_lost() -> None:
    shown = text_of(folded(TRACE))

    for line in TRACE.splitlines():
        if not line.startswith("  File"):
            assert line.strip() in shown


def test_the_service_itself_is_a_library_but_for_its_handlers() -> None:
    service = Path(tasks.__file__).parent
    text = "\n".join(
        f'  File "{service / name}", line 1, in f\n    x' for name in ("lifecycle/intake.py", "handlers.py")
    )

    [libraries] = folded_away(folded(text))

    assert "intake.py" in libraries
    assert "handlers.py" not in libraries


def test_a_project_that_was_installed_as_a_package_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.find("demo.echo").func, "__module__", "requests.tasks")

    [libraries] = folded_away(folded(TRACE, "demo.echo"))

    assert libraries.startswith("2 frames of urllib3, socket")


def test_frozen_frames_have_a_name_too() -> None:
    html = folded('  File "<frozen importlib._bootstrap>", line 1387, in _gcd_import')

    assert text_of(html).startswith("1 frame of importlib")


@pytest.mark.parametrize(
    "text", ["", "x", "  File", '  File "', "Traceback …", "\n" * 9, "a\r\nb", "\x1b[31m"]
)
def test_what_is_no_traceback_is_shown_as_it_is(text: str) -> None:
    assert text_of(folded(text)) == "\n".join(text.splitlines())


@pytest.mark.parametrize(
    "place", ['  File "{}", line 1, in f', '  File "/a.py", line 1, in {}', "{}", "    {}"]
)
def test_nothing_in_it_is_markup(place: str) -> None:
    evil = "</pre></details><script>alert(1)</script>"

    html = folded(place.format(evil) + "\n" + '  File "/lib/python3.13/' + evil + '.py", line 1, in f\n    x')

    assert "<script>" not in html
    assert html.count("<pre") == html.count("</pre>")
    assert html.count("<details") == html.count("</details>")


def test_what_an_error_says_is_masked() -> None:
    text = TRACE.replace("card 1", "no: {'password': 'hunter2'}, see https://ada:hunter2@shop.example")

    assert "hunter2" not in folded(text)
    assert folded(text).count(MASK) == 2


@pytest.mark.parametrize(
    "line",
    [
        '    return request("get", url)',  # of a library
        "    return Basket().pay()",  # of its own
    ],
)
def test_lines_of_source_are_masked_too(line: str) -> None:
    html = folded(TRACE.replace(line, "    connect(password='hunter2', url='db://ada:hunter2@h')"))

    assert "hunter2" not in html
    assert html.count(MASK) == 2


@pytest.mark.parametrize("home", ["/app", "/usr/lib/python3.13"])
def test_paths_of_frames_are_masked_too(home: str) -> None:
    html = folded(f'  File "{home}/token=hunter2/a.py", line 1, in f\n    x')

    assert "hunter2" not in html


def test_a_long_traceback_takes_no_time() -> None:
    text = '  File "/a.py", line 1, in f\n    x\n' * 2_000

    assert folded(text).count("<pre") == 2_000
