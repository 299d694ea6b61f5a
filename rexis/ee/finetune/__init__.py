"""Fine-tuning of an ONNX model under Equivariant Encryption: what the model's owner and the data's owner do.

The model's owner says which constants train (:mod:`~rexis.ee.finetune.trainable`), may add adapters to the graph
(:mod:`~rexis.ee.finetune.adapters`), and encrypts for one optimiser and loss (:mod:`~rexis.ee.finetune.encrypting`).
The data's owner encrypts records with their targets (:mod:`~rexis.ee.finetune.targets`). What comes back is the same
graph with other constants, and is decrypted (:mod:`~rexis.ee.finetune.decrypting`). Only the check that gradients
commute (:mod:`~rexis.ee.finetune.checking`) needs torch. The algebra, and what training leaks beyond inference, stand
in ``docs/ee-training.md``.
"""
