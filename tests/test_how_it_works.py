"""The page for newcomers shows the code as it is, and knows every room."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "samirage"
PAGE = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")


def part(title):
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_plain_lines_are_the_file():
    shown = re.search(r"^```python\n(.*?)^```", part("SAM in plain lines"), re.MULTILINE | re.DOTALL)
    assert shown[1] == (PACKAGE / "optim" / "plain_sam.py").read_text(encoding="utf-8")


def test_every_room_is_named():
    rows = re.findall(r"^\| (`.*?`) \|", part("The rooms"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([\w/]+)`", row)}
    rooms = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob("*/**/__init__.py")}
    helpers = {room for room in rooms if room.count("/") > 1}  # a study's, or the launchers of the sweep
    assert named == rooms - helpers


def test_every_file_that_is_named_is_there():
    links = re.findall(r"\]\(\.\./([^)]+)\)", PAGE)
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).is_file()] == []
    table = part("Where to change what")
    paths = {name for name in re.findall(r"`([\w/.]+)`", table) if "/" in name}
    assert len(paths) > 10
    assert [path for path in paths if not (PACKAGE / path).exists()] == []


def test_what_a_row_says_to_change_stands_in_a_file_that_it_names():
    rows = re.findall(r"^\| .+? \| (.+?) \|", part("Where to change what"), re.MULTILINE)
    sought = 0
    for row in rows:
        paths = [PACKAGE / name for name in re.findall(r"`([\w/.]+)`", row) if "/" in name or name.endswith(".py")]
        text = "".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())
        text += "".join(
            file.read_text(encoding="utf-8") for path in paths if path.is_dir() for file in path.glob("*.py")
        )
        names = re.findall(r"`([A-Z_]\w+)`", row)
        assert [name for name in names if name not in text] == []
        sought += len(names)
    assert sought >= 4


def test_what_is_said_to_be_called_is_there():
    from samirage.optim.passes import Passes

    named = set(re.findall(r"`Passes\.(\w+)`", PAGE))
    assert named
    assert [name for name in named if not hasattr(Passes, name)] == []
