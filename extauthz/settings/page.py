"""Settings of the pages that people see: the console, and what a browser shows instead of what was refused.

A part of `extauthz.settings`. Whatever could make a page fetch or run something else, or
lead somewhere that a caller chose, is refused at load.
"""

from __future__ import annotations

import re
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator, Field

from extauthz.document import Model

MAX_LOGO_CHARACTERS = 64 * 1024
PLACEHOLDERS = ("namespace", "user", "requestId")
"""What links may hold in braces."""

_LOGO = r"^(data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/]+=*|(https://[A-Za-z0-9.-]+(:[0-9]+)?)?/[^/\s\"'<>\\;,][^\s\"'<>\\;,]*)$"
_FIXED_START = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?([/?].*)?|/(?![/\\]).*|mailto:[^\s?]+(\?.*)?", re.DOTALL)
_START_BEFORE_PLACEHOLDER = re.compile(r"https?://[^/?#]+[/?].*|/.*|mailto:[^?]+\?.*", re.DOTALL)
_BAD_BRACES = f"a link's braces must hold one of {', '.join(PLACEHOLDERS)}"


def _link(link: str) -> str:
    try:
        parts = list(Formatter().parse(link))
    except ValueError:
        raise ValueError(_BAD_BRACES) from None
    if any(
        name is not None and (name not in PLACEHOLDERS or spec or conversion) for _, name, spec, conversion in parts
    ):
        raise ValueError(_BAD_BRACES)
    if re.search(r"[\s\x00-\x1f\"<>]", link):
        raise ValueError("a link holds no spaces, quotes or angle brackets; percent-encode them")
    if _FIXED_START.fullmatch(link) is None:
        raise ValueError("a link is a path that starts with one slash, or starts with https://, http:// or mailto:")
    if parts and parts[0][1] is not None and _START_BEFORE_PLACEHOLDER.fullmatch(parts[0][0]) is None:
        raise ValueError("a link may have braces after its host or address only")
    return link


Text = Annotated[str, Field(min_length=1, max_length=500)]
Link = Annotated[str, Field(max_length=2000), AfterValidator(_link)]
Logo = Annotated[str, Field(max_length=MAX_LOGO_CHARACTERS, pattern=_LOGO)]


class RefusalTexts(Model):
    """Every word of the page, so that it can speak the users' language."""

    forbidden_title: Text = "You need access"
    """The heading where a right is missing."""
    forbidden: Text = "Your account does not have the right that this page asks for."
    """What is said there."""
    unauthenticated_title: Text = "You are not signed in"
    """The heading for whoever is not signed in."""
    unauthenticated: Text = "This page is for people who are signed in."
    """What is said there."""
    not_understood_title: Text = "This address cannot be opened"
    """The heading for an ambiguous request."""
    not_understood: Text = "The request could be read in more than one way, so it was not passed on."
    """What is said there."""
    unavailable_title: Text = "Try again shortly"
    """The heading while something does not answer."""
    unavailable: Text = "Whether you may open this page could not be found out just now."
    """What is said there."""
    missing_right: Text = "Missing right"
    """Stands before the right."""
    namespace: Text = "Namespace"
    """Stands before the namespace."""
    all_namespaces: Text = "All namespaces"
    """Stands for a right on all namespaces."""
    hidden_namespace: Text = "That of the object, if there is such an object"
    """Stands for a namespace that may not be told."""
    user: Text = "Signed in as"
    """Stands before the user."""
    ask: Text = "Who to ask"
    """Stands before whom to ask."""
    owner: Text = "the owner of this namespace"
    """Stands behind the name of an owner."""
    somebody: Text = "The owner of the namespace, or the administrators of this platform"
    """Whom to ask where the owner is not known."""
    administrators: Text = "The administrators of this platform"
    """Whom to ask where there is no namespace."""
    other_namespace: Text = "Choose another namespace"
    """The link to other namespaces."""
    help: Text = "Get help"
    """The link to help."""
    retry: Text = "Try again"
    """The link that asks again."""
    details: Text = "Details for support"
    """Unfolds what support needs."""
    request: Text = "Request"
    """Stands before the id of the request."""


class RefusalPage(Model):
    """What a person sees in the browser instead of what was refused."""

    platform: Text = "Kubeflow"
    """The name of the platform, above the page."""
    language: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] = "en"
    """The language of the texts (BCP 47), which screen readers need."""
    logo: Logo | None = None
    """A `data:image/…;base64,` URL, an https URL, or a path of the platform that everybody may read."""
    help_link: Link | None = None
    """Where people get help, as `mailto:`, URL or path; `{namespace}`, `{user}` and `{requestId}` are filled in."""
    namespaces_link: Link | None = "/"
    """Where another namespace can be chosen; Kubeflow's dashboard by default."""
    tell_owner: bool = False
    """Name the namespace's owner (the Namespace's annotation `owner`) to whoever lacks a right in it.

    Anybody who is signed in can then find out by trying names which namespaces exist, and whose they are.
    """
    texts: RefusalTexts = Field(default_factory=RefusalTexts)
    """Other words, or another language."""


class ConsoleSettings(Model):
    """Pages that show rules, decisions and health, and explain requests, at `/console` of the admin listener.

    Whoever opens them sends a token and needs the right `get` on the path `/extauthz/console`; to explain
    requests also `create subjectaccessreviews.authorization.k8s.io`, since that tells what others may do.
    """

    hosts: Annotated[list[Annotated[str, Field(pattern=r"^(\[[0-9a-f:]+\]|[a-z0-9.-]+)$")]], Field(min_length=1)] = [
        *("localhost", "127.0.0.1", "[::1]"),
    ]
    """Under which host names it is reached, with any port. Every other is refused: no web page can pose as it."""
    keep_decisions: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """How many of the last decisions are kept in memory to be shown."""
