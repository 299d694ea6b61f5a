"""A report with everything in it, measured by nobody."""

from __future__ import annotations

from dataclasses import replace

from bench.costs.result import (
    MEASURED,
    AnchorCost,
    Certified,
    ChainCost,
    Check,
    CircuitCost,
    Machine,
    ModelCost,
    Outcome,
    PeerCost,
    Report,
    Spread,
    TierCost,
)


def spread(median: float) -> Spread:
    """Three runs around a median."""
    return Spread(median, median * 0.9, median * 1.2, 3)


def circuit(prove: float) -> CircuitCost:
    """A circuit whose proofs take so long."""
    return CircuitCost(
        segments=1,
        logrows=12,
        setup=Spread.of([prove * 2]),
        witness=spread(prove / 30),
        prove=spread(prove),
        verify=spread(0.081),
        verify_next=Spread.computed(0.0091),
        proof_bytes=4163,
        vk_bytes=12_345,
        pk_bytes=22_000_001,
        setup_peak_bytes=73_000_002,
        prove_peak_bytes=89_000_003,
        evm_gas=891_224,
        max_error=0.0153,
        agreement=1.0,
    )


def tiers(inference: float, prove: float | None) -> list[TierCost]:
    """Of one task of 64 records: tier commit, and with proofs the others; zk is computed."""
    commit = TierCost(
        tier="commit",
        sample=None,
        records=64,
        basis=MEASURED,
        inference=spread(inference),
        commitment=spread(0.0123),
        witness=None,
        prove=None,
        verify=spread(0.0061),
        evidence_bytes=1_531,
        proof_bytes=0,
        peak_bytes=100_000_004,
        caught=0.0,
    )
    if prove is None:
        return [commit]
    sampled = [
        replace(
            commit,
            tier="sampled",
            sample=k,
            witness=spread(64 * prove / 30),
            prove=spread(k * prove),
            verify=spread(0.08 + k * 0.009),
            evidence_bytes=k * 9_917,
            proof_bytes=k * 4_163,
            caught=caught,
        )
        for k, caught in ((1, 0.0625), (4, 0.2327), (16, 0.6937))
    ]
    zk = replace(
        sampled[-1],
        tier="zk",
        sample=None,
        basis="computed from 5 measured proofs",
        prove=Spread.computed(64 * prove),
        caught=1.0,
    )
    return [commit, *sampled, zk]


def model(name: str, parameters: int, inference: float, prove: float | None) -> ModelCost:
    """One model."""
    return ModelCost(
        name=name,
        modality="tabular",
        parameters=parameters,
        record_values=30,
        outputs=2,
        plain=spread(inference),
        encrypted=spread(inference * 1.01),
        records=64,
        circuit=None if prove is None else circuit(prove),
        no_circuit=f"no tuned circuit profile for {name!r}" if prove is None else None,
        tiers=tiers(inference, prove),
    )


def sample_report() -> Report:
    """Four models, two of them with a circuit; a peer of each kind; a check of each outcome but a failed one."""
    models = [
        model("breast_cancer", 6_274, 2.1e-5, 0.67),
        model("diabetes", 1_505, 1.9e-5, 1.06),
        model("dna", 5_890, 2.4e-4, None),
        model("peptide", 25_001, 8.5e-3, None),
    ]
    proving = [each.name for each in models if each.circuit]
    return Report(
        command="rexis bench",
        smoke=False,
        began="2026-11-28T12:00:00+00:00",
        seconds=1_001.0,
        commit="0123456789ab",
        machine=Machine("Linux", "A processor & more", 2, 24 << 30, 0.01, 1.9),
        versions={"Python": "3.11.2", "ezkl": "23.0.5"},
        models=models,
        chain=ChainCost(
            commit=91_491,
            register_model=142_350,
            anchors=[AnchorCost(batch, 74_041) for batch in (1, 4, 16, 64, 256, 1024)],
            certified=[Certified("breast_cancer", 185_890, 1_053_655, 1_022_779)],
        ),
        no_chain=None,
        peers=[
            *(PeerCost("re-execution", each.name, "all", "EE", verify=spread(0.0083)) for each in models),
            *(
                PeerCost(
                    "ezkl, as documented",
                    name,
                    "all",
                    "nothing",
                    setup=spread(7.31),
                    work=spread(2.61),
                    verify=spread(0.11),
                    proof_bytes=3_071,
                    peak_bytes=363_000_005,
                    max_error=5.43e-4,
                    agreement=1.0,
                )
                for name in proving
            ),
            PeerCost("CKKS (TenSEAL)", "breast_cancer", "nothing", "records", reason="tenseal is not <installed>"),
        ],
        checks=[
            Check("breast_cancer", "a proof holds off chain", Outcome.OK, "yes"),
            Check("breast_cancer", "CKKS outputs are within their bound", Outcome.SKIPPED, "no tenseal"),
        ],
    )
