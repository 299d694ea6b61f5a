"""Certificates in the formats of others: in-toto attestations and RO-Crates."""
