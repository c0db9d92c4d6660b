"""What a user is told when something they gave cannot be used. Needs neither torch nor any extra."""

import importlib
from typing import Any

__all__ = ["UserError", "require"]


class UserError(Exception):
    """An error whose one sentence the user should read; the command line prints it and exits with 2."""


def require(extra: str, module: str) -> Any:
    """Import a module that only an extra installs, or say what to install.

    Args:
        extra: The extra of `samirage` that installs the module, such as `"lab"`.
        module: The module to import, such as `"pooch"`.

    Returns:
        The imported module.

    Raises:
        UserError: If the module is not installed.

    Example:
        >>> require("lab", "json").dumps({"rho": 0.05})
        '{"rho": 0.05}'
        >>> require("lab", "no_such_module")
        Traceback (most recent call last):
            ...
        samirage.errors.UserError: This needs 'no_such_module', which is not installed: run `pip install \
'samirage[lab]'`.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise UserError(
            f"This needs '{missing}', which is not installed: run `pip install 'samirage[{extra}]'`."
        ) from error
