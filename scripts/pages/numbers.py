"""Which numbers a text gives as measured, so that a test can ask where each comes from."""

import re
from typing import Final

_FENCE: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_NUMBER: Final = r"[−-]?\d[\d,]*(?:\.\d+)?"
_MEASURED: Final = re.compile(rf"{_NUMBER} ± {_NUMBER}|{_NUMBER}\s?%|\b\d[\d,]* of \d[\d,]*\b")


def measurements(text: str) -> set[str]:
    """Return the numbers with % or ±, and the counts ("3 of 16"), outside of code blocks.

    Args:
        text: Text in Markdown.

    Example:
        >>> sorted(measurements("At rho = 3, 6 of 16 fail; 48.6 ± 3.4, or 49 %."))
        ['48.6 ± 3.4', '49%', '6 of 16']
    """
    found = _MEASURED.findall(_FENCE.sub("", text))
    return {re.sub(r"\s+%", "%", number) for number in found}
