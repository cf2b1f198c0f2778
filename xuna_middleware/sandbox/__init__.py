"""A rehearsal stage: a local XUNA AI platform and a local OpenID provider, as two ASGI apps.

`python -m xuna_middleware.sandbox` serves both on loopback. Neither is real, and both say so.
"""

from xuna_middleware.sandbox.agents import SandboxAgent
from xuna_middleware.sandbox.passes import Issued
from xuna_middleware.sandbox.people import PEOPLE, VOICE_SCOPE, Person
from xuna_middleware.sandbox.platform import SandboxPlatform
from xuna_middleware.sandbox.provider import SandboxProvider
from xuna_middleware.sandbox.records import Conversation, Line
from xuna_middleware.sandbox.serving import Place, serve
from xuna_middleware.sandbox.signing_in import SignInError, sign_in

__all__ = [
    "PEOPLE",
    "VOICE_SCOPE",
    "Conversation",
    "Issued",
    "Line",
    "Person",
    "Place",
    "SandboxAgent",
    "SandboxPlatform",
    "SandboxProvider",
    "SignInError",
    "serve",
    "sign_in",
]
