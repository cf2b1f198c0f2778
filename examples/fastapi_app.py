"""FastAPI: the gate mounted at /xuna, and `Depends(gate.identity)` in routes of one's own.

uvicorn examples.fastapi_app:app, with XUNA_AI_API_KEY and OIDC_ISSUER in the environment.
"""

import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, WebSocket

from xuna_middleware import Agent, Identity, OIDCVerifier, XunaGate

issuer = os.environ.get("OIDC_ISSUER", "https://login.acme.com")
gate = XunaGate(
    verifier=OIDCVerifier(issuer, audience="voice"),
    agents=[Agent("support", id="agent_7101k5zvyjhmfg983brhmhkd98n6", client_variables=("page",))],
)
Caller = Annotated[Identity, Depends(gate.identity)]

app = FastAPI()
app.mount("/xuna", gate)  # examples/mounted.py starts it with the server


@app.post("/help/{page}")
async def ask_for_help(page: str, caller: Caller, request: Request) -> dict[str, Any]:
    """Hand out a pass of one's own making: the agent is told which page the user is on."""
    told = {"page": page}
    issued = await gate.issue(
        caller, transport="webrtc", dynamic_variables=told, connection=request
    )
    return issued.to_dict()


@app.websocket("/captions")
async def captions(websocket: WebSocket, caller: Caller) -> None:
    await websocket.accept()
    await websocket.send_text(f"Hello {caller.subject}")
    await websocket.close()
