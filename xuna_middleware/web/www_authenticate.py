"""Describe to a refused caller how to authenticate: the schemes, and where to read more.

An error contains the reason (`error`, `scope`, `acr_values` …); the gate knows its schemes, the
algorithms of DPoP proofs and the URL of its metadata. Both together make up `WWW-Authenticate`: one
challenge for each scheme (RFC 6750 section 3, RFC 9449 section 7.1, RFC 9728 section 5.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from xuna_middleware.errors import challenged
from xuna_middleware.identity.protocols import VerifierTraits


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenges:
    """The parameters that a gate adds to each challenge.

    Attributes:
        bearer: whether the scheme Bearer is accepted.
        dpop_algorithms: for proofs, in the order in which they are named; empty without DPoP.
        resource_metadata: the URL of the gate's metadata, None without `public_url`.
    """

    bearer: bool = True
    dpop_algorithms: tuple[str, ...] = ()
    resource_metadata: str | None = None

    def header(self, parameters: Mapping[str, str]) -> str:
        """Return the value of `WWW-Authenticate` for an error's parameters."""
        common = dict(parameters)
        if self.resource_metadata is not None:
            common["resource_metadata"] = self.resource_metadata
        is_about_proofs = common.get("error") == "use_dpop_nonce"
        schemes = [challenged("Bearer", common)] if self.bearer and not is_about_proofs else []
        if self.dpop_algorithms:
            algorithms = " ".join(self.dpop_algorithms)
            schemes.append(challenged("DPoP", {**common, "algs": algorithms}))
        return ", ".join(schemes)


def challenges_of(traits: VerifierTraits, resource_metadata: str | None) -> Challenges:
    """Return the challenges of a gate, from the merged traits of its verifiers."""
    return Challenges(
        bearer=traits.accepts_bearer,
        dpop_algorithms=traits.dpop_algorithms,
        resource_metadata=resource_metadata,
    )
