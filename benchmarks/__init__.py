"""Measurements of speed, as ratios taken in one run; see `run.py`."""
