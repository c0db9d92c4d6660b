"""Where the files of a data set are: in the package, in a folder that the user names, or in a cache.

Every file is checked, from wherever it comes; see `samirage.lab.data.files`. No pickle is ever loaded.
"""

import os
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samirage.errors import UserError, require
from samirage.lab.data.files import AbstractDataFile, BadFileError, DataSet, unpacked
from samirage.lab.data.mirrors import ENVIRONMENT_VARIABLE, download


def read(data_set: DataSet, data_dir: str | os.PathLike[str] | None) -> list[NDArray[np.uint8]]:
    """Read all files of a data set, after checking each.

    Args:
        data_set: The data set.
        data_dir: The folder with the files; by default the one that `SAMIRAGE_DATA` names, else the user's cache, into
            which they are downloaded if need be.

    Returns:
        What the files hold, in their order.

    Raises:
        UserError: If a folder or file is missing, unreadable, truncated or not the real one, or a download fails.
    """
    folder: Traversable
    if not data_set.mirrors:
        folder = _packaged(data_set)
    elif (root := _named_folder(data_dir)) is None:
        folder = fetch(data_set, None)
    else:
        if not root.is_dir():
            problem = "is not a folder" if root.exists() else "does not exist"
            raise UserError(
                f"The data folder {str(root)!r} {problem}: name a folder that holds the files of {data_set.name} by "
                f"--data-dir or {ENVIRONMENT_VARIABLE}, or, to download them, {_remedy(data_set, root)}."
            )
        folder = _folder_of(data_set, root)

    arrays: list[NDArray[np.uint8]] = []
    for file in data_set.files:
        path = _find(file, folder)
        if path is None:
            raise UserError(
                f"The data folder {str(folder)!r} holds none of {', '.join(map(repr, file.spellings))}: put one there, "
                f"or, to download it, {_remedy(data_set, folder)}."
            )
        arrays += _read(path, file, data_set, folder)
    return arrays


def fetch(data_set: DataSet, data_dir: str | os.PathLike[str] | None) -> Path:
    """Make sure that a data set lies on this computer, and download what is missing.

    Files that are there already are checked and kept; a file that is there but wrong is never overwritten. What was
    downloaded appears only when all of it is correct.

    Args:
        data_set: The data set.
        data_dir: The folder to put it into (in a subfolder, unless files of it lie in the folder itself); by default
            the one that `SAMIRAGE_DATA` names, else the user's cache.

    Returns:
        The folder that holds the files.

    Raises:
        UserError: If a file that is there is wrong, no mirror serves it intact, or the folder cannot be written.
    """
    if not data_set.mirrors:
        return Path(str(_packaged(data_set)))
    root = _named_folder(data_dir)
    if root is None:
        root = Path(require("lab", "pooch").os_cache("samirage"))
    folder = _folder_of(data_set, root)

    missing = []
    for file in data_set.files:
        path = _find(file, folder)
        if path is None:
            missing.append(file)
        else:
            _read(path, file, data_set, folder)
    try:
        if missing:
            download(data_set, missing, folder)
    except OSError as error:
        raise UserError(
            f"The data folder {str(folder)!r} cannot be written ({error.strerror or error}): name another one by "
            f"--data-dir or {ENVIRONMENT_VARIABLE}."
        ) from error
    return folder


def _packaged(data_set: DataSet) -> Traversable:
    return files("samirage.lab.data").joinpath(data_set.name.replace("-", "_"))


def _named_folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The folder that the caller, or else the environment, names."""
    named = os.environ.get(ENVIRONMENT_VARIABLE) if data_dir is None else data_dir
    return Path(named).expanduser() if named else None


def _folder_of(data_set: DataSet, root: Path) -> Path:
    """The first of the root itself and its subfolders that holds any of the files; the first subfolder if none does."""
    subfolders = [root / subfolder for subfolder in data_set.subfolders]
    holders = (path for path in (root, *subfolders) if any(_find(file, path) for file in data_set.files))
    return next(holders, subfolders[0])


def _find(file: AbstractDataFile, folder: Traversable) -> Traversable | None:
    return next((path for spelling in file.spellings if (path := folder.joinpath(spelling)).is_file()), None)


def _remedy(data_set: DataSet, folder: Traversable) -> str:
    """How to get a file that is missing."""
    if not data_set.mirrors:
        return "install samirage again"
    root = folder.parent if isinstance(folder, Path) and folder.name in data_set.subfolders else folder
    return f"run `samirage data fetch {data_set.name} --data-dir {root}`"


def _read(
    path: Traversable, file: AbstractDataFile, data_set: DataSet, folder: Traversable
) -> tuple[NDArray[np.uint8], ...]:
    try:
        return file.parse(unpacked(path, file))
    except BadFileError as error:
        # The file is the user's, so the user deletes it.
        raise UserError(f"The file {str(path)!r} {error}: delete it and {_remedy(data_set, folder)}.") from error
