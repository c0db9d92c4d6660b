"""Sweeps: what a study is, and how its cells are computed on one machine or many."""
