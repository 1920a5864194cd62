"""Where everybody asks for a decision: edges, commands, policy tests, the console and the replay.

They all call `Gateway.decide`, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from extauthz.decision import Decision, failed
from extauthz.errors import ExtauthzError
from extauthz.flow import Flow, unknown
from extauthz.policy import Rule
from extauthz.request import Request
from extauthz.steps import Steps
from extauthz.subject import Subject


class Gateway(Steps):
    """Decides requests."""

    def decide(self, request: Request) -> Decision | Awaitable[Decision]:
        """Decide a request; the answer is awaitable only where something had to be asked for. Never raises."""
        flow = Flow(self, request)
        step = flow.step()
        return step if isinstance(step, Decision) else flow.finish(step)

    def repeat(self, decision: Decision, request_id: str, request: Callable[[], Request]) -> bool:
        """Give an allow again to what its basis says is the same request. False: it must be decided anew.

        `request_id` is Envoy's, or empty; `request` reads the request for whoever wants to tell of it.
        """
        return decision.basis is not None and decision.basis.holds()

    def refuse(self, error: ExtauthzError) -> Decision:
        """Decide a check that no request could be read from, or that failed beside the flow."""
        return failed(error)

    def values(self, rule: Rule, request: Request, subject: Subject | None) -> list[dict[str, str | None]]:
        """Return every source of a rule and what it reads, as far as that is in memory."""
        return rule.values(request, subject, Flow(self, request).look_up)

    def values_beside_target(self, rule: Rule, request: Request, decision: Decision) -> dict[str, str | None]:
        """Return what a decision's rule read that method, host and target do not tell; nobody is asked."""
        # Reviews were asked once every lookup was answered, so those answers are at hand.
        look_up = Flow(self, request).look_up if decision.reviews else unknown
        return rule.beside_target(request, decision.subject, look_up)
