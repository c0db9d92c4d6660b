"""What scripts/mutants.py is made of: mutants of source text, planted bugs, and a server that runs tests on them."""
