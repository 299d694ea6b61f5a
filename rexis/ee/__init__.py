"""Equivariant Encryption: keyed transforms folded into a model's constants and applied to its records.

An untrusted worker runs the *encrypted model* (same graph, other constants; same shapes, unless decoys are asked for)
on encrypted records at plain speed and returns encrypted outputs, which only the key holder reads.

This is keyed obfuscation, **not** encryption in the IND-CPA sense. What is known to break it:

- Known plaintexts: an affine input key over `d` features is solved from `d + 1` pairs of plain and encrypted records,
  and fewer already tell a lot.
- Ciphertext only: equal records have equal ciphertexts, distances survive up to the key's condition number (at most
  :data:`~rexis.ee.groups.MAX_CONDITION`), and PCA or ICA against a public sample of the same population recovers part
  of the features.
- Public weights: where the model is close to one that anybody can download, matching its rows reveals the hidden keys.
- The worker sees the offset's effect removed by the first layer, so that an offset protects the wire, not the worker.
- One key for many sessions links them. A new epoch with the same weights does not unlink them.

Keys, key files and records need NumPy only. The compiler (:mod:`rexis.ee.compiler`) needs the extra ``rexis[ee]``.
"""

from rexis.ee.keyfile import load_key, save_key
from rexis.ee.keys import EEKey
from rexis.ee.records import decrypt_outputs, encrypt_records, record_salts

__all__ = ["EEKey", "decrypt_outputs", "encrypt_records", "load_key", "record_salts", "save_key"]
