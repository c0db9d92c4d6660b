"""The names of `samirage.errors`, for the laboratory's own modules. Needs neither torch nor any extra."""

from samirage.errors import UserError, require

__all__ = ["UserError", "require"]
