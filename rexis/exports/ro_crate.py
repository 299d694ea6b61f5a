"""A finished job as an RO-Crate 1.1: the certificate, and what it is about in words that repositories know."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.training_certificate import TrainingCertificate, parse_certificate

METADATA, CERTIFICATE = "ro-crate-metadata.json", "certificate.json"
_CONTEXT = "https://w3id.org/ro/crate/1.1/context"
_PROFILE = "https://w3id.org/ro/crate/1.1"


@dataclass(frozen=True)
class CrateFile:
    """What a job made, as a file that lies in the crate: encrypted outputs, or the trained model. Size in bytes."""

    name: str
    size: int
    digest: Digest


def crate_of(certificate: bytes, made: CrateFile | None = None) -> dict[str, bytes]:
    """The crate's own files by their names; `made` is the caller's to put beside them."""
    read = parse_certificate(certificate)
    names = [CERTIFICATE, *([made.name] if made else [])]
    graph = [*_head(read, names), *_entities(read, certificate, made)]
    metadata = json.dumps({"@context": _CONTEXT, "@graph": graph}, indent=1, ensure_ascii=False) + "\n"
    return {METADATA: metadata.encode(), CERTIFICATE: certificate}


def _head(read: Certificate | TrainingCertificate, names: list[str]) -> list[dict[str, Any]]:
    kind = "training" if isinstance(read, TrainingCertificate) else "evaluation"
    tier = read.request.policy.tier.name.lower()
    return [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": _PROFILE},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"rexis {kind} {read.job_id}",
            "description": f"A certified {kind} of an encrypted model, with evidence of tier {tier}. What that shows, "
            f"`rexis verify {CERTIFICATE}` says.",
            "identifier": str(read.job_id),
            "datePublished": read.issued_at,
            "license": "Whoever publishes this crate decides on its licence.",
            "hasPart": [{"@id": name} for name in names],
            "mentions": [{"@id": "#job"}],
        },
    ]


def _entities(read: Certificate | TrainingCertificate, data: bytes, made: CrateFile | None) -> list[dict[str, Any]]:
    request = read.request
    digest = request.model_digest
    model, dataset = _named("model", digest), _named("dataset", request.dataset_digest)
    outputs = [_named("outputs", place.statement.output_root) for place in read.places]
    if isinstance(read, TrainingCertificate):
        outputs.append(_named("trained-model", read.trained_model))
    files = [_file(CERTIFICATE, "certificate", "application/json", len(data), sha256(data))]
    if made is not None:
        what = "trained model, encrypted" if isinstance(read, TrainingCertificate) else "encrypted outputs of all tasks"
        files.append(_file(made.name, what, "application/octet-stream", made.size, made.digest))
    workers = sorted({place.statement.worker for place in read.places})
    action = {
        "@id": "#job",
        "@type": "CreateAction",
        "name": f"job {read.job_id}",
        "instrument": {"@id": model},
        "object": {"@id": dataset},
        "result": [{"@id": each} for each in [*outputs, *(each["@id"] for each in files)]],
        "agent": [{"@id": _account(worker)} for worker in workers],
        "endTime": read.issued_at,
    }
    described = [
        {
            "@id": model,
            "@type": "SoftwareApplication",
            "name": "encrypted model",
            "identifier": str(request.model_digest),
        },
        {"@id": dataset, "@type": "CreativeWork", "name": f"encrypted dataset of {request.input_size} records"},
        *({"@id": each, "@type": "CreativeWork", "name": "encrypted outputs"} for each in outputs),
        *({"@id": _account(worker), "@type": "Organization", "name": f"worker {worker}"} for worker in workers),
    ]
    return [*files, action, *described]


def _file(name: str, what: str, encoding: str, size: int, digest: Digest) -> dict[str, Any]:
    return {
        "@id": name,
        "@type": "File",
        "name": what,
        "encodingFormat": encoding,
        "contentSize": str(size),
        "sha256": digest.hex(),
    }


def _named(what: str, digest: Digest) -> str:
    return f"#{what}-{digest.hex()}"


def _account(address: str) -> str:
    return f"#account-{address}"
