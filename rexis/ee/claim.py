"""From a leakage card to its owner's claim of the rung that it earns."""

from __future__ import annotations

from pydantic import ValidationError

from rexis.ee.card import LeakageCard
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import EncryptionError, MalformedError
from rexis.protocol.parsing import MAX_SAFE_INTEGER, Address
from rexis.protocol.policy import Rung
from rexis.protocol.rung import PRIVATE_WEIGHTS_DISTANCE_E9, RungClaim


def rung_claim_of(card: bytes, *, model: Digest, epoch: int, owner: Address) -> RungClaim:
    """What the owner of an encrypted model signs, from the card that ``rexis ee encrypt --base --card`` wrote.

    Parameters
    ----------
    card
        The JSON document, as it was written.
    model, epoch
        Of the encrypted model, which must be the card's.

    Raises
    ------
    MalformedError
        Not a leakage card, or another model's.
    EncryptionError
        The distances do not earn ``ee-private-weights``, or none were measured; says which layer is how far.
    """
    try:
        found = LeakageCard.model_validate_json(card)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise MalformedError(
            "not a leakage card", field=where or "card", hint="`rexis ee encrypt --base FILE --card FILE.json`"
        ) from None
    if found.model_digest != str(model):
        raise MalformedError(
            f"the card is of model {found.model_digest}, not {model}",
            field="card.modelDigest",
            hint="give the card that was written when this model was encrypted",
        )
    if found.base_digest is None or not found.distances:
        raise EncryptionError(
            "the card does not earn the rung ee-private-weights: no public base model was named",
            field="card.baseDigest",
            hint="`rexis ee encrypt --base FILE` measures the distance; it needs the plain model",
        )
    nearest = min(found.distances, key=lambda each: each.distance)
    distance_e9 = min(int(nearest.distance * 1e9), MAX_SAFE_INTEGER)
    if distance_e9 < PRIVATE_WEIGHTS_DISTANCE_E9:
        raise EncryptionError(
            f"the model does not earn the rung ee-private-weights: layer {nearest.constant!r} is only "
            f"{nearest.distance:.1%} from the base model, {PRIVATE_WEIGHTS_DISTANCE_E9 / 1e9:.0%} are needed",
            field="card.distances",
            hint="fine-tune further, or offer it as ee-outsourced",
        )
    return RungClaim(
        rung=Rung.EE_PRIVATE_WEIGHTS,
        model_digest=model,
        key_epoch=epoch,
        base_digest=Digest.parse(found.base_digest, "card.baseDigest"),
        distance_e9=distance_e9,
        threshold_e9=PRIVATE_WEIGHTS_DISTANCE_E9,
        card_digest=sha256(card),
        owner=owner,
    )
