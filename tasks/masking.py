"""What is not shown of payloads, results and errors: one rule for every page. Pure.

A value is masked by the name that leads to it, and parts of a text by what they look like. It errs on
the side of hiding: a secret that was shown cannot be hidden again.
"""

from __future__ import annotations

import json
import re
import unicodedata
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

MASK = "••••••••"
TEXT_CHARS = 64 * 1024  # of one text are looked through: no page waits for more
UNSURE_CHARS = 2_048  # the last of those are not shown: a secret that is cut off is not known for one

# anywhere in a name, without what separates its words: apiKey, X-Api-Key, API_KEY
_WITHIN = (
    "password", "passwd", "passphrase", "passcode", "passwort", "secret", "token", "apikey", "accesskey",
    "privatekey", "signingkey", "encryptionkey", "sshkey", "authorization", "credential", "cookie",
    "sessionid", "sessionkey", "bearer", "signature", "connectionstring",
)  # fmt: skip
# as a word of its own: "author" is no secret, "pinned" neither
_WORDS = frozenset(
    (
        "auth",
        "oauth",
        "pass",
        "pwd",
        "pw",
        "pin",
        "otp",
        "totp",
        "cvv",
        "cvc",
        "jwt",
        "sig",
        "ssn",
        "csrf",
        "xsrf",
    )
)
# max_tokens: a number of tokens is no token. A "number" may be one: pin_number
_MEASURES = frozenset(("max", "min", "count", "limit", "length", "size", "ttl"))
_NAME_OF_A_PAIR = ("name", "key", "header", "field", "param")
_VALUE_OF_A_PAIR = ("value", "val", "content")

_WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NO_WORD = re.compile(r"[\W_]+")


@lru_cache(maxsize=4096)
def _words(name: str) -> tuple[str, ...]:
    plain = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    return tuple(word.casefold() for word in _NO_WORD.split(_WORD_ENDS.sub("_", plain)) if word)


def is_secret(name: str) -> bool:
    """Whether a name says that its value is a secret."""
    words = _words(name[:200])
    joined = "".join(words)
    return any(part in joined for part in _WITHIN) or not _WORDS.isdisjoint(words)


def masked(value: Any) -> Any:
    """The same JSON with its secrets masked, at any depth."""
    if isinstance(value, dict):
        pair = _secret_of_a_pair(value)
        return {
            name: MASK if name == pair or hides(name, member) else masked(member)
            for name, member in value.items()
        }
    if isinstance(value, list | tuple):
        return list(_masked_members(value))
    return masked_text(value) if isinstance(value, str) else value


def hides(name: str, value: Any) -> bool:
    """Whether it is masked. None, true and false tell nothing; an empty text, list or object neither."""
    if not is_secret(name) or value is None or isinstance(value, bool) or value in ("", [], {}):
        return False
    is_number = isinstance(value, int | float)
    return not (is_number and not _MEASURES.isdisjoint(_words(name[:200])))


def _secret_of_a_pair(members: dict[str, Any]) -> str | None:
    """The member to hide of ``{"name": "Authorization", "value": "…"}``."""
    small = {name.casefold(): name for name in members}
    names = [members[small[name]] for name in _NAME_OF_A_PAIR if name in small]
    if not any(isinstance(name, str) and is_secret(name) for name in names):
        return None
    value = next((small[name] for name in _VALUE_OF_A_PAIR if name in small), None)
    return value if value is not None and members[value] not in (None, "") else None


def _masked_members(values: list[Any] | tuple[Any, ...]) -> Iterator[Any]:
    """Also ``["Authorization", "…"]``, and what follows ``--password`` among the arguments of a program."""
    before: Any = None
    for place, value in enumerate(values):
        names_it = isinstance(before, str) and is_secret(before)
        is_pair = place == 1 and len(values) == 2
        if names_it and (is_pair or before.startswith("-")) and hides(before, value):
            yield MASK
        else:
            yield masked(value)
        before = value


# -- within a text. Each pattern is bounded, so that a long text takes no more than its length.

