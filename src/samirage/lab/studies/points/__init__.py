"""Study `points`, and what it needs besides: proofs, portraits, closed forms."""
