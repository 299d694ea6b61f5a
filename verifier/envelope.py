"""The steps around the tasks that certificates of every kind share. Their numbers are those of the list in
:mod:`verifier.certificate`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rexis.protocol.certificate import DEVELOPMENT_CHAINS, Development, Place, SealedDocument
from rexis.protocol.errors import EvidenceError
from rexis.protocol.merkle import check_inclusion
from rexis.protocol.parsing import enum_name
from rexis.protocol.policy import Rung
from rexis.protocol.rung import require_rung_claim
from rexis.protocol.signing import require_signer, text_digest
from rexis.protocol.statement import Kind
from verifier.chain import DEPLOYMENT, check_chain, check_deployment
from verifier.report import Status, Verdict
from verifier.validators import concerns, leave_out

if TYPE_CHECKING:
    from verifier.certificate import VerifyOptions

SEAL, REQUEST, DEVELOPMENT, ANCHOR, RUNG = 2, 3, 4, 11, 19
_MARKERS = {"chain": "chain", "srs": "SRS"}


def check_head(
    certificate: SealedDocument, kind: Kind, options: VerifyOptions, verdict: Verdict, *, development_srs: bool
) -> None:
    """Steps 2 to 4.

    Parameters
    ----------
    kind
        Of job that this format is for.
    development_srs
        The certificate's proofs stand on a development SRS.
    """
    with verdict.step(SEAL, "coordinator's seal") as notes:
        coordinator = certificate.request.coordinator
        require_signer(text_digest(certificate.seal_text), certificate.seal, coordinator, "certificate")
        notes.say(f"document sealed by coordinator {coordinator}")

    with verdict.step(REQUEST, "request and requester's signature") as notes:
        notes.say(_check_request(certificate, kind, options))

    with verdict.step(DEVELOPMENT, "development parameters") as notes:
        notes.say(_check_development(certificate, options, development_srs=development_srs))


def check_anchor(certificate: SealedDocument, place: Place, name: str, verdict: Verdict) -> None:
    """Step 11, of the task called `name`."""
    with verdict.step(ANCHOR, f"anchor, {name}") as notes:
        anchor = place.anchor
        digest = certificate.domain.digest(place.statement)
        check_inclusion(anchor.root, anchor.size, anchor.leaf_index, digest, anchor.path, "statement digest")
        notes.say(f"statement is leaf {anchor.leaf_index} of {anchor.size} under {anchor.root}")


def check_surroundings(
    certificate: SealedDocument,
    options: VerifyOptions,
    verdict: Verdict,
    rung: Callable[[], str],
    *,
    compare_verifier: bool = False,
) -> None:
    """Steps 14 to 19, and 28.

    Parameters
    ----------
    rung
        Step 19.
    compare_verifier
        See :func:`~verifier.chain.check_chain`.
    """
    with verdict.step(DEPLOYMENT, "deployment") as notes:
        notes.say(check_deployment(certificate))
    name = "against the chain"
    if options.offline:
        why = "offline: registry, commitments, block hashes and anchors are as the certificate says"
        verdict.add(DEPLOYMENT, name, Status.SKIPPED, why)
        if concerns(certificate, options):
            leave_out(certificate, options, verdict)
    elif options.rpc_url is None:
        hint = "give --rpc URL of a node you trust, or --offline to leave it out"
        verdict.add(DEPLOYMENT, name, Status.UNCHECKED, "no chain node given", hint)
    else:
        check_chain(certificate, options, verdict, compare_verifier=compare_verifier)
    with verdict.step(RUNG, "privacy rung") as notes:
        notes.say(rung())


def check_rung_claim(certificate: SealedDocument) -> str | None:
    """Step 19, of the rungs without circuit: what is claimed; None if nothing is. Step 15 saw whose model it is."""
    request, signed = certificate.request, certificate.rung_claim
    name = enum_name(request.policy.rung)
    if request.policy.rung != Rung.EE_PRIVATE_WEIGHTS:
        if signed is not None:
            raise EvidenceError(f"a claim, but the job asked for rung {name}", field="rungClaim")
        return None
    if signed is None:
        raise EvidenceError(f"is missing: rung {name} rests on the model owner's claim", field="rungClaim")
    model, epoch = request.model_digest, request.key_epoch
    return str(require_rung_claim(signed, certificate.domain, rung=request.policy.rung, model=model, epoch=epoch))


def _check_request(certificate: SealedDocument, kind: Kind, options: VerifyOptions) -> str:
    """Step 3."""
    request, domain = certificate.request, certificate.domain
    require_signer(certificate.job_id, certificate.request_signature, request.requester, "request")
    if request.kind != kind:
        raise EvidenceError(f"this format is for {enum_name(kind)}s only", field="request.kind")
    pins = (
        ("requester", options.requester, request.requester),
        ("model", options.model_digest, request.model_digest),
    )
    for what, pinned, found in pins:
        if pinned is not None and pinned != found:
            raise EvidenceError(f"the certificate is for {what} {found}, you pinned {pinned}")
    if options.job_id is not None and options.job_id != certificate.job_id:
        raise EvidenceError(f"the certificate is for job {certificate.job_id}, you pinned {options.job_id}")
    unpinned = ", ".join(f"{what} {found}" for what, pinned, found in pins if pinned is None)
    text = f"job {certificate.job_id} on chain {domain.chain_id}"
    return text + (f"; compare yourself: {unpinned}" if unpinned else "; all pins match")


def _check_development(certificate: SealedDocument, options: VerifyOptions, *, development_srs: bool) -> str:
    """Step 4: derive the markers instead of believing them."""
    found: list[Development] = []
    if certificate.domain.chain_id in DEVELOPMENT_CHAINS:
        found.append("chain")
    if development_srs:
        found.append("srs")
    if certificate.development != found:
        raise EvidenceError(f"marks {certificate.development}, but {found} is what it uses", field="development")
    allowed = {"chain": options.allow_development_chain, "srs": options.allow_development_srs}
    for marker in found:
        if not allowed[marker]:
            raise EvidenceError(
                f"uses a development {_MARKERS[marker]}, which proves nothing to a stranger",
                hint=f"--allow-development-{marker} if you only try things out",
            )
    return f"{', '.join(found)}: development only, allowed by you" if found else "none"
