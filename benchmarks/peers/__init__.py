"""SAM implementations side by side: each behaviour is a small program that runs each of them; see `run.py`."""