_PEM = re.compile(
    r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----)(?:[^-]|-(?!----))*+"  # headers have a "-", too
    r"(-----END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----)?"
)
# up to the last @ before a slash, else to the first one: passwords have slashes that nobody escaped
_URL_PASSWORD = re.compile(
    r"(?<![\w+.-])([A-Za-z][\w+.-]{0,30}://[^\s/:@'\"]{0,256}:)(?:[^\s/'\"]{1,512}|[^\s@'\"]{1,512}+)(?=@)"
)
_URL_TOKEN = re.compile(r"(?<![\w+.-])(https?://)[^\s/:@'\"]{1,512}(?=@)", re.IGNORECASE)
_BEARER = re.compile(r"\b(Bearer\s{1,4})[\w.~+/=-]{6,4096}", re.IGNORECASE)
_BASIC = re.compile(r"\b(Basic\s{1,4})([A-Za-z0-9+/_-]{4,4096}+)={0,2}", re.IGNORECASE)
_HEADER = re.compile(
    r"(?<![\w-])((?:Proxy-)?Authorization|(?:Set-)?Cookie)(\s{0,4}:\s{0,4})[^\r\n'\"]+", re.IGNORECASE
)
_OWN_FORM = re.compile(r"\b(?:tsk_[\w-]{10,}|eyJ[\w-]{8,1024}+\.[\w-]{8,8192}+\.[\w-]*)")
_QUOTED_NAME = re.compile(r"""(\\{0,3}["'])([^"'\\\r\n]{1,100})\1\s{0,4}[:=]\s{0,4}""")
# Possessive: a value is read in one way, and never again. One that is not closed ends with its line.
# Within a text that is quoted itself, what stands for a quotation mark or a backslash is longer.
_QUOTED = r"""((\\{0,3})["'])(?!\1)(?:(?:\2\\){2}|\2\\\2["']|(?!\1)[^\r\n])*+(\1)?"""
_QUOTED_VALUE = re.compile(rf"{_QUOTED}|[\d.]+")
_NAME = re.compile(r"(?<![\w.-])()([\w.-]{1,100})(?:=|:\s{0,4}(?=[^\s/]))")
_VALUE = re.compile(rf"""{_QUOTED}|[^\s&;,'"<>(){{}}\[\]]+""")


def masked_text(text: str) -> str:
    """A text without the secrets in it: of URLs, headers, ``password=…``, keys and tokens of known forms.

    One that is longer than ``TEXT_CHARS`` is cut, with a mask for what was not looked through.
    """
    if len(text) > TEXT_CHARS:
        shown = _masked_text(text[:TEXT_CHARS])[:-UNSURE_CHARS]
        return f"{shown} {MASK} (cut here: the text has {len(text):,} characters)"
    return _masked_text(text)


def _masked_text(text: str) -> str:
    text = _PEM.sub(lambda found: f"{found[1]}{MASK}{found[2] or ''}", text)
    text = _URL_PASSWORD.sub(rf"\1{MASK}", text)
    text = _URL_TOKEN.sub(rf"\1{MASK}", text)
    text = _HEADER.sub(rf"\1\2{MASK}", text)
    text = _BEARER.sub(rf"\1{MASK}", text)
    text = _BASIC.sub(lambda found: f"{found[1]}{MASK}" if _is_a_pair(found[2]) else found[0], text)
    text = _OWN_FORM.sub(MASK, text)
    text = _without_values(text, _QUOTED_NAME, _QUOTED_VALUE)  # as Python and JSON write them
    return _without_values(text, _NAME, _VALUE)


def _is_a_pair(text: str) -> bool:
    """Whether it stands for ``user:password``: "basic training" does not."""
    return b":" in urlsafe_b64decode(text[: len(text) // 4 * 4])


def _without_values(text: str, name: re.Pattern[str], value: re.Pattern[str]) -> str:
    """What follows the name of a secret. What follows another name is looked through like all else."""
    parts, done, at = [], 0, 0
    while found := name.search(text, at):
        at = found.end()
        if is_secret(found[2]) and (secret := value.match(text, at)):
            parts += [text[done:at], secret[1] or "", MASK, secret[3] or ""]
            done = at = secret.end()
    return "".join([*parts, text[done:]])


# -- and back


class StillMasked(Exception):
    """A value is masked, and what it was is not taken over."""

    def __init__(self, pointer: str) -> None:
        super().__init__(pointer)
        self.pointer = pointer  # RFC 6901, from where the value begins


def unmasked(edited: Any, original: Any) -> Any:
    """What somebody made of ``masked(original)``: with its secrets when it was left as it is.

    Raises StillMasked for a mask in anything else, also where it was: what is beside a secret says
    where it is sent, and so whoever may not read it could send it to themselves.
    """
    if _same(edited, masked(original)):
        return original
    for pointer in _masks(edited, original, ""):
        raise StillMasked(pointer)
    return edited


def _same(one: Any, other: Any) -> bool:
    """As JSON, where 1 is neither true nor 1.0, and the order of members says nothing."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _masks(edited: Any, original: Any, at: str) -> Iterator[str]:
    """Where they are. What looks like one and has always been there is a text like any other."""
    if isinstance(edited, str):
        if MASK in edited and edited != original:
            yield at
    elif isinstance(edited, dict):
        for name, member in edited.items():
            yield from _masks(member, _member(original, name), f"{at}/{_escaped(name)}")
    elif isinstance(edited, list):
        for place, member in enumerate(edited):
            yield from _masks(member, _member(original, place), f"{at}/{place}")


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _member(value: Any, key: Any) -> Any:
    """None: there is none."""
    if isinstance(value, dict):
        return value.get(key)
    return value[key] if isinstance(value, list) and isinstance(key, int) and key < len(value) else None
