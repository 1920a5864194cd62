"""What no log may hold: tokens, passwords and their like, wherever a client put them.

Names decide, in any spelling; values decide, too, where they look like a token or hold
another query. Too much is masked rather than too little. Whatever a client sends, the work
is linear in its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

MASK = "(masked)"
"""What stands in place of a secret."""

MAX_DECODINGS = 3

_SECRET = re.compile(
    "token|secret|passw|passphrase|signature|credential|apikey|accesskey|privatekey|auth|bearer|jwt|assertion|session"
    "|cookie|hmac|verifier|^(code|otp|pwd|sid|sig|state|ticket)$"
)
_JOINTS = re.compile(r"[^a-z0-9]")
# A run of characters is looked at from its start only, so that no request makes this slow.
_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_.-]*+")
_USERINFO = re.compile(r"://[^/?#@\s]{1,256}@")
_SCHEME = re.compile(r"(?i:basic|bearer)[ +]+[A-Za-z0-9._~+/=-]+")
_INNER_NAME = re.compile(r"(?:^|[?&;#])([^=?&;#]{1,64})=|\"([^\"]{1,64})\"\s{0,8}:")
_PAIRS = re.compile(r"([&;])")


class Mask:
    """Masks what the house and the settings take for secrets."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._named = frozenset(map(_folded, names))

    def is_secret(self, name: str) -> bool:
        """Whether values of this name are secrets."""
        return self.is_named(name) or _SECRET.search(_folded(name)) is not None

    def is_named(self, name: str) -> bool:
        """Whether the settings name it."""
        return _folded(name) in self._named

    def target(self, target: str) -> str:
        """Return a request target with its secrets masked: values of the query, and segments of the path."""
        path, mark, query = target.partition("?")
        path = "/".join(map(self._segment, _USERINFO.sub(f"://{MASK}@", path).split("/")))
        return path + mark + "".join(map(self._pair, _PAIRS.split(query)))

    def host(self, host: str) -> str:
        """Return a host without the user and password before it."""
        _, at, name = host.rpartition("@")
        return self.text(f"{MASK}@{name}" if at else host)

    def value(self, source: str, value: str) -> str:
        """Return what a source of a rule read; `source` is as it stands in the policy."""
        name = re.split(r"[:/]", source)[-1]
        return MASK if self.is_secret(name) or self._hides(value) else value

    def text(self, text: str) -> str:
        """Return a sentence without the tokens in it."""
        return _TOKEN.sub(MASK, text) if "eyJ" in text else text

    def _segment(self, segment: str) -> str:
        return MASK if self._hides(segment) else segment

    def _pair(self, pair: str) -> str:
        name, equals, value = pair.partition("=")
        if equals and (self.is_secret(_decoded(name)) or self._hides(value)):
            return f"{name}={MASK}"
        return MASK if self._hides(name) else pair

    def _hides(self, value: str) -> bool:
        text = _decoded(value)
        if _TOKEN.search(text) or _USERINFO.search(text) or _SCHEME.fullmatch(text):
            return True
        return any(self.is_secret(name or member) for name, member in _INNER_NAME.findall(text))


def _folded(name: str) -> str:
    return _JOINTS.sub("", name.lower())


def _decoded(text: str) -> str:
    """Undo percent-encoding as often as some reader might."""
    for _ in range(MAX_DECODINGS):
        if "%" not in text:
            break
        text = unquote(text)
    return text
