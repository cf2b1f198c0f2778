"""An agent for everybody: no sign-in, and still no bill without end.

uvicorn examples.public_agent:app, with XUNA_AI_API_KEY and XUNA_ANONYMOUS_SECRET.
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from xuna_middleware import Agent, AnonymousAccess, Limit, TalkTime, XunaGate, XunaMiddleware

gate = XunaGate(
    agents=[
        Agent(
            "faq",
            id="agent_7101k5zvyjhmfg983brhmhkd98n6",
            anonymous=True,
            max_duration=180,
            limits=[TalkTime("5 hours/day", per="all")],
        )
    ],
    # Beside it: captcha=turnstile("<secret key>"), hcaptcha(…) or ProofOfWork().
    anonymous=AnonymousAccess(limits=[Limit("5/hour"), Limit("20/hour", per="address")]),
)


async def page(request: Request) -> Response:
    return HTMLResponse("<script>/* fetch('/xuna/get-signed-url') … */</script>")


app = XunaMiddleware(Starlette(routes=[Route("/", page)]), gate)
