"""The one platform: grants in, credentials out.

Public: the argument and result types of a `Platform` that you write.
"""

from xuna_middleware.access.grants import Grant, Personalization
from xuna_middleware.platform.issued import ConversationToken, SignedUrl
from xuna_middleware.platform.protocol import PlatformConnection
from xuna_middleware.platform.records import ConversationRecord
from xuna_middleware.platform.rest.client import Platform
from xuna_middleware.platform.webhooks import PostCallWebhook

__all__ = [
    "ConversationRecord",
    "ConversationToken",
    "Grant",
    "Personalization",
    "Platform",
    "PlatformConnection",
    "PostCallWebhook",
    "SignedUrl",
]
