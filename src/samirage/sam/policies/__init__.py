"""Policies: which steps perturb and how far, what they follow, and what is learnt from them."""
