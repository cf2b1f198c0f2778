"""The state of one sandbox platform, and who may come in. No HTTP, no WebSocket."""

import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from xuna_middleware.sandbox.agents import SandboxAgent
from xuna_middleware.sandbox.passes import Issued, PassError, Passes, new_conversation_id
from xuna_middleware.sandbox.records import Conversation, Records
from xuna_middleware.sandbox.refusals import refusal

MAX_AGENTS: Final = 1_000
_LONGEST_ID: Final = 128
UNAUTHORIZED: Final = 3000
POLICY: Final = 1008


class AdmissionError(Exception):
    """Refuse a WebSocket. The close code and a reason of at most 123 bytes go to the client."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Say that this connection may talk to this agent. `issued` is its pass, if it needed one."""

    agent: SandboxAgent
    admitted_by: Literal["public", "signed_url", "token"]
    issued: Issued | None = None


class Workspace:
    """Hold agents, passes and conversations. Everything in it has a size."""

    def __init__(
        self,
        *,
        api_key: str | None,
        agents: Iterable[SandboxAgent],
        unknown_agents: Callable[[str], SandboxAgent] | None,
        quota: int | None,
        clock: Callable[[], float],
        told: Callable[[Conversation], None],
    ) -> None:
        self.api_key = f"sandbox_{secrets.token_urlsafe(24)}" if api_key is None else api_key
        self.agents = {agent.id: agent for agent in agents}
        self.created = {agent_id: clock() for agent_id in self.agents}
        self.quota = quota
        self.clock = clock
        self.passes = Passes(clock=clock)
        self.records = Records()
        self._unknown = unknown_agents
        self._told = told

    def check_key(self, presented: list[str]) -> None:
        """Let the one right key pass, compared in constant time. Raises RefusalError (401)."""
        if not presented:
            raise refusal(401, "needs_authorization", "Sandbox: header xi-api-key is missing.")
        if len(presented) > 1 or not _same(self.api_key, presented[0]):
            raise refusal(401, "invalid_api_key", "Sandbox: this is not the sandbox's API key.")

    def agent(self, agent_id: str) -> SandboxAgent:
        """Return the agent, or make an unseen one where that is wanted. Raises a 404."""
        found = self.agents.get(agent_id)
        if found is None and self._unknown is not None and self._plausible(agent_id):
            found = self.put(self._unknown(agent_id))
        if found is None:
            raise refusal(404, "agent_not_found", "Sandbox: there is no agent with this id.")
        return found

    def put(self, agent: SandboxAgent) -> SandboxAgent:
        """Add an agent or replace the one with its id. Raises RefusalError beyond 1,000 agents."""
        if agent.id not in self.agents and len(self.agents) >= MAX_AGENTS:
            raise refusal(400, "agent_limit_reached", "Sandbox: it holds 1,000 agents at most.")
        self.agents[agent.id] = agent
        self.created.setdefault(agent.id, self.clock())
        return agent

    def check_capacity(self, agent: SandboxAgent) -> None:
        """Refuse to issue where a conversation could not start now. Raises RefusalError (401, 429).

        Whether the real platform counts when it issues is not known; this one counts at both ends.
        """
        if self.quota is not None and self.quota <= 0:
            raise refusal(401, "quota_exceeded", "Sandbox: its quota of conversations is used up.")
        if self._busy(agent):
            raise refusal(
                429,
                "too_many_concurrent_requests",
                "Sandbox: this agent holds as many conversations as it may.",
                headers={"Retry-After": "1"},
            )

    def admit(self, *, agent_id: str | None, signature: str | None, token: str | None) -> Admission:
        """Decide on a connection by what its URL brought. Raises AdmissionError."""
        admission = self._authorize(agent_id, signature, token)
        if self.quota is not None and self.quota <= 0:
            raise AdmissionError(POLICY, "sandbox: quota exceeded")
        if self._busy(admission.agent):
            raise AdmissionError(POLICY, "sandbox: too many concurrent conversations")
        return admission

    def open(self, admission: Admission) -> Conversation:
        """Begin the record of an admitted conversation; it counts against the quota."""
        if self.quota is not None:
            self.quota -= 1
        issued = admission.issued
        record = Conversation(
            id=issued.conversation_id if issued else new_conversation_id(),
            agent_id=admission.agent.id,
            agent_name=admission.agent.name,
            admitted_by=admission.admitted_by,
            started_at=self.clock(),
        )
        self.records.add(record)
        return record

    def close(self, record: Conversation) -> None:
        """Tell of a conversation whose record is finished."""
        self._told(record)

    def _authorize(
        self, agent_id: str | None, signature: str | None, token: str | None
    ) -> Admission:
        try:
            if token is not None and signature is None:
                issued = self.passes.redeem_token(token)
                return self._admission(issued.agent_id, "token", issued)
            if agent_id and signature is not None and token is None:
                issued = self.passes.redeem_signature(agent_id, signature)
                return self._admission(agent_id, "signed_url", issued)
        except PassError as refused:
            raise AdmissionError(UNAUTHORIZED, f"sandbox: {refused}") from None
        if not agent_id or token is not None:
            raise AdmissionError(POLICY, "sandbox: give agent_id, agent_id and signature, or token")
        return self._public(agent_id)

    def _public(self, agent_id: str) -> Admission:
        """Admit to a public agent. A private and an unknown one look the same from outside."""
        agent = self.agents.get(agent_id)
        if agent is None or agent.private:
            raise AdmissionError(UNAUTHORIZED, "sandbox: needs a signed URL or a token")
        return Admission(agent=agent, admitted_by="public")

    def _admission(
        self, agent_id: str, admitted_by: Literal["signed_url", "token"], issued: Issued
    ) -> Admission:
        if (agent := self.agents.get(agent_id)) is None:
            raise AdmissionError(POLICY, "sandbox: the agent was deleted")
        return Admission(agent=agent, admitted_by=admitted_by, issued=issued)

    def _busy(self, agent: SandboxAgent) -> bool:
        limited = agent.concurrency >= 0
        return self.records.full() or (limited and self.records.live(agent.id) >= agent.concurrency)

    def _plausible(self, agent_id: str) -> bool:
        named = agent_id.startswith("agent_") and len(agent_id) <= _LONGEST_ID
        return named and agent_id.isprintable() and len(self.agents) < MAX_AGENTS


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogatepass"))
