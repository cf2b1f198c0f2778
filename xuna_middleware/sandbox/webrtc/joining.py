"""What a LiveKit client says as it comes: the query of `/rtc/v1`. Pure, and bounded."""

import base64
import binascii
import zlib
from typing import Final

from google.protobuf.message import DecodeError
from livekit.protocol.rtc import JoinRequest, WrappedJoinRequest

from xuna_middleware.sandbox.refusals import RefusalError

#: Bytes of a join request, unpacked: an offer of 64 KB, and what stands around it.
MAX_JOIN: Final = 98_304
_GZIP: Final = zlib.MAX_WBITS | 16


def read(encoded: str) -> JoinRequest:
    """Return the request in this parameter: base64url around protobuf around, perhaps, gzip.

    Raises RefusalError (400) for what isn't so, and (413) for one that is larger than 96 KB when it
    is unpacked: no more than that is unpacked. Its text repeats nothing of the request.
    """
    try:
        wrapped = WrappedJoinRequest.FromString(_bytes(encoded))
        return JoinRequest.FromString(_unpacked(wrapped))
    except (DecodeError, binascii.Error, zlib.error, ValueError):
        raise RefusalError(400, "sandbox: join_request is malformed") from None


def _bytes(encoded: str) -> bytes:
    if len(encoded) > 2 * MAX_JOIN:
        raise RefusalError(413, "sandbox: join_request is too large")
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)


def _unpacked(wrapped: WrappedJoinRequest) -> bytes:
    if wrapped.compression == WrappedJoinRequest.Compression.NONE:
        return _fitting(wrapped.join_request)
    gzip = zlib.decompressobj(_GZIP)
    request = _fitting(gzip.decompress(wrapped.join_request, MAX_JOIN + 1))
    if not gzip.eof:
        raise ValueError("it breaks off")
    return request


def _fitting(request: bytes) -> bytes:
    if len(request) > MAX_JOIN:
        raise RefusalError(413, "sandbox: join_request is too large")
    return request
