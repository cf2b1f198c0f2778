"""What each step would decide about a caller and an agent, and why. Nothing is taken or issued.

An explanation is for operators, not for callers: it contains causes as the log does.
"""

from dataclasses import dataclass, replace
from typing import Final

from starlette.requests import HTTPConnection

from xuna_middleware.access.agents import Agent
from xuna_middleware.access.grants import Personalization
from xuna_middleware.access.limits.reservations import Remaining, ensure_not_revoked
from xuna_middleware.access.rules.rule import Rule, asked_once
from xuna_middleware.access.values.personalize import check_client, personalize
from xuna_middleware.anonymous.admission import Admission
from xuna_middleware.errors import GateError
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.issuing.pipeline import (
    IssueRequest,
    Pipeline,
    check_limits,
    check_transport,
    resolve_agent,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Describe what one step decides. `passed` is None if it was not reached.

    `status` is the HTTP status that the caller would get; `depth` is above 0 for rules in a rule.
    """

    name: str
    passed: bool | None
    text: str
    status: int | None = None
    depth: int = 0

    def __str__(self) -> str:
        mark = {True: "✓", False: "✗", None: "·"}[self.passed]
        status = f" ({self.status})" if self.status is not None else ""
        return f"{'  ' * self.depth}{mark} {self.name}: {self.text}{status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """List all steps in order; `str()` has a line for each."""

    steps: tuple[Step, ...]

    @property
    def allowed(self) -> bool:
        """Return whether the gate would request a credential."""
        return all(step.passed for step in self.steps if not step.depth)

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))


_NAMES: Final = ("verify", "agent", "check input", "authorize", "reserve", "personalize", "issue")
_VISITORS_NAMES: Final = (*_NAMES[:4], "admission", *_NAMES[4:])


async def explain(pipeline: Pipeline, request: IssueRequest, verified: str) -> Explanation:
    """Go through the steps of a verified caller's request, up to the first refusal."""
    steps = [_passed("verify", verified)]
    names = _VISITORS_NAMES if request.identity.is_anonymous else _NAMES
    try:
        await _decide(steps, pipeline, request)
    except GateError as error:
        steps.append(_refused(names[_reached(steps)], error))
    return _whole(steps, names)


def not_verified(error: GateError) -> Explanation:
    """Return the explanation for a caller who could not be verified."""
    return _whole([_refused("verify", error)], _NAMES)


async def _decide(steps: list[Step], pipeline: Pipeline, request: IssueRequest) -> None:
    agent = resolve_agent(pipeline, request)
    if agent.is_relayed and request.transport == "websocket":
        request = replace(request, transport="relay")
    check_transport(agent, request.transport)
    steps.append(_passed("agent", f"{agent.name}, over {request.transport}"))
    client = check_client(agent, request.dynamic_variables, request.overrides)
    steps.append(_passed("check input", _names(client) or "nothing was sent"))
    agent.check_connection(request.connection)
    steps += await _rule_steps(asked_once(agent.rule), request.identity, request.connection)
    if any(step.passed is False and not step.depth for step in steps):
        return
    if pipeline.admission is not None and request.identity.is_anonymous:
        steps.append(await _explain_admission(pipeline.admission, request))
    steps.append(await _limits(pipeline, request, agent))
    whole = await personalize(agent, request.identity, request.connection, client)
    steps.append(_passed("personalize", _names(whole) or "nothing"))
    steps.append(_passed("issue", f"would ask the platform for {_CREDENTIALS[request.transport]}"))


async def _explain_admission(admission: Admission, request: IssueRequest) -> Step:
    """Check the pause and the anonymous token. Leave a captcha's answer unused: most work once."""
    await admission.check_not_paused(request.visitor, request.scope)
    admission.check_passed(request.visitor)
    asked = "no captcha" if admission.options.captcha is None else "the captcha is passed"
    return _passed("admission", f"open, {asked}")


async def _limits(pipeline: Pipeline, request: IssueRequest, agent: Agent) -> Step:
    await ensure_not_revoked(request.identity, pipeline.stores.shared)
    left = await check_limits(pipeline, agent, request)
    return _passed("reserve", "; ".join(map(_remaining, left)) or "no limits")


async def _rule_steps(
    rule: Rule, identity: Identity, connection: HTTPConnection | None, depth: int = 0
) -> list[Step]:
    """Return what a rule decides, followed by what each of the rules in it decides."""
    refused = await rule.refusal(identity, connection)
    name = "rule" if depth else "authorize"
    if refused is None:
        steps = [Step(name=name, passed=True, text=f"{rule.name} says yes", depth=depth)]
    else:
        steps = [replace(_refused(name, refused), depth=depth)]
    for part in rule.parts:
        steps += await _rule_steps(part, identity, connection, depth + 1)
    return steps


def _whole(steps: list[Step], names: tuple[str, ...]) -> Explanation:
    """Return the steps, with those that were not reached added by name."""
    left = names[_reached(steps) :]
    missing = [Step(name=name, passed=None, text="not reached") for name in left]
    return Explanation(steps=(*steps, *missing))


def _reached(steps: list[Step]) -> int:
    return sum(1 for step in steps if not step.depth)


def _passed(name: str, text: str) -> Step:
    return Step(name=name, passed=True, text=text)


def _refused(name: str, error: GateError) -> Step:
    return Step(name=name, passed=False, text=error.cause, status=error.status_code)


def _remaining(one: Remaining) -> str:
    return f"{one.limit}: {one.left} of {one.most} {one.unit} left"


def _names(personal: Personalization) -> str:
    """Return names only: values are personal data."""
    return ", ".join([*personal.dynamic_variables, *personal.overrides])


_CREDENTIALS: Final = {
    "websocket": "a signed URL",
    "webrtc": "a conversation token",
    "relay": "a signed URL, and carry the conversation",
}
