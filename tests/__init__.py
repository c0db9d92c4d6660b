"""The tests of samirage: a package, so that they can share what helps them."""
