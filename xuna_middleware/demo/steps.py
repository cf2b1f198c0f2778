"""What `--check` asserts, a step at a time: a step returns nothing, or raises what is wrong."""

import base64
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import httpx
from websockets.exceptions import ConnectionClosed

from xuna_middleware.demo.feed import encode
from xuna_middleware.demo.stage import Stage
from xuna_middleware.demo.talk import talk
from xuna_middleware.demo.visitor import Visitor

SIGNED_URL: Final = "/xuna/get-signed-url"
TOKEN: Final = "/xuna/conversation-token"  # noqa: S105 - an address
REFERENCE: Final = "Xuna-Gate-Ref"
_FILES: Final = re.compile(r"""(?:src|href|from)\s*=?\s*"([^"#]+)\"""")


@dataclass(slots=True, kw_only=True)
class Walk:
    """Hold what earlier steps found for later ones. Secrets are in no rendering.

    Attributes:
        tokens: access tokens by person. passes: the gate's answers, in order.
        refused: status, code and reference of every refusal.
        secrets: all that must turn up nowhere.
        log: what was logged so far, a line each.
    """

    stage: Stage
    visitor: Visitor
    log: list[str]
    tokens: dict[str, str] = field(default_factory=dict, repr=False)
    passes: list[dict[str, Any]] = field(default_factory=list, repr=False)
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set, repr=False)


Step: TypeAlias = Callable[[Walk], Awaitable[None]]


def expect(condition: object, wrong: str) -> None:
    """Raise AssertionError, with words that hold no secret, unless the condition holds."""
    if not condition:
        raise AssertionError(wrong)


async def page_stands_alone(walk: Walk) -> None:
    page = await walk.visitor.get("/")
    expect(page.status_code == httpx.codes.OK, f"the page answers {page.status_code}")
    policy = page.headers["content-security-policy"]
    expect("default-src 'none'" in policy and "unsafe" not in policy, "its policy is not strict")
    expect(page.headers["x-content-type-options"] == "nosniff", "nosniff is missing")
    expect(page.headers["referrer-policy"] == "no-referrer", "no-referrer is missing")
    waiting, found = [page], {"/"}
    while waiting:
        waiting += await _linked(walk, waiting.pop(), found)
    expect(len(found) > 7, "style, icon or scripts are missing")


async def _linked(walk: Walk, text: httpx.Response, found: set[str]) -> list[httpx.Response]:
    """Get what this file names and wasn't seen before; all of it has to be the app's own."""
    names = {re.sub(r"^\./", "/page/", name) for name in _FILES.findall(text.text)} - found
    foreign = [name for name in names if not name.startswith("/") or name.startswith("//")]
    expect(not foreign, f"the page wants {foreign}")
    found |= names
    files = [await walk.visitor.get(name) for name in sorted(names)]
    expect(all(file.status_code == httpx.codes.OK for file in files), "a file is missing")
    return files


def signs_in(person: str) -> Step:
    """Return the step in which this person signs in."""

    async def step(walk: Walk) -> None:
        token = await walk.visitor.sign_in(person)
        walk.tokens[person] = token
        walk.secrets.add(token)
        me = await walk.visitor.get("/api/me", token)
        expect(me.status_code == httpx.codes.OK, f"the protected path answers {me.status_code}")
        name = next(one.name for one in walk.stage.provider.people if one.subject == person)
        expect(me.json()["name"] == name, "the app behind the gate sees somebody else")

    return step


async def agents_differ(walk: Walk) -> None:
    wanted = {"ada": ["concierge", "advisor"], "ben": ["concierge"], "cleo": []}
    for person, names in wanted.items():
        answer = await walk.visitor.get("/xuna/agents", walk.tokens[person])
        expect(answer.status_code == httpx.codes.OK, f"{person} gets {answer.status_code}")
        listed = [agent["name"] for agent in answer.json()["agents"]]
        expect(listed == names, f"{person} may use {listed}, should be {names}")


