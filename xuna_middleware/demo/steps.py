"""What `--check` asserts, a step at a time."""

import json
import re
from typing import Final

import httpx
from websockets.exceptions import ConnectionClosed

from xuna_middleware.demo.carried import CARRIED
from xuna_middleware.demo.feed import encode
from xuna_middleware.demo.talk import talk
from xuna_middleware.demo.walk import (
    SIGNED_URL,
    Step,
    Walk,
    expect,
    granted,
    leaks,
    refused,
    signs_in,
    solved,
    tampered,
)

TOKEN: Final = "/xuna/conversation-token"  # noqa: S105 - an address
GUIDE: Final = {"agent": "guide"}
#: What a browser says of a request that the page itself makes.
PAGE: Final = {"sec_fetch_site": "same-origin"}
_FILES: Final = re.compile(r"""(?:src|href|from)\s*=?\s*"([^"#]+)\"""")


async def _page_stands_alone(walk: Walk) -> None:
    page = await walk.visitor.get("/")
    expect(page.status_code == httpx.codes.OK, f"the page answers {page.status_code}")
    policy = page.headers["content-security-policy"]
    expect("default-src 'none'" in policy and "unsafe" not in policy, "its policy is not strict")
    expect(page.headers["x-content-type-options"] == "nosniff", "nosniff is missing")
    expect(page.headers["referrer-policy"] == "no-referrer", "no-referrer is missing")
    waiting, found = [page], {"/"}
    while waiting:
        waiting += await _linked(walk, waiting.pop(), found)
    expect(len(found) > 12, "style, icon or scripts are missing")


async def _linked(walk: Walk, text: httpx.Response, found: set[str]) -> list[httpx.Response]:
    """Get what this file names and wasn't seen before; all of it has to be the app's own."""
    names = {re.sub(r"^\./", "/page/", name) for name in _FILES.findall(text.text)} - found
    foreign = [name for name in names if not name.startswith("/") or name.startswith("//")]
    expect(not foreign, f"the page wants {foreign}")
    found |= names
    files = [await walk.visitor.get(name) for name in sorted(names)]
    expect(all(file.status_code == httpx.codes.OK for file in files), "a file is missing")
    return files


async def _agents_differ(walk: Walk) -> None:
    wanted = {
        "ada": ["concierge", "advisor", "guide", "banker"],
        "ben": ["concierge", "guide", "banker"],
        "cleo": ["guide"],
        "olga": ["guide"],
    }
    for person, names in wanted.items():
        answer = await walk.visitor.get("/xuna/agents", walk.tokens[person])
        expect(answer.status_code == httpx.codes.OK, f"{person} gets {answer.status_code}")
        listed = [agent["name"] for agent in answer.json()["agents"]]
        expect(listed == names, f"{person} may use {listed}, should be {names}")


async def _signed_url_is_issued(walk: Walk) -> None:
    body = {"agent": "concierge"}
    answer = await walk.visitor.post(SIGNED_URL, body, walk.tokens["ada"])
    given = granted(walk, answer, "websocket")
    variables = given["session"]["dynamicVariables"]
    expect(variables == {"user_name": "Ada Moreau", "plan_name": "pro"}, "variables are wrong")


async def _conversation_has_two_turns(walk: Walk) -> None:
    answer = walk.passes[0]
    async with talk(answer["signed_url"]) as call:
        await call.introduce(answer["session"])
        expect(await call.started() == answer["conversation_id"], "another conversation began")
        expect("Ada Moreau" in await call.hear(), "the agent does not know her name")
        expect("plan_name is pro" in await call.say("What is my plan?"), "first turn")
        expect("Ada Moreau" in await call.say("Thank you."), "second turn")
    record = walk.stage.platform.conversations[-1]
    expect(record.agent_id == "agent_demo_concierge", "the platform heard another agent")


async def _signed_url_works_once(walk: Walk) -> None:
    try:
        async with talk(walk.passes[0]["signed_url"]) as call:
            await call.started()
    except ConnectionClosed as closed:
        expect(closed.rcvd and closed.rcvd.code != 1000, "it ended in good order")
    else:
        raise AssertionError("it opened a second conversation")


