"""The page that a person sees instead of what was refused.

Promises: everything that a request or a user chose is escaped; nothing is run, and nothing
is fetched but the logo; what is hidden from the caller, the namespace of an object that may
be another tenant's, is not told. The template is compiled once, and what all pages share is
written once.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from markupsafe import Markup

from extauthz.decision import Decision
from extauthz.edge.templating import environment
from extauthz.review import MissingRight, NonResourceAttributes, qualified
from extauthz.settings.page import RefusalPage, RefusalTexts

_TEMPLATES = Path(__file__).parent / "templates"
_KINDS = {400: "not_understood", 401: "unauthenticated", 403: "forbidden"}


class Page:
    """The page with the settings' words. `headers` go with it."""

    def __init__(self, settings: RefusalPage) -> None:
        self._settings = settings
        style = (_TEMPLATES / "refusal.css").read_text()
        fixed = {"page": settings, "texts": settings.texts, "style": Markup(style)}  # noqa: S704  # our own file
        self._template = environment(_TEMPLATES).get_template("refusal.html", globals=fixed)
        self.headers = (
            ("content-type", "text/html; charset=utf-8"),
            ("content-security-policy", _policy(style, settings.logo)),
        )

    def render(self, decision: Decision, message: str, request_id: str, owner: str) -> bytes:
        """Return the page; `message` is the decision's in one line, and `owner` empty where he is not told."""
        texts = self._settings.texts
        kind = _KINDS.get(decision.status, "unavailable")
        user = decision.subject.user if decision.subject else ""
        right, namespace = _words(decision.missing, texts) if decision.missing else ("", "")
        known = {"user": user, "requestId": request_id, "namespace": _namespace(decision.missing)}
        return self._template.render(
            title=getattr(texts, f"{kind}_title"),
            lead=getattr(texts, kind),
            status=decision.status,
            message=message,
            user=user,
            right=right,
            namespace=namespace,
            in_namespace=bool(known["namespace"]),
            owner=owner,
            request_id=request_id,
            help_link=_filled(self._settings.help_link, known),
            namespaces_link=_filled(self._settings.namespaces_link, known),
        ).encode()


def _words(missing: MissingRight, texts: RefusalTexts) -> tuple[str, str]:
    """Say the right and the namespace; the latter is empty where there is none to name."""
    asked = missing.attributes
    if isinstance(asked, NonResourceAttributes):
        return f"{asked.verb} {asked.path}", ""
    right = f"{asked.verb} {qualified(asked.resource, asked.group, asked.subresource)}"
    if missing.hidden:
        return right, texts.hidden_namespace
    return right, asked.namespace or texts.all_namespaces


def _namespace(missing: MissingRight | None) -> str:
    if missing is None or isinstance(missing.attributes, NonResourceAttributes):
        return ""
    return missing.attributes.namespace


def _filled(link: str | None, values: Mapping[str, str]) -> str:
    return link.format_map({name: quote(value, safe="") for name, value in values.items()}) if link else ""


def _policy(style: str, logo: str | None) -> str:
    """Return the Content-Security-Policy: our style and the logo. The platform's own dashboard may frame the page."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    sources = ["data:"]
    if logo and not logo.startswith("data:"):
        where = urlsplit(logo)
        sources.append(f"{where.scheme}://{where.netloc}" if where.netloc else "'self'")
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src {' '.join(sources)}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
