"""The scripts of the page, and the security policy that lets these run and no other.

A script is known to the policy by the hash of its text. That holds too for the plotting library, which the page
carries compressed, because it is most of a page otherwise: `unpack.js` inflates it in the browser, when surfaces come
into view, and puts the text into a script element, where the browser compares the hash again. Nothing is evaluated
from strings, and nothing is fetched.
"""

import base64
import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from markupsafe import Markup

from samirage.errors import require


@dataclass(frozen=True)
class Script:
    """A script in the page.

    Attributes:
        text: Its text, as it stands between the tags.
    """

    text: Markup

    @property
    def hash(self) -> str:
        """The hash by which the security policy knows it."""
        return hash_of(self.text)


@dataclass(frozen=True)
class PackedScript:
    """A script that the page carries compressed.

    Attributes:
        hash: Hash of its text.
        packed: The text, compressed by gzip, in base64.
    """

    hash: str
    packed: str


def hash_of(text: str) -> str:
    """Return the hash of a script as a security policy writes it.

    Args:
        text: The script.

    Example:
        >>> hash_of("")
        'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def own_script(name: str) -> Script:
    """Read one of the page's own scripts.

    Args:
        name: Its file in `templates`.

    Returns:
        The script.
    """
    text = (resources.files("samirage.report") / "templates" / name).read_text(encoding="utf-8")
    return Script(Markup(text.replace("</script", "<\\/script")))


@cache
def plotting_library() -> PackedScript:
    """Return plotly, whole: its package holds no smaller bundle that draws surfaces.

    Raises:
        UserError: If plotly is not installed.
    """
    text: str = require("lab", "plotly.offline").get_plotlyjs()
    packed = gzip.compress(text.encode(), compresslevel=9, mtime=0)  # without a time: the same page every time
    return PackedScript(hash_of(text), base64.b64encode(packed).decode())