async def signed_url_is_issued(walk: Walk) -> None:
    body = {"agent": "concierge"}
    answer = await _granted(walk, await walk.visitor.post(SIGNED_URL, body, walk.tokens["ada"]))
    walk.secrets.add(answer["signed_url"].partition("?")[2])
    expect(answer["transport"] == "websocket", "the transport is wrong")
    variables = answer["session"]["dynamicVariables"]
    expect(variables == {"user_name": "Ada Moreau", "plan_name": "pro"}, "variables are wrong")


async def conversation_has_two_turns(walk: Walk) -> None:
    answer = walk.passes[0]
    async with talk(answer["signed_url"]) as call:
        await call.introduce(answer["session"])
        expect(await call.started() == answer["conversation_id"], "another conversation began")
        expect("Ada Moreau" in await call.hear(), "the agent does not know her name")
        expect("plan_name is pro" in await call.say("What is my plan?"), "first turn")
        expect("Ada Moreau" in await call.say("Thank you."), "second turn")
    record = walk.stage.platform.conversations[-1]
    expect(record.agent_id == "agent_demo_concierge", "the platform heard another agent")


async def signed_url_works_once(walk: Walk) -> None:
    try:
        async with talk(walk.passes[0]["signed_url"]) as call:
            await call.started()
    except ConnectionClosed as closed:
        expect(closed.rcvd and closed.rcvd.code != 1000, "it ended in good order")
    else:
        raise AssertionError("it opened a second conversation")


async def override_is_carried(walk: Walk) -> None:
    body = {"agent": "advisor"}
    answer = await _granted(walk, await walk.visitor.post(SIGNED_URL, body, walk.tokens["ada"]))
    walk.secrets.add(answer["signed_url"].partition("?")[2])
    async with talk(answer["signed_url"]) as call:
        await call.introduce(answer["session"])
        await call.started()
        words = await call.hear()
        expect("Good to see you, Ada Moreau" in words, "its first words are not the gate's")


async def token_is_issued(walk: Walk) -> None:
    answer = await _granted(
        walk, await walk.visitor.get(TOKEN, walk.tokens["ben"], agent="concierge")
    )
    walk.secrets.add(answer["token"])
    expect(answer["transport"] == "webrtc", "the transport is wrong")
    expect("dynamicVariables" not in answer.get("session", {}), "the client got the variables")
    attached = walk.stage.platform.issued[-1].dynamic_variables
    expect(attached == {"user_name": "Ben Okafor", "plan_name": "free"}, "variables are wrong")


async def scope_is_required(walk: Walk) -> None:
    answer = await walk.visitor.post(SIGNED_URL, {"agent": "concierge"}, walk.tokens["cleo"])
    _refused(walk, answer, 403, "insufficient_scope")
    expect("insufficient_scope" in answer.headers.get("www-authenticate", ""), "no challenge")


async def plan_is_required(walk: Walk) -> None:
    answer = await walk.visitor.post(SIGNED_URL, {"agent": "advisor"}, walk.tokens["ben"])
    _refused(walk, answer, 403, "plan_too_small")
    words = answer.json()["detail"]
    expect(words == "The advisor is part of the Pro plan.", "not the author's words")


async def forged_variable_is_refused(walk: Walk) -> None:
    body = {"agent": "concierge", "dynamic_variables": {"plan_name": "enterprise"}}
    answer = await walk.visitor.post(SIGNED_URL, body, walk.tokens["ben"])
    _refused(walk, answer, 400)
    expect("enterprise" not in answer.text, "the answer repeats the forged value")


async def token_is_required(walk: Walk) -> None:
    answer = await walk.visitor.post(SIGNED_URL, {"agent": "concierge"})
    _refused(walk, answer, 401, "not_authenticated")
    _refused(walk, await walk.visitor.get("/api/me"), 401, "not_authenticated")


async def tampered_token_is_refused(walk: Walk) -> None:
    forged = tampered(walk.tokens["ben"], plan="pro")
    walk.secrets.add(forged)
    answer = await walk.visitor.post(SIGNED_URL, {"agent": "advisor"}, forged)
    _refused(walk, answer, 401, "invalid_token")


