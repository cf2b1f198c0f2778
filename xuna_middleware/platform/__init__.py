"""The one platform: grants in, credentials out.

Public: what a `Platform` of your own is given and what it returns.
"""

from xuna_middleware.access.grants import Grant, Personalization
from xuna_middleware.platform.protocol import PlatformConnection
from xuna_middleware.platform.records import ConversationRecord

__all__ = [
    "ConversationRecord",
    "Grant",
    "Personalization",
    "PlatformConnection",
]