async def _override_is_carried(walk: Walk) -> None:
    body = {"agent": "advisor"}
    answer = await walk.visitor.post(SIGNED_URL, body, walk.tokens["ada"])
    given = granted(walk, answer, "websocket")
    async with talk(given["signed_url"]) as call:
        await call.introduce(given["session"])
        await call.started()
        words = await call.hear()
        expect("Good to see you, Ada Moreau" in words, "its first words are not the gate's")


async def _token_is_issued(walk: Walk) -> None:
    answer = await walk.visitor.get(TOKEN, walk.tokens["ben"], agent="concierge")
    given = granted(walk, answer, "webrtc")
    expect("dynamicVariables" not in given.get("session", {}), "the client got the variables")
    attached = walk.stage.platform.issued[-1].dynamic_variables
    expect(attached == {"user_name": "Ben Okafor", "plan_name": "free"}, "variables are wrong")


async def _scope_is_required(walk: Walk) -> None:
    answer = await walk.visitor.post(SIGNED_URL, {"agent": "concierge"}, walk.tokens["cleo"])
    refused(walk, answer, 403, "insufficient_scope")
    expect("insufficient_scope" in answer.headers.get("www-authenticate", ""), "no challenge")


async def _plan_is_required(walk: Walk) -> None:
    answer = await walk.visitor.post(SIGNED_URL, {"agent": "advisor"}, walk.tokens["ben"])
    refused(walk, answer, 403, "plan_too_small")
    words = answer.json()["detail"]
    expect(words == "The advisor is part of the Pro plan.", "not the author's words")


async def _forged_variable_is_refused(walk: Walk) -> None:
    body = {"agent": "concierge", "dynamic_variables": {"plan_name": "enterprise"}}
    answer = await walk.visitor.post(SIGNED_URL, body, walk.tokens["ben"])
    refused(walk, answer, 400, "variable_not_allowed")
    expect("enterprise" not in answer.text, "the answer repeats the forged value")


async def _token_is_required(walk: Walk) -> None:
    answer = await walk.visitor.post(SIGNED_URL, {"agent": "concierge"})
    refused(walk, answer, 401, "not_authenticated")
    refused(walk, await walk.visitor.get("/api/me"), 401, "not_authenticated")


async def _tampered_token_is_refused(walk: Walk) -> None:
    forged = tampered(walk.tokens["ben"], plan="pro")
    walk.secrets.add(forged)
    answer = await walk.visitor.post(SIGNED_URL, {"agent": "advisor"}, forged)
    refused(walk, answer, 401, "invalid_token")


async def _visitor_is_challenged(walk: Walk) -> None:
    answer = await walk.visitor.post(SIGNED_URL, GUIDE, **PAGE)
    refused(walk, answer, 403, "challenge_required")
    solution = solved(answer.headers["xuna-challenge"])
    given = await walk.visitor.post(SIGNED_URL, GUIDE, xuna_challenge=solution, **PAGE)
    granted(walk, given, "websocket")
    expect(walk.visitor.ticket, "the visitor got no ticket")
    walk.secrets.add(str(walk.visitor.ticket))
    again = await walk.visitor.post(SIGNED_URL, GUIDE, **PAGE)
    granted(walk, again, "websocket")


async def _page_elsewhere_gets_nothing(walk: Walk) -> None:
    elsewhere = {"sec_fetch_site": "cross-site", "origin": "https://evil.example"}
    answer = await walk.visitor.post(SIGNED_URL, GUIDE, **elsewhere)
    refused(walk, answer, 403, "cross_site")


async def _visitor_reaches_the_limit(walk: Walk) -> None:
    granted(walk, await walk.visitor.post(SIGNED_URL, GUIDE, **PAGE), "websocket")
    answer = await walk.visitor.post(SIGNED_URL, GUIDE, **PAGE)
    refused(walk, answer, 429, "quota_exceeded")
    expect(int(answer.headers["retry-after"]) > 0, "it doesn't say when to come again")
    expect("3/hour" in answer.headers["ratelimit-policy"], "it doesn't name the policy")


