"""Where the cells of a sweep are computed: in this process, in several on this machine, or on a Ray cluster."""

from samirage.lab.sweep.launchers.in_process import Here
from samirage.lab.sweep.launchers.launcher import AbstractLauncher
from samirage.lab.sweep.launchers.local_processes import Processes
from samirage.lab.sweep.launchers.ray import OnRay

__all__ = ["AbstractLauncher", "Here", "OnRay", "Processes"]
