"""The EE key of one encrypted model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rexis.ee.groups import AxisKey
from rexis.protocol.digests import Digest
from rexis.protocol.errors import KeyFileError

DATA_SECRET_BYTES = 32


@dataclass(frozen=True, eq=False)
class EEKey:
    """All that is secret about one encrypted model.

    Attributes
    ----------
    key_id
        32 hexadecimal digits that name the key. Public, and tells nothing about the key.
    epoch
        Key epoch, 1 or more. Public: statements carry it.
    model_digest
        SHA-256 of the *encrypted* model's bytes. Public.
    input, output
        Axis keys of a record and of an output row. The data owner needs these only.
    hidden
        Axis keys of the values in between, by tensor name. Decrypts weights, for training.
    data_secret
        32 bytes that record salts come from (:func:`rexis.ee.records.record_salts`).
    """

    key_id: str
    epoch: int
    model_digest: Digest
    input: AxisKey = field(repr=False)
    output: AxisKey = field(repr=False)
    hidden: Mapping[str, AxisKey] = field(repr=False)
    data_secret: bytes = field(repr=False)

    @property
    def groups(self) -> dict[str, str]:
        """Which group each axis got, for example ``{"input": "affine with offset"}``. Not secret."""
        named = {"input": self.input, "output": self.output, **self.hidden}
        return {name: key.group + (" with offset" if key.has_offset else "") for name, key in named.items()}

    def require(self, *, model_digest: Digest, epoch: int) -> None:
        """Check that this is the key of an encrypted model, before its outputs are decrypted to nonsense.

        Raises
        ------
        KeyFileError
            The key belongs to another model or another epoch.
        """
        if self.epoch != epoch:
            raise KeyFileError(
                f"the key is of epoch {self.epoch}, the job of epoch {epoch}",
                field="epoch",
                hint="use the key file of that epoch",
            )
        if self.model_digest != model_digest:
            raise KeyFileError(
                f"the key belongs to encrypted model {self.model_digest}, not {model_digest}",
                field="modelDigest",
                hint="use the key file that was written when that model was encrypted",
            )
