"""Puts the problems of the optimizer's tests, and the pretended accelerator, on the import path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "optim"))
