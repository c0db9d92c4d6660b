"""Peers that are files of a repository: fetched at a fixed commit, checked, and imported from a temporary folder."""

import hashlib
import importlib.util
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Final


@dataclass(frozen=True)
class Source:
    """Some files of a public repository.

    Attributes:
        repository: Owner and name on GitHub.
        commit: Commit, 40 hexadecimal digits.
        files: Checksum (SHA-256) of each file, by its path.
    """

    repository: str
    commit: str
    files: Mapping[str, str]

    def __str__(self) -> str:
        return f"https://github.com/{self.repository}/tree/{self.commit[:12]}"


DAVDA54: Final = Source(
    "davda54/sam",
    "3c3afdbd71cff2462ec91c734b3d1170bd0f3707",
    {
        "sam.py": "768134da1d5f3ff630d7f29958a960c6335410875b05424f851602b344f8c9ec",
        "example/utility/bypass_bn.py": "36dfdcb454cb05a9e1c344b17d7f90694e836494b379a69b85a72569e4064372",
    },
)
COMPOSER: Final = Source(
    "mosaicml/composer",
    "6405188805a0054b4551ec49e4919c54c971d0e8",
    {
        "composer/algorithms/sam/sam.py": "cc85a642db35526681c075b9762f600e4f79c698781c1222985b802db2d28de5",
        "composer/trainer/_scaler.py": "7f985cec5b528439c9fe30d86cece863ac7a4a4c91520975530478bf3c7db9b8",
    },
)


def fetch(source: Source, folder: Path, repository: Path | None = None) -> dict[str, Path]:
    """Put a source's files into a folder.

    Args:
        source: What to fetch.
        folder: Where to put it.
        repository: A git repository that has the commit, to take the files from; None to download them.

    Returns:
        The files, by their path in the repository.

    Raises:
        ValueError: If a file is not the one that was compared.
    """
    found = {}
    for path, checksum in source.files.items():
        content = _download(source, path) if repository is None else _show(source, path, repository)
        if hashlib.sha256(content).hexdigest() != checksum:
            raise ValueError(f"{path} of {source} is not the file that was compared: its SHA-256 differs")
        target = folder / path.replace("/", "_")
        target.write_bytes(content)
        found[path] = target
    return found


def _download(source: Source, path: str) -> bytes:
    url = f"https://raw.githubusercontent.com/{source.repository}/{source.commit}/{path}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        content: bytes = answer.read()
    return content


def _show(source: Source, path: str, repository: Path) -> bytes:
    command = ["git", "-C", str(repository), "show", f"{source.commit}:{path}"]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout


def imported(path: Path, name: str, stand_ins: Mapping[str, object] = MappingProxyType({})) -> ModuleType:
    """Import a file as a module.

    Args:
        path: The file.
        name: The module's name.
        stand_ins: What to put in the place of modules that the file imports and that are not here, by name.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that its classes can be pickled
    sys.modules.update(stand_ins)  # type: ignore[arg-type]
    try:
        spec.loader.exec_module(module)
    finally:
        for stand_in in stand_ins:
            del sys.modules[stand_in]
    return module
