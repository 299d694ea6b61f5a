"""The model owner's claim that a model earns the rung ``ee-private-weights``.

Only who has the plain model can measure how far it is from a public one. So the claim is the owner's word, and it is
carried as that: signed by the wallet that registered the model, and checked for everything but its truth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from rexis.protocol.digests import Digest
from rexis.protocol.errors import EvidenceError
from rexis.protocol.parsing import AddressField, DigestField, HexBytes, Strict, UInt64, enum_name
from rexis.protocol.policy import Rung, RungField
from rexis.protocol.signing import require_signer, sign_digest
from rexis.protocol.typed_data import Domain, Struct

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

# Smallest relative Frobenius distance of a layer from the public base model's, in units of 10⁻⁹: its own length.
# Measured on the zoo (docs/ee-leakage.md): closer models' neurons are identified in part.
PRIVATE_WEIGHTS_DISTANCE_E9 = 1_000_000_000


class RungClaim(Struct):
    """What a model's owner says of its plain weights.

    Attributes
    ----------
    rung
        The rung that is claimed.
    model_digest, key_epoch
        Of the encrypted model.
    base_digest
        SHA-256 of the public base model's ONNX bytes.
    distance_e9
        Smallest relative Frobenius distance of a layer from the base model's, in units of 10⁻⁹, rounded down.
    threshold_e9
        What the rung asked for when the claim was made.
    card_digest
        SHA-256 of the leakage card (JSON) with the distance of each layer.
    owner
        Who registered the model on chain, and signs.
    """

    rung: RungField
    model_digest: DigestField
    key_epoch: Annotated[UInt64, Field(ge=1)]
    base_digest: DigestField
    distance_e9: UInt64
    threshold_e9: UInt64
    card_digest: DigestField
    owner: AddressField

    def __str__(self) -> str:
        """One line for a person: what is claimed by whom, and that nobody else can check it."""
        return (
            f"claimed by the owner {self.owner}, not checkable without the plain weights: every layer at least "
            f"{self.distance_e9 / 1e9:.1%} from base model {self.base_digest} ({self.threshold_e9 / 1e9:.0%} needed)"
        )


class SignedRungClaim(Strict):
    """A claim and its owner's signature over the claim's EIP-712 digest."""

    claim: RungClaim
    signature: HexBytes


def sign_rung_claim(account: LocalAccount, claim: RungClaim, domain: Domain) -> SignedRungClaim:
    """Sign a claim for one deployment."""
    return SignedRungClaim(claim=claim, signature=sign_digest(account, domain.digest(claim)))


def require_rung_claim(signed: SignedRungClaim, domain: Domain, *, rung: Rung, model: Digest, epoch: int) -> RungClaim:
    """Check all of a claim that can be checked without the plain model and without the chain; returns it.

    Parameters
    ----------
    rung, model, epoch
        Of the job, or of the registration: the claim must be about these.

    Raises
    ------
    EvidenceError
        It is about something else, below the threshold, or the threshold is lower than this version's.
    SignatureError
        The owner that it names did not sign it for this chain and EvidenceLog.
    """
    claim = signed.claim
    if claim.rung != rung:
        raise EvidenceError(f"claims rung {enum_name(claim.rung)}, not {enum_name(rung)}", field="rungClaim.claim.rung")
    if claim.model_digest != model:
        raise EvidenceError(f"is about model {claim.model_digest}, not {model}", field="rungClaim.claim.modelDigest")
    if claim.key_epoch != epoch:
        raise EvidenceError(f"is about key epoch {claim.key_epoch}, not {epoch}", field="rungClaim.claim.keyEpoch")
    if claim.threshold_e9 < PRIVATE_WEIGHTS_DISTANCE_E9:
        raise EvidenceError(
            f"measures against a threshold of {claim.threshold_e9 / 1e9:.1%}, "
            f"{PRIVATE_WEIGHTS_DISTANCE_E9 / 1e9:.0%} are needed",
            field="rungClaim.claim.thresholdE9",
        )
    if claim.distance_e9 < claim.threshold_e9:
        raise EvidenceError(
            f"a layer is only {claim.distance_e9 / 1e9:.1%} from the base model, "
            f"{claim.threshold_e9 / 1e9:.0%} are needed",
            field="rungClaim.claim.distanceE9",
            hint="fine-tune further, or offer the model as ee-outsourced",
        )
    require_signer(domain.digest(claim), signed.signature, claim.owner, "rung claim")
    return claim
