"""The README says what the stored run says, and its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

from samirage import cli

ROOT = Path(__file__).resolve().parent.parent


def test_numbers_are_those_of_the_stored_run():
    script = [sys.executable, str(ROOT / "scripts" / "update_pages.py"), "--check"]
    checked = subprocess.run(script, capture_output=True, text=True, check=False, timeout=600)
    assert checked.returncode == 0, checked.stdout + checked.stderr


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
