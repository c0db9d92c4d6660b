"""The code in the documentation runs."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.mark.parametrize("page", ["schedules-and-variants.md", "diagnosis.md", "guard.md", "points.md"])
def test_code_blocks_run_one_after_the_other(page):
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 1
    names = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)  # each goes on from the one before, as a reader would
