"""Where the cells of a sweep are computed: in this process, in several on this machine, or on a Ray cluster."""

from samirage.lab.launchers.here import Here
from samirage.lab.launchers.launcher import AbstractLauncher
from samirage.lab.launchers.on_ray import OnRay
from samirage.lab.launchers.processes import Processes

__all__ = ["AbstractLauncher", "Here", "OnRay", "Processes"]
