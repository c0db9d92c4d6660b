"""Plots, one a module: stored data in, matplotlib `Figure` out. Nothing here reads or writes files."""