async def nothing_else_left(walk: Walk) -> None:
    issued, known = len(walk.stage.platform.issued), len(walk.passes)
    expect(issued == known, f"the platform issued {issued}, the visitors got {known}")
    told = [event for event in walk.stage.feed.events() if event.name == "issued"]
    expect(len(told) == known, f"the gate told of {len(told)}, the visitors got {known}")
    expect(len(walk.stage.platform.conversations) == 2, "not two conversations")


async def feed_tells_all(walk: Walk) -> None:
    events = await walk.visitor.events(len(walk.stage.feed.events()))
    told = {
        (event["status"], event["code"], event["reference"])
        for event in events
        if event["name"] == "refused"
    }
    missing = [code for status, code, ref in walk.refused if (status, code, ref) not in told]
    expect(walk.refused and not missing, f"not told: {missing}")
    rules = {event.get("rule") for event in events if event["name"] == "authorized"}
    expect(None not in rules and len(rules) == 2, "the rules are not named")


async def nothing_secret_is_told(walk: Walk) -> None:
    secrets = {*walk.secrets, walk.stage.platform.api_key}
    expect(len(secrets) >= 8, "too few secrets were seen to judge")
    config = json.dumps(await walk.visitor.config())
    events = "".join(encode(entry) for entry in walk.stage.feed.entries())
    for place, text in {"events": events, "page": config, "log": "\n".join(walk.log)}.items():
        expect(not any(_leaks(secret, text) for secret in secrets), f"a secret is in the {place}")
    expect("refused 401" in "\n".join(walk.log), "the log names no refusal")


def tampered(token: str, **claims: Any) -> str:
    """Return the token with claims changed and its old signature."""
    header, payload, signature = token.split(".")
    told = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    changed = json.dumps({**told, **claims}).encode()
    return f"{header}.{base64.urlsafe_b64encode(changed).decode().rstrip('=')}.{signature}"


def _leaks(secret: str, text: str) -> bool:
    """Say whether the secret, or its last part, which is the random one, is in the text."""
    return secret in text or secret[-24:] in text


async def _granted(walk: Walk, answer: httpx.Response) -> dict[str, Any]:
    expect(answer.status_code == httpx.codes.OK, f"the gate answers {answer.status_code}")
    expect(answer.headers["cache-control"] == "no-store", "the answer may be stored")
    walk.passes.append(dict(answer.json()))
    return walk.passes[-1]


def _refused(walk: Walk, answer: httpx.Response, status: int, code: str | None = None) -> None:
    expect(answer.status_code == status, f"the gate answers {answer.status_code}, not {status}")
    expect(answer.headers["content-type"] == "application/problem+json", "it is no problem+json")
    problem = answer.json()
    expect(code in (None, problem["code"]), f"its code is {problem['code']}")
    expect(answer.headers.get(REFERENCE), "it has no reference")
    walk.refused.append((status, problem["code"], answer.headers[REFERENCE]))
    expect(len(walk.stage.platform.issued) == len(walk.passes), "something was issued all the same")


STEPS: Final[tuple[tuple[str, Step], ...]] = (
    ("The page is whole, strict, and needs nothing from elsewhere", page_stands_alone),
    ("Ada, who may do everything, signs in with code and PKCE", signs_in("ada")),
    ("Ben, on a smaller plan, signs in", signs_in("ben")),
    ("Cleo, without the scope, signs in", signs_in("cleo")),
    ("Each is shown the agents that are open to them", agents_differ),
    ("Ada gets a signed URL for the concierge", signed_url_is_issued),
    ("Ada and the concierge talk, two turns", conversation_has_two_turns),
    ("Her signed URL does not work twice", signed_url_works_once),
    ("The advisor greets Ada in the gate's words", override_is_carried),
    ("Ben gets a conversation token, his data travels past him", token_is_issued),
    ("Cleo is refused: 403 insufficient_scope", scope_is_required),
    ("Ben is refused the advisor: 403, in the author's words", plan_is_required),
    ("A forged variable is refused: 400", forged_variable_is_refused),
    ("No token is refused: 401", token_is_required),
    ("A tampered token is refused: 401", tampered_token_is_refused),
    ("Nothing was issued but what the visitors got", nothing_else_left),
    ("The feed tells each decision, with rule or reference", feed_tells_all),
    ("No key, token or signed URL in feed, page or log", nothing_secret_is_told),
)
