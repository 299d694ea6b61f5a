"""Training under Equivariant Encryption, in torch.

The owner draws keys that the whole training step commutes with (:class:`EncryptedTraining`), sends the worker the
module's code with encrypted tensors, encrypted records and targets, and decrypts the trained weights. The worker runs
an ordinary training loop at plain speed. Which optimiser allows which keys stands in
:mod:`rexis.ee.exactness`; the algebra, and what training leaks beyond inference, in ``docs/ee-training.md``.
"""

from rexis.ee.exactness import RULES, Exactness, Step, exactness, steps_of
from rexis.ee.training.encrypted import EncryptedTraining, load_tensors
from rexis.ee.training.exporting import tensors_of
from rexis.ee.training.losses import Loss

__all__ = [
    "RULES",
    "EncryptedTraining",
    "Exactness",
    "Loss",
    "Step",
    "exactness",
    "load_tensors",
    "steps_of",
    "tensors_of",
]
