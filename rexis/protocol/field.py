"""The field that proofs are made over. Imports nothing: the child process that runs ezkl has little memory to spare."""

# Order r of BN254's scalar field (EIP-196, "alt_bn128"): public instances of a proof, and hashes, are below it.
SCALAR_FIELD = 0x30644E72E131A029B85045B68181585D2833E84879B9709143E1F593F0000001
