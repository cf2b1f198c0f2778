"""Django over ASGI: wrapped. Its lifespan is the gate's; views read who calls from the scope.

uvicorn examples.django_app:app, with XUNA_AI_API_KEY, OIDC_ISSUER and DJANGO_SECRET_KEY.
"""

import os

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.http import JsonResponse
from django.urls import path

from xuna_middleware import Agent, OIDCVerifier, XunaGate, XunaMiddleware, get_identity

settings.configure(  # in a project of your own: settings.py
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", ""),
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
)
issuer = os.environ.get("OIDC_ISSUER", "https://login.acme.com")
gate = XunaGate(
    verifier=OIDCVerifier(issuer, audience="voice"),
    agents=[Agent("support", id="agent_7101k5zvyjhmfg983brhmhkd98n6")],
)


async def me(request: ASGIRequest) -> JsonResponse:
    who = get_identity(request.scope)
    return JsonResponse({"user": who and who.subject})


urlpatterns = [path("api/me", me)]
app = XunaMiddleware(get_asgi_application(), gate, protect=["/api"])
