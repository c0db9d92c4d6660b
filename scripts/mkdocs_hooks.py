"""What mkdocs does not do by itself: formulas as MathML, and links to files of the repository.

MathML needs no script, so that the site fetches none. A file outside of docs/ that a page links to is copied into the
site, as text that a browser shows; a folder loses its link and keeps its name.
"""

import re
from html import unescape
from pathlib import Path
from typing import Any, Final

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).resolve().parent.parent
_OUTSIDE: Final = re.compile(r"\[([^\]]*)\]\(\.\./([^)\s]+)(\s+'[^']*')?\)")
_FORMULA: Final = re.compile(r'<(span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.DOTALL)


def _copied(path: str) -> str:
    return f"sources/{path}.txt"


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the files of the repository that pages link to."""
    pages = [
        Path(file.abs_src_path).read_text(encoding="utf-8") for file in files.documentation_pages() if file.abs_src_path
    ]
    for path in sorted({match[2] for text in pages for match in _OUTSIDE.finditer(text)}):
        if (ROOT / path).is_file():
            content = (ROOT / path).read_text(encoding="utf-8")
            files.append(File.generated(config, _copied(path), content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turn links that lead out of docs/ to the copies."""

    def turned(match: re.Match[str]) -> str:
        text, path, title = match[1], match[2], match[3] or ""
        if (ROOT / path).is_file():
            return f"[{text}]({_copied(path)}{title})"
        if (ROOT / path).is_dir():
            return text
        return match[0]  # mkdocs will complain

    return _OUTSIDE.sub(turned, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Write formulas as MathML."""

    def formula(match: re.Match[str]) -> str:
        block = match[1] == "div"
        return convert(unescape(match[3] if block else match[2]), display="block" if block else "inline")

    return _FORMULA.sub(formula, html)
