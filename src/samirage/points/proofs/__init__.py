"""Prove hallucinated points in ball arithmetic, and check recorded proofs by other means."""
