"""The life cycle of an ezkl circuit: tune, compile, SRS, keys, witness, prove, verify, and its EVM artefacts.

ezkl is native code that prints, panics and takes gigabytes, so that it runs only in a child process
(:mod:`circuits.child`, ADR 3). Importing this package does not import ezkl.

A model owner calls :func:`circuits.build.build_circuit`, a worker :func:`circuits.build.prepare_keys` and
:class:`circuits.proving.Prover`, a checker :func:`circuits.verifying.verify_proofs`.
"""
