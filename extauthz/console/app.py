"""The console's web application: its routes, the headers of its pages, and signing in.

Promises: nothing is answered under a foreign host name; every page but the one to sign in
needs the right `get /extauthz/console`, reviewed at each request; no page holds a script.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from aiohttp import web

from extauthz.console import guard
from extauthz.console.explaining import Form
from extauthz.console.guard import EXPLAIN, SEE, Guard
from extauthz.console.pages import Page, Pages
from extauthz.edge.templating import environment
from extauthz.errors import CredentialError, Refused, Unavailable
from extauthz.subject import Subject

MAX_FORM_BYTES = 1024 * 1024
LIVE_SECONDS = 3
"""How often a page that follows what happens is loaded anew."""

_TEMPLATES = Path(__file__).parent / "templates"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_FOREIGN = "The console is not reached under this name. Name it in listeners.admin.console.hosts, if it is yours.\n"

_SUBJECT = web.RequestKey("subject", Subject)
_EXPLAINS = web.RequestKey("explains", bool)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_logger = logging.getLogger(__name__)


class Console:
    """The pages below `/console`, for the admin listener to serve."""

    def __init__(self, pages: Pages, guard_: Guard, *, keep: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.keep = keep
        """Keeps what the charts show, for as long as it runs."""
        self._pages = pages
        self._guard = guard_
        self._templates = environment(_TEMPLATES)
        self._style = (_TEMPLATES / "console.css").read_text()

    def application(self) -> web.Application:
        """Return the application to mount at `/console`."""
        app = web.Application(middlewares=[self._protect], client_max_size=MAX_FORM_BYTES)
        app.add_routes(
            [
                web.get("/", self._overview),
                web.get("/rules", self._rules),
                web.get("/decisions", self._decisions),
                web.get(r"/decisions/{number:\d{1,15}}", self._decision),
                web.get("/explain", self._form),
                web.post("/explain", self._explain),
                web.get("/login", self._login),
                web.post("/login", self._sign_in),
                web.post("/logout", self._sign_out),
                web.get("/console.css", self._css),
            ]
        )
        return app

    @web.middleware
    async def _protect(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await self._answer(request, handler)
        except web.HTTPException as answer:
            response = web.Response(
                status=answer.status, headers=answer.headers, text=f"{answer.status} {answer.reason}\n"
            )
        except Exception:
            _logger.exception("a page of the console failed")
            response = web.Response(status=500, text="The page could not be put together; the log says why.\n")
        response.headers.update(_HEADERS)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._guard.is_reached(request):
            return web.Response(status=403, text=_FOREIGN)
        if request.method == "POST" and not guard.is_own_form(request):
            return web.Response(status=403, text="The form was sent from another page.\n")
        if handler in (self._login, self._sign_in, self._sign_out, self._css):
            return await handler(request)
        return await self._see(request, handler)

    async def _see(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            subject = await self._guard.caller(request)
            if subject is None:
                return self._ask_to_sign_in(request, "")
            request[_SUBJECT] = subject
            if not await self._guard.may(subject, SEE):
                return self._render(request, "forbidden.html", {"right": f"{SEE.verb} {SEE.path}"}, status=403)
            request[_EXPLAINS] = await self._guard.may(subject, EXPLAIN)
        except (CredentialError, Refused) as error:
            return self._ask_to_sign_in(request, error.message)
        except Unavailable as error:
            return web.Response(status=503, text=f"{error.message}\n", headers={"Retry-After": "3"})
        return await handler(request)

    def _ask_to_sign_in(self, request: web.Request, problem: str) -> web.StreamResponse:
        response = self._render(request, "login.html", {"problem": problem}, status=401)
        response.headers["WWW-Authenticate"] = 'Bearer realm="extauthz console"'
        return response

    async def _overview(self, request: web.Request) -> web.StreamResponse:
        return self._render(request, "overview.html", self._pages.overview())

    async def _rules(self, request: web.Request) -> web.StreamResponse:
        return self._render(request, "rules.html", self._pages.rules(request.query))

    async def _decisions(self, request: web.Request) -> web.StreamResponse:
        return self._render(request, "decisions.html", self._pages.decisions(request.query))

    async def _decision(self, request: web.Request) -> web.StreamResponse:
        page = self._pages.decision(int(request.match_info["number"]))
        if page is None:
            raise web.HTTPNotFound
        return self._render(request, "decision.html", page)

    async def _form(self, request: web.Request) -> web.StreamResponse:
        if not request[_EXPLAINS]:
            return self._no_explaining(request)
        return self._render(request, "explain.html", self._pages.form(Form.of(request.query)))

    async def _explain(self, request: web.Request) -> web.StreamResponse:
        if not request[_EXPLAINS]:
            return self._no_explaining(request)
        page = await self._pages.explain(Form.of(await request.post()))
        return self._render(request, "explain.html", page, status=400 if page["mistake"] else 200)

    def _no_explaining(self, request: web.Request) -> web.Response:
        right = f"{EXPLAIN.verb} {EXPLAIN.resource}.{EXPLAIN.group}"
        return self._render(request, "forbidden.html", {"right": right}, status=403)

    async def _login(self, request: web.Request) -> web.StreamResponse:
        return self._render(request, "login.html", {"problem": ""})

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        token = guard.pasted(str((await request.post()).get("token", "")))
        if not token:
            return self._ask_to_sign_in(request, "This is no token.")
        if len(token) > guard.MAX_COOKIE_CHARACTERS:
            problem = "The token is too long for a cookie; send it as an Authorization header."
            return self._ask_to_sign_in(request, problem)
        try:
            subject = await self._guard.verified(token)
        except (CredentialError, Refused, Unavailable) as error:
            return self._ask_to_sign_in(request, error.message)
        response = web.Response(status=303, headers={"Location": "/console/"})
        guard.remember(response, request, token, _seconds_left(subject))
        return response

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        response = web.Response(status=303, headers={"Location": "/console/login"})
        guard.forget(response)
        return response

    async def _css(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=self._style, content_type="text/css")

    def _render(self, request: web.Request, template: str, page: Page, *, status: int = 200) -> web.Response:
        subject: Subject | None = request.get(_SUBJECT)
        live = request.method == "GET" and request.query.get("live") == "1"
        known: dict[str, Any] = {
            "user": subject.user if subject else "",
            "explains": request.get(_EXPLAINS, False),
            "here": request.path.removeprefix("/console"),
            "live": live,
            "live_seconds": LIVE_SECONDS,
            "still": str(request.rel_url.without_query_params("live")),
            "moving": str(request.rel_url.update_query(live="1")),
        }
        text = self._templates.get_template(template).render(**known, **page)
        headers = {"Refresh": str(LIVE_SECONDS)} if live and status == 200 else {}
        return web.Response(text=text, content_type="text/html", status=status, headers=headers)


def _seconds_left(subject: Subject) -> int | None:
    return None if subject.expires is None else max(int(subject.expires - time.time()), 0)