async def _signing_in_refills_nothing(walk: Walk) -> None:
    answer = await walk.visitor.post(SIGNED_URL, GUIDE, walk.tokens["ada"])
    refused(walk, answer, 429, "quota_exceeded")


async def _nothing_else_left(walk: Walk) -> None:
    issued, known = len(walk.stage.platform.issued), len(walk.passes)
    expect(issued == walk.issued, f"the platform issued {issued}, {walk.issued} are known of")
    told = [event.name for event in walk.stage.feed.events()]
    expect(told.count("issued") == known, f"the gate told of {told.count('issued')}, not {known}")
    expect(
        told.count("conversation_ended") == walk.carried,
        "a conversation that was carried has no end",
    )
    talked = 2 + told.count("conversation_started")
    expect(len(walk.stage.platform.conversations) == talked, f"not {talked} conversations")


async def _feed_tells_all(walk: Walk) -> None:
    events = await walk.visitor.events(len(walk.stage.feed.events()))
    told = {
        (event["status"], event["code"], event["reference"])
        for event in events
        if event["name"] == "refused"
    }
    missing = [code for status, code, ref in walk.refused if (status, code, ref) not in told]
    expect(walk.refused and not missing, f"not told: {missing}")
    rules = {event.get("rule") for event in events if event["name"] == "authorized"}
    expect(None not in rules and len(rules) == 3, "the rules are not named")


async def _nothing_secret_is_told(walk: Walk) -> None:
    secrets = {*walk.secrets, walk.stage.platform.api_key}
    expect(len(secrets) >= 20, "too few secrets were seen to judge")
    config = json.dumps(await walk.visitor.config())
    events = "".join(encode(entry) for entry in walk.stage.feed.entries())
    for place, text in {"events": events, "page": config, "log": "\n".join(walk.log)}.items():
        expect(not any(leaks(secret, text) for secret in secrets), f"a secret is in the {place}")
    expect("refused 401" in "\n".join(walk.log), "the log names no refusal")


#: What is checked, in order, in the words that the terminal shows.
STEPS: Final[tuple[tuple[str, Step], ...]] = (
    ("The page is whole, strict, and needs nothing from elsewhere", _page_stands_alone),
    ("Ada, on the Pro plan, signs in with code and PKCE", signs_in("ada")),
    ("Ben, on a smaller plan, signs in", signs_in("ben")),
    ("Cleo, without the scope, signs in", signs_in("cleo")),
    ("Olga, an operator, signs in", signs_in("olga")),
    ("Each is shown the agents that are open to them", _agents_differ),
    ("Ada gets a signed URL for the concierge", _signed_url_is_issued),
    ("Ada and the concierge talk, two turns", _conversation_has_two_turns),
    ("Her signed URL does not work twice", _signed_url_works_once),
    ("The advisor greets Ada in the gate's words", _override_is_carried),
    ("Ben gets a conversation token, his data travels past him", _token_is_issued),
    ("Cleo is refused: 403 insufficient_scope", _scope_is_required),
    ("Ben is refused the advisor: 403, in the author's words", _plan_is_required),
    ("A forged variable is refused: 400", _forged_variable_is_refused),
    ("No token is refused: 401", _token_is_required),
    ("A tampered token is refused: 401", _tampered_token_is_refused),
    ("A visitor does the work that is asked, and gets a signed URL", _visitor_is_challenged),
    ("A page elsewhere can't spend their budget: 403", _page_elsewhere_gets_nothing),
    ("Their third in an hour is the last: 429, and when to come again", _visitor_reaches_the_limit),
    ("Who signs in keeps what they spent: 429", _signing_in_refills_nothing),
    *CARRIED,
    ("Nothing was issued but what somebody got", _nothing_else_left),
    ("The feed tells each decision, with rule or reference", _feed_tells_all),
    ("No key, token, ticket, signed URL or prompt in feed, page or log", _nothing_secret_is_told),
)
