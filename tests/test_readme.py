"""The README's commands and links exist; its numbers are held to the stored run by `test_pages.py`."""

import re
from pathlib import Path

from samirage.cli import main as cli

ROOT = Path(__file__).resolve().parent.parent


def test_commands_are_understood():
    commands = re.findall(
        r"^samirage (.+?)(?:\s+#.*)?$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(commands) >= 4
    for command in commands:
        assert cli._parser().parse_args(command.split()).run


def test_local_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) >= 2
    for link in links:
        assert (ROOT / link).exists(), link
