"""An extension of griffe, which reads the docstrings: a section `Example` is one of code, as `Examples` is."""

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Rename the section, which griffe would else take for plain text."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change a docstring.

        Args:
            obj: The object that has it.
        """
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
