"""What pages do not show: secrets by the names that lead to them, and by what they look like."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.masking import MASK, TEXT_CHARS, StillMasked, is_secret, masked, masked_text, unmasked

SECRET = "s3cr3t-value"

SECRET_NAMES = [
    "password", "PASSWORD", "Password", "user_password", "passwordHash", "passwd", "pwd", "db-pwd",
    "passphrase", "secret", "clientSecret", "client_secret", "SECRET_KEY", "aws.secretAccessKey", "token",
    "access_token", "refreshToken", "csrf", "csrfmiddlewaretoken", "apikey", "api_key", "api-key", "apiKey",
    "API Key", "x-api-key",
    "X-Api-Key", "Authorization", "authorization", "Proxy-Authorization", "auth", "http_auth", "oauth",
    "basicAuth",
    "credential", "credentials", "private_key", "privateKey", "ssh_key", "Cookie", "Set-Cookie", "session_id",
    "sessionid", "bearer", "jwt", "signature", "sig", "pin", "PIN", "cvv", "otp", "connectionString",
    "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44", "pass\u200bword", "pass word", "token\u02d0",
    "mailer.smtp.password",
]  # fmt: skip
PLAIN_NAMES = [
    "author", "authority", "compass", "passenger", "pinned", "spin", "key", "public_key", "primary_key",
    "keyboard", "bypass_cache", "user", "email", "title", "signal", "design", "shipping", "opinion", "monkey",
    "", "名前",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_name_that_means_a_secret(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_a_name_that_only_sounds_like_it(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize("value", [SECRET, 4711, 0, 1.5, [SECRET], {"a": SECRET}, [[{"b": SECRET}]], " "])
def test_whatever_a_secret_is_it_is_masked_whole(value: Any) -> None:
    assert masked({"token": value}) == {"token": MASK}


@pytest.mark.parametrize("value", [None, True, False, "", [], {}])
def test_what_tells_nothing_is_shown(value: Any) -> None:
    assert masked({"token": value}) == {"token": value}


@pytest.mark.parametrize("name", ["max_tokens", "tokenCount", "token_limit", "password_min_length"])
def test_a_number_of_tokens_is_no_token(name: str) -> None:
    assert masked({name: 4096}) == {name: 4096}
    assert masked({name: "4096"}) == {name: MASK}


NESTED: list[Any] = [
    {"a": {"b": [{"c": {"password": SECRET}}]}},
    [[[{"api_key": SECRET}]]],
    {"headers": [{"name": "Authorization", "value": SECRET}]},
    {"env": [{"Key": "DB_PASSWORD", "Value": SECRET}]},
    {"headers": [["Authorization", SECRET], ["Accept", "text/html"]]},
    {"argv": ["mysql", "--password", SECRET, "--user", "ada"]},
    {"argv": ["mysql", f"--password={SECRET}"]},
    {"url": f"postgres://ada:{SECRET}@db/shop"},
    {"url": f"https://{SECRET}@github.com/x.git"},
    {"url": f"https://api/x?a=1&access_token={SECRET}&b=2"},
    {"header": f"Authorization: Basic {SECRET}"},
    {"header": f"Bearer {SECRET}"},
    {"line": f"host=db password={SECRET} user=ada"},
    {"dump": json.dumps({"user": "ada", "secret": SECRET})},
    {"dump": str({"user": "ada", "secret": SECRET})},
    {"key": f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET.replace('-', '')}\n-----END RSA PRIVATE KEY-----"},
    f"token={SECRET}",
    f"shop.Refused: password={SECRET}",
    f"it failed: no: token: {SECRET}",
    {"dump": json.dumps({"inner": json.dumps({"deep": json.dumps({"password": SECRET})})})},
    {"dump": str({"inner": str({"password": SECRET})})},
    {"dump": json.dumps({"password": f'with "quotes" {SECRET}'})},
    {"dump": '{"password": "' + SECRET},  # cut off
    str({"pin": SECRET}),
    f'connect(password="{SECRET}")',
    f"connect(password='a {SECRET}')",
    json.dumps({"in": json.dumps({"password": f'with "quotes" {SECRET}'})}),
    f"redis://u:a/{SECRET}@h/1",
    f"redis://u:a@{SECRET}@h/1",
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A\n\n"
    f"{SECRET}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n{SECRET}",
    json.dumps({"password": "C:\\", "secret": SECRET}),
]


@pytest.mark.parametrize("value", NESTED)
def test_a_secret_is_found_at_any_depth(value: Any) -> None:
    text = json.dumps(masked(value), ensure_ascii=False)

    assert SECRET not in text
    assert SECRET.replace("-", "") not in text
    assert MASK in text


def test_tokens_of_this_service_and_signed_ones_are_known_by_their_form() -> None:
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"

    assert masked_text(f"got tsk_abcdefghij0123456789, then {jwt}.") == f"got {MASK}, then {MASK}."


@pytest.mark.parametrize(
    "text",
    [
        "no such customer: 42", "KeyError: 'password'", "https://shop.example/a?page=2#top",
        "ada@example.com", "12:30:45", "a = b", "C:\\temp",
        "see https://shop.example:8000/x", "ratio: 0.5", "", "\n\n", "x=1&y=2",
    ],
)  # fmt: skip
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert masked_text(text) == text


@pytest.mark.parametrize("name", ["pin_number", "token_number", "secretNum", "tokens_used", "pin_total"])
def test_a_number_that_is_no_measure_is_masked(name: str) -> None:
    assert masked({name: 1234}) == {name: MASK}


@pytest.mark.parametrize("pair", ["u:p", "user:pass", "ada:two words", "user:pass1"])
def test_basic_credentials_are_known_by_the_colon_in_them(pair: str) -> None:
    text = b64encode(pair.encode()).decode()

    assert masked_text(f"sent Basic {text}, got 401") == f"sent Basic {MASK}, got 401"


def test_basic_is_also_a_word() -> None:
    text = "basic training, Basic settings and basic/advanced: all basic functions"

    assert masked_text(text) == text


def test_what_is_masked_is_a_copy() -> None:
    payload = {"password": SECRET, "list": [{"token": SECRET}]}

    masked(payload)

    assert payload == {"password": SECRET, "list": [{"token": SECRET}]}


PIECES = [
    "a", "a=", "'", "://", "a:", "-----BEGIN PRIVATE KEY-----", "'a':'", "Bearer ", "eyJ", "\\", "Cookie:",
    "http://a:b", "tsk_", "'a':'\\", "a.", "-", " : ", "eyJ-", "eyJ-abcdefgh.", "a://", "a://b:c/", "x@",
    "Authorization:\n", "Basic ", "BEGIN PRIVATE KEY-----\n-", "\\\\\\'",
    "password=", "'password':'", "'password':'\\", "password='\\\n", "'password': '", "password.",
    "\\'password\\':\\'", "'password'", "password: ", "'password':1.", "'password':'\n", "token",
]  # fmt: skip
BEFORE = ["", '"password": "', "token: ", "a://b:"]


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("after", ["", "\nx"])
def test_a_long_text_takes_no_more_than_its_length(before: str, piece: str, after: str) -> None:
    """A pattern that tries each beginning with each end would take many times as long for these."""
    text = before + piece * ((TEXT_CHARS - 100) // len(piece)) + after
    began = time.process_time()

    masked_text(text)

    assert time.process_time() - began < 1.5


def test_a_value_that_is_not_closed_is_masked_to_the_end_of_its_line() -> None:
    """It took twice as long for each backslash."""
    text = '"password": "' + "\\" * 40 + "\nx"

    assert masked_text(text) == f'"password": "{MASK}\nx'


def test_of_a_very_long_text_the_rest_is_cut_and_says_so() -> None:
    text = "x" * (TEXT_CHARS - 10) + f" a://u:{SECRET}@db"  # cut off within the secret

    shown = masked_text(text)

    assert SECRET[:3] not in shown
    assert shown.endswith(f"xxx {MASK} (cut here: the text has {len(text):,} characters)")
    assert len(shown) > TEXT_CHARS - 3_000
    assert unmasked(masked([text]), [text]) == [text]


# -- and back

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([SECRET, "x", f"token={SECRET}", MASK]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["password", "a", "b", "name", "value", "Authorization"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_what_was_not_touched_comes_back_as_it_was(value: Any) -> None:
    assert unmasked(masked(value), value) == value


@given(JSON)
def test_masking_twice_is_masking_once(value: Any) -> None:
    assert masked(masked(value)) == masked(value)


@pytest.mark.parametrize(
    "edit",
    [{"url": "https://elsewhere"}, {"more": 1}, {"url": None}, {"flag": True}, {"flag": 1.0}],
)
def test_beside_an_edit_no_mask_brings_its_secret_back(edit: dict[str, Any]) -> None:
    """It could be sent to where whoever edits it can read it."""
    original = {"card": {"token": SECRET}, "url": "https://shop.example", "flag": 1}

    with pytest.raises(StillMasked) as caught:
        unmasked({**masked(original), **edit}, original)

    assert caught.value.pointer == "/card/token"


def test_beside_an_edit_secrets_that_are_written_anew_are_taken() -> None:
    original = {"card": {"token": SECRET, "note": MASK}, "url": "https://shop.example"}
    edited = {"card": {"token": "new", "note": MASK}, "url": "https://elsewhere"}

    assert unmasked(edited, original) == edited


def test_the_order_of_members_is_no_edit() -> None:
    assert unmasked({"b": 1, "token": MASK}, {"token": SECRET, "b": 1}) == {"token": SECRET, "b": 1}


def test_a_secret_can_be_written_anew() -> None:
    assert unmasked({"token": "new"}, {"token": SECRET}) == {"token": "new"}


@pytest.mark.parametrize(
    ("edited", "pointer"),
    [
        ({"note": MASK}, "/note"),
        ({"card": {"name": MASK}}, "/card/name"),
        ({"list": [MASK]}, "/list/0"),
        ({"token": f"x{MASK}"}, "/token"),
        ({"token": {"a": MASK}}, "/token/a"),
        ({"a/b~": MASK}, "/a~1b~0"),
        (MASK, ""),
    ],
)
def test_a_mask_at_another_place_brings_nothing_back(edited: Any, pointer: str) -> None:
    """Else a secret could be moved to where it is shown."""
    with pytest.raises(StillMasked) as caught:
        unmasked(edited, {"token": SECRET, "card": {"name": "Ada"}})

    assert caught.value.pointer == pointer
