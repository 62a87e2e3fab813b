"""A question scored against somebody else's vectors, who doesn't learn the question: exact inner products of whole
numbers under homomorphic encryption (BFV). TenSEAL is an extra, ``llmctl[he]``."""
