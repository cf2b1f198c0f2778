"""Offer and answer (RFC 8829, RFC 8866), as far as one data channel needs them. Pure.

The answer takes every section that is offered, all on one transport (BUNDLE, RFC 9143): the data
channels for real, and audio and video so that a client may send them. What it would like to
receive stays inactive: there is nobody who speaks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

MAX_SDP: Final = 65_536
_MAX_SECTIONS: Final = 64
_DATA: Final = "application"
#: What an answer may repeat of a media section: the codecs, in the client's numbers.
_REPEATED: Final = ("rtpmap:", "fmtp:")


class OfferError(Exception):
    """Say why an offer can't be answered; the text repeats nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One `m=` section of an offer: its kind, its first line, and its attributes in order."""

    kind: str
    media: str
    attributes: tuple[str, ...] = field(repr=False)

    def value(self, name: str) -> str | None:
        """Return what follows `a=name:`, the first time."""
        return _value(self.attributes, name)

    @property
    def rejected(self) -> bool:
        """Say whether the client gave the section up: port 0, and not only bundled elsewhere."""
        return self.media.split(" ")[1] == "0" and "bundle-only" not in self.attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a client offers. Its ICE password is in no repr.

    Attributes:
        fingerprints: algorithm and value of each certificate hash.
        sctp_port, max_message_size: of its data channels; sizes in bytes.
    """

    username: str
    password: str = field(repr=False)
    fingerprints: tuple[tuple[str, str], ...]
    sctp_port: int
    max_message_size: int
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """What this side puts into its answer: how it is reached, and how it is known."""

    username: str
    password: str = field(repr=False)
    fingerprints: tuple[tuple[str, str], ...]
    host: str
    port: int
    sctp_port: int
    max_message_size: int


def read(text: str) -> Offer:
    """Return the offer in this text. Raises OfferError.

    Checks: its size, that there are data channels, ICE credentials and certificate hashes, and
    that the client leaves it to the answer who begins DTLS (`actpass`, as every offer must).
    Does not check: codecs, or anything else about media.
    """
    if len(text) > MAX_SDP:
        raise OfferError("the offer is too large")
    session, sections = _split(text.splitlines())
    every = (*session, *(line for section in sections for line in section.attributes))
    data = next((one for one in sections if one.kind == _DATA and not one.rejected), None)
    if data is None:
        raise OfferError("the offer has no data channel")
    if _value(every, "setup") != "actpass":
        raise OfferError("the offer does not leave DTLS roles to the answer")
    return Offer(
        username=_required(every, "ice-ufrag"),
        password=_required(every, "ice-pwd"),
        fingerprints=_fingerprints(every),
        sctp_port=_number(data.value("sctp-port") or "5000"),
        max_message_size=_number(data.value("max-message-size") or "65536"),
        sections=sections,
    )


def answer(offer: Offer, local: Local, *, session_id: int, version: int) -> str:
    """Return the answer's text. `version` grows with each answer of a session."""
    taken = [section for section in offer.sections if not section.rejected]
    lines = [
        "v=0",
        f"o=- {session_id} {version} IN IP4 {local.host}",
        "s=-",
        "t=0 0",
        f"a=group:BUNDLE {' '.join(section.value('mid') or '' for section in taken)}",
        "a=msid-semantic: WMS *",
    ]
    for section in offer.sections:
        lines += _section(section, local)
    return "".join(f"{line}\r\n" for line in lines)


def _section(section: Section, local: Local) -> Iterator[str]:
    kind, _, *rest = section.media.split(" ")
    yield " ".join((f"m={kind}", "0" if section.rejected else str(local.port), *rest))
    yield f"c=IN IP4 {local.host}"
    yield f"a=mid:{section.value('mid')}"
    if section.rejected:
        return
    yield from _channels(local) if kind == _DATA else _tracks(section)
    yield from _transport(local)


def _channels(local: Local) -> Iterator[str]:
    yield f"a=sctp-port:{local.sctp_port}"
    yield f"a=max-message-size:{local.max_message_size}"


def _tracks(section: Section) -> Iterator[str]:
    sends = not {"recvonly", "inactive"} & set(section.attributes)
    yield "a=recvonly" if sends else "a=inactive"
    yield "a=rtcp-mux"
    yield from (f"a={one}" for one in section.attributes if one.startswith(_REPEATED))


def _transport(local: Local) -> Iterator[str]:
    yield f"a=ice-ufrag:{local.username}"
    yield f"a=ice-pwd:{local.password}"
    for algorithm, value in local.fingerprints:
        yield f"a=fingerprint:{algorithm} {value}"
    yield "a=setup:active"
    # The highest priority of RFC 8445: host, first component. There is no other candidate.
    yield f"a=candidate:1 1 udp 2130706431 {local.host} {local.port} typ host"
    yield "a=end-of-candidates"


def _split(lines: list[str]) -> tuple[tuple[str, ...], tuple[Section, ...]]:
    """Return the session's attributes and the sections."""
    starts = [number for number, line in enumerate(lines) if line.startswith("m=")]
    if not starts or len(starts) > _MAX_SECTIONS:
        raise OfferError("the offer has no section, or too many")
    bounds = zip(starts, [*starts[1:], len(lines)], strict=True)
    sections = tuple(_parsed(lines[start:end]) for start, end in bounds)
    return _attributes(lines[: starts[0]]), sections


def _parsed(lines: list[str]) -> Section:
    media = lines[0].removeprefix("m=")
    section = Section(kind=media.split(" ")[0], media=media, attributes=_attributes(lines[1:]))
    if media.count(" ") < 3 or not section.value("mid"):
        raise OfferError("a section of the offer is malformed")
    return section


def _attributes(lines: list[str]) -> tuple[str, ...]:
    return tuple(line.removeprefix("a=") for line in lines if line.startswith("a="))


def _value(attributes: tuple[str, ...], name: str) -> str | None:
    found = (line for line in attributes if line.startswith(f"{name}:"))
    return next((line.partition(":")[2].strip() for line in found), None)


def _required(attributes: tuple[str, ...], name: str) -> str:
    if not (value := _value(attributes, name)):
        raise OfferError(f"the offer lacks {name}")
    return value


def _fingerprints(attributes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return each hash once. Bundled sections repeat those of the one transport."""
    lines = dict.fromkeys(line for line in attributes if line.startswith("fingerprint:"))
    pairs = [line.removeprefix("fingerprint:").split() for line in lines]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise OfferError("the offer lacks fingerprint")
    return tuple((algorithm, value) for algorithm, value in pairs)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise OfferError("a number in the offer is malformed")
    return int(text)
