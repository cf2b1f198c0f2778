"""The other end of a client's peer connection: ICE, DTLS and SCTP on loopback, without media.

It stands on the transports beneath aiortc's `RTCPeerConnection` rather than on that, for two
reasons. ICE here has one candidate, on 127.0.0.1, and asks no STUN or TURN server: nothing leaves
the machine, and a browser reaches it even where it hides its own addresses behind mDNS names,
since the client's checks tell where they come from. And media that a client sends ends here,
undecoded, instead of in a decoder's queue.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Final

from aioice import Candidate, Connection
from aiortc import (
    RTCCertificate,
    RTCDataChannel,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
    RTCSctpCapabilities,
    RTCSctpTransport,
)

from xuna_middleware.sandbox.webrtc import sdp
from xuna_middleware.sandbox.webrtc.sdp import Local, Offer, OfferError

LOOPBACK: Final = "127.0.0.1"
logger = logging.getLogger("xuna_middleware.sandbox")


class Peer:
    """Answer one client's offers, and meet it on one bundled transport.

    Args:
        on_channel: is called with every data channel that the client opens.
        on_lost: is called when the connection fails or is closed from the other side; after
            `close()` no more.

    Does not: restart ICE, send or hear media, or open channels of its own.
    """

    def __init__(
        self, *, on_channel: Callable[[RTCDataChannel], None], on_lost: Callable[[], None]
    ) -> None:
        self._gatherer = _LoopbackGatherer()
        self._ice = RTCIceTransport(self._gatherer)
        self._dtls = RTCDtlsTransport(self._ice, [RTCCertificate.generateCertificate()])
        self._sctp = RTCSctpTransport(self._dtls)
        self._on_lost = on_lost
        self._sctp.on("datachannel", on_channel)
        self._dtls.on("statechange", self._watch)
        self._connecting: asyncio.Task[None] | None = None
        self._username = ""
        self._session_id = secrets.randbits(62)
        self._version = 0

    async def answer(self, text: str) -> str:
        """Return the answer to an offer. The first begins to connect; later ones add sections.

        Raises OfferError for one that can't be answered, a restart of ICE included.
        """
        offer = sdp.read(text)
        if self._connecting is None:
            await self._gatherer.gather()
            self._username = offer.username
            self._connecting = asyncio.create_task(self._connect(offer))
            self._connecting.add_done_callback(self._tried)
        elif offer.username != self._username:
            raise OfferError("the offer restarts ICE")
        self._version += 1
        return sdp.answer(offer, self._local(), session_id=self._session_id, version=self._version)

    async def close(self) -> None:
        """End it. Nothing is left behind: no task, no socket."""
        self._dtls.remove_all_listeners()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait({self._connecting})
        await self._sctp.stop()
        await self._dtls.stop()
        await self._ice.stop()

    async def _connect(self, offer: Offer) -> None:
        await self._ice.start(
            RTCIceParameters(usernameFragment=offer.username, password=offer.password)
        )
        if self._ice.state != "completed":
            self._on_lost()
            return
        hashes = [RTCDtlsFingerprint(algorithm=name, value=it) for name, it in offer.fingerprints]
        await self._dtls.start(RTCDtlsParameters(fingerprints=hashes))
        if self._dtls.state == "connected":
            await self._sctp.start(
                RTCSctpCapabilities(maxMessageSize=offer.max_message_size), offer.sctp_port
            )

    def _tried(self, connecting: asyncio.Task[None]) -> None:
        if not connecting.cancelled() and (fault := connecting.exception()) is not None:
            logger.warning("a peer connection failed", exc_info=fault)
            self._on_lost()

    def _watch(self) -> None:
        if self._dtls.state in ("closed", "failed"):
            self._on_lost()

    def _local(self) -> Local:
        known = self._gatherer.getLocalParameters()
        (candidate,) = self._gatherer.getLocalCandidates()
        hashes = self._dtls.getLocalParameters().fingerprints
        return Local(
            username=str(known.usernameFragment),
            password=str(known.password),
            fingerprints=tuple((one.algorithm, one.value) for one in hashes),
            host=candidate.ip,
            port=candidate.port,
            sctp_port=self._sctp.port,
            max_message_size=self._sctp.getCapabilities().maxMessageSize,
        )


class _LoopbackConnection(Connection):
    """Offer one address, which aioice would leave out: this machine's own."""

    async def get_component_candidates(
        self,
        component: int,
        addresses: list[str],
        timeout: int = 5,  # noqa: ASYNC109 - aioice's own
    ) -> list[Candidate]:
        return await super().get_component_candidates(component, [LOOPBACK], timeout)


class _LoopbackGatherer(RTCIceGatherer):
    """Gather on loopback alone. An empty list of servers: aiortc's default asks a public one."""

    def __init__(self) -> None:
        super().__init__(iceServers=[])
        self._connection = _LoopbackConnection(ice_controlling=False)
