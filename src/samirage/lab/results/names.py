"""What a name may be that becomes part of a path."""

import re
from typing import Final

_LONGEST: Final = 150  # bytes: file systems take 255, and a file that is being written has a longer name
_NAME: Final = re.compile(r"\w[\w.+-]*")
# Windows opens a device under these names, whatever follows the first dot, and drops a dot at the end of a name.
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def file_name(name: object) -> str:
    """Return a name of a study or cell if it can be the name of a file on every system, in the folder it is joined to.

    Args:
        name: Where it comes from a file, anything at all.

    Returns:
        The name: letters, digits, `_`, `.`, `+` and `-`, of which the first is none of the last three.

    Raises:
        ValueError: If it is anything else, longer than 150 bytes, ends in a dot, or is the name of a device.

    Example:
        >>> file_name("sam-rho0.05")
        'sam-rho0.05'
        >>> file_name("../sam")
        Traceback (most recent call last):
        ...
        ValueError: the name '../sam' cannot be used: a name begins with a letter or digit, ...
    """
    if (
        not isinstance(name, str)
        or not _NAME.fullmatch(name)
        or name.endswith(".")
        or _DEVICE.fullmatch(name)
        or len(name.encode()) > _LONGEST
    ):
        shown = ascii(name)
        raise ValueError(
            f"the name {shown if len(shown) < 80 else shown[:76] + '...'} cannot be used: a name begins with a letter "
            f"or digit, goes on with letters, digits and any of _.+-, is at most {_LONGEST} bytes long, and is that of "
            "no device"
        )
    return name
