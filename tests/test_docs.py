"""The code in the documentation runs; the site is built without a warning, whole, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from types import FunctionType
from urllib.parse import unquote, urlsplit

import pytest

from samirage.cli import main as cli

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RUN = (
    "index.md",
    "getting-started.md",
    "how-it-works.md",
    "howto-plain.md",
    "schedules-and-variants.md",
    "diagnosis.md",
    "guard.md",
    "points.md",
    "adding-a-study.md",
)
OTHER_COMMANDS = {"adding-a-study.md"}  # a study of that page only


@pytest.mark.parametrize("page", RUN)
def test_code_blocks_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write a run folder
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 1
    names = {"__name__": page}
    for block in blocks:
        exec(compile(block, page, "exec"), names)  # each goes on from the one before, as a reader would


def test_commands_are_understood():
    pages = [path for path in DOCS.glob("*.md") if path.name not in OTHER_COMMANDS]
    fences = [
        fence
        for path in pages
        for fence in re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ]
    blocks = [block for language, block in fences if not language]
    commands = [line for block in blocks for line in re.findall(r"^samirage (.+?)(?:\s+#.*)?$", block, re.MULTILINE)]
    assert len(commands) >= 5
    for command in commands:
        assert cli._parser().parse_args(command.split()).run


def is_in_the_package(name):
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


WRITTEN = [
    *sorted(DOCS.rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/gpu.md")),
]


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_modules_names_and_files_that_a_page_mentions_are_there(page):
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"\bsamirage(?:\.[A-Za-z_]\w*)+", text))
    assert {name for name in names if not is_in_the_package(name)} == set()
    files = set(re.findall(r"(?<![\w/])(?:src/samirage|scripts|tests|benchmarks|examples)/[\w./-]*\w", text))
    assert {name for name in files if not (ROOT / name).exists()} <= {"src/samirage/lab/studies/momentum.py"}


@pytest.mark.parametrize(
    "name", ["samirage.jump", "samirage.lab.comparison", "samirage.lab.comparison.Case", "samirage.SAM.jump"]
)
def test_what_is_gone_is_not_in_the_package(name):
    assert not is_in_the_package(name)


def build(docs, site):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        command, cwd=docs.parent, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


class Page(HTMLParser):
    """What a page loads, where its links lead, and the ids in it."""

    LOADS = (
        ("script", "src"),
        ("img", "src"),
        ("source", "src"),
        ("iframe", "src"),
        ("object", "data"),
        ("video", "src"),
    )

    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.ids, self.errors = [], [], set(), text.count('class="arithmatex"')
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.loads += [attributes[name] for of, name in self.LOADS if of == tag and name in attributes]
        if tag == "link" and attributes.get("rel") not in {"prev", "next", "canonical"}:
            self.loads.append(attributes["href"])
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        self.ids |= {attributes[name] for name in ("id", "name") if attributes.get(name)}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    built = build(DOCS, folder)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def built_pages(site):
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def is_elsewhere(address):
    return bool(urlsplit(address).netloc) or urlsplit(address).scheme in {"http", "https"}


def test_the_site_loads_nothing_from_elsewhere(site, built_pages):
    assert len(built_pages) > 20
    assert not [(path.name, url) for path, page in built_pages.items() for url in page.loads if is_elsewhere(url)]
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"url\(\s*['\"]?(?:https?:)?//[^)]*|@import[^;]*//[^;]*", text), path


def test_links_within_the_site_lead_somewhere(site, built_pages):
    broken = []
    for path, page in built_pages.items():
        for url in {*page.links, *page.loads}:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or (path.name == "404.html" and url.startswith("/")):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = built_pages[target].ids if target in built_pages else None
            fragment = unquote(parts.fragment)
            if not target.exists() or (fragment and known is not None and fragment not in known | {"__skip"}):
                broken.append((str(path.relative_to(site)), url))
    assert broken == []


def test_formulas_are_mathml_without_a_script(site, built_pages):
    text = (site / "concepts.html").read_text(encoding="utf-8")
    assert text.count("<math") > 50
    assert not [path.name for path, page in built_pages.items() if page.errors]
    assert "\\(" not in text
    assert "<merror" not in text


def test_every_page_has_a_place_in_the_menu_and_files_of_the_repository_come_along(site, built_pages):
    assert {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")} <= {
        path.relative_to(site) for path in built_pages
    }
    example = ROOT / "examples" / "lightning_mnist.py"
    assert (site / "sources" / "examples" / "lightning_mnist.py.txt").read_text(encoding="utf-8") == example.read_text(
        encoding="utf-8"
    )


def test_a_broken_link_fails_the_build(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A\n\n[nowhere](nowhere.md)\n", encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: {tmp_path / 'docs'}\nplugins: []\nnav: [index.md]\n"
        f"extra_css: []\nhooks: [{ROOT / 'scripts' / 'mkdocs_hooks.py'}]\n",
        encoding="utf-8",
    )
    built = build(tmp_path / "docs", tmp_path / "site")
    assert built.returncode == 1
    assert "nowhere.md" in built.stdout + built.stderr


@pytest.mark.parametrize("room", ["samirage", "sam", "monitor", "landscape", "points"])
def test_the_reference_has_all_public_classes_and_functions(room, built_pages, site):
    ids = {one.rsplit(".", 1)[-1] for one in built_pages[site / "reference" / f"{room}.html"].ids if "samirage" in one}
    package = import_module("samirage" if room == "samirage" else f"samirage.{room}")
    names = {name for name in package.__all__ if isinstance(getattr(package, name), type | FunctionType)}
    assert len(names) >= 8
    assert names <= ids
