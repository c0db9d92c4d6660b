"""The data sets: what they hold, every way in which a file can be wrong, downloads from a server on this machine."""

import dataclasses
import gzip
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from samirage.cli.main import main
from samirage.errors import UserError, require
from samirage.lab.data import datasets as data
from samirage.lab.data.datasets import DataSet, IdxFile
from tests.lab.data.mirror import Mirror

MINI = Path(str(files("samirage.lab.data"))) / "mnist_mini"
SCRIPT = Path(__file__).parents[3] / "scripts" / "make_mnist_mini.py"
TINY_SHAPES = {
    "train-images-idx3-ubyte": (6, 4, 3),
    "train-labels-idx1-ubyte": (6,),
    "t10k-images-idx3-ubyte": (2, 4, 3),
    "t10k-labels-idx1-ubyte": (2,),
}


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """A data set named `tiny` and the unpacked content of its files; the cache is empty, `SAMIRAGE_DATA` unset."""
    rng = np.random.default_rng(7)
    contents = {name: idx(rng.integers(0, 10, shape, dtype=np.uint8)) for name, shape in TINY_SHAPES.items()}
    a, b, c, d = (IdxFile(n, TINY_SHAPES[n], hashlib.sha256(raw).hexdigest()) for n, raw in contents.items())
    monkeypatch.setitem(data._DATA_SETS, "tiny", DataSet("tiny", (a, b, c, d), mirrors=("http://127.0.0.1:9/",)))
    monkeypatch.delenv("SAMIRAGE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return contents


@pytest.fixture
def folder(tiny: dict[str, bytes], tmp_path: Path) -> Path:
    """A folder with the intact files of `tiny`, packed."""
    path = tmp_path / "data"
    path.mkdir()
    for name, content in tiny.items():
        (path / f"{name}.gz").write_bytes(gzip.compress(content))
    return path


# --- what the data sets hold ----------------------------------------------------------------------


def test_mini_is_mnist_in_small() -> None:
    mini = data.load("mnist-mini")
    assert mini.name == "mnist-mini"
    assert mini.train_images.shape == (5000, 28, 28)
    assert mini.test_images.shape == (1000, 28, 28)
    assert mini.train_images.dtype == mini.test_images.dtype == np.uint8
    assert mini.train_labels.dtype == mini.test_labels.dtype == np.int64
    # The means of single images have standard deviation 0.044, so that of a mean over 5,000 is 0.0006.
    assert mini.train_images.mean() / 255 == pytest.approx(0.1307, abs=0.002)
    assert mini.train_images.std() / 255 == pytest.approx(0.3081, abs=0.004)


@pytest.mark.parametrize("part", ["train", "test"])
def test_every_prefix_of_mini_is_stratified(part: str) -> None:
    labels = getattr(data.load("mnist-mini"), f"{part}_labels")
    assert np.array_equal(labels, np.arange(len(labels)) % 10)


def test_no_image_of_mini_occurs_twice() -> None:
    mini = data.load("mnist-mini")
    images = np.concatenate([mini.train_images, mini.test_images])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == 6000


def test_labels_of_mini_belong_to_the_images() -> None:
    mini = data.load("mnist-mini")
    train = mini.train_images.reshape(5000, -1) / 255.0
    means = np.stack([train[mini.train_labels == label].mean(axis=0) for label in range(10)])
    test = mini.test_images.reshape(1000, -1) / 255.0
    nearest = ((test[:, None] - means) ** 2).sum(axis=-1).argmin(axis=1)
    assert (nearest == mini.test_labels).mean() > 0.75  # the nearest class mean gets 0.82 right on full MNIST


def test_arrays_may_be_written_to() -> None:
    mini = data.load("mnist-mini")
    for array in (mini.train_images, mini.train_labels, mini.test_images, mini.test_labels):
        assert array.flags.writeable
    mini.train_images[:] = 0
    assert data.load("mnist-mini").train_images.any()


def test_mini_loads_fast() -> None:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        data.load("mnist-mini")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.1


def test_data_needs_neither_torch_nor_an_extra() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'pooch', 'requests', 'xarray', 'matplotlib', 'rich'): sys.modules[name] = None\n"
        "from samirage.lab.data import datasets as data\n"
        "assert len(data.load('mnist-mini').train_labels) == 5000\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_fetch_of_a_packaged_set_names_its_folder() -> None:
    assert data.fetch("mnist-mini") == MINI


def full_set() -> Path:
    """The folder with full MNIST, where the person who runs the tests has it."""
    named = os.environ.get("SAMIRAGE_DATA")
    if not named:
        pytest.skip("SAMIRAGE_DATA does not name a folder with the full MNIST files")
    return Path(named)


def test_full_set() -> None:
    full_set()
    full = data.load("mnist")
    assert full.train_images.shape == (60_000, 28, 28)
    assert np.bincount(full.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_script_makes_the_packaged_files_again(tmp_path: Path) -> None:
    subprocess.run([sys.executable, SCRIPT, full_set(), tmp_path], check=True, timeout=120, capture_output=True)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == sorted(f"{name}.gz" for name in TINY_SHAPES)
    for name in made:
        assert gzip.decompress((tmp_path / name).read_bytes()) == gzip.decompress((MINI / name).read_bytes())
        if "ng" not in zlib.ZLIB_RUNTIME_VERSION:  # zlib-ng finds other matches, and so packs to other bytes
            assert (tmp_path / name).read_bytes() == (MINI / name).read_bytes()


def test_script_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "none", tmp_path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "none' does not exist" in done.stderr
    assert "Traceback" not in done.stderr


# --- folders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_every_spelling_is_found(tiny: dict[str, bytes], tmp_path: Path, dotted: bool, packed: bool) -> None:
    for name, content in tiny.items():
        spelling = name.replace("-idx", ".idx") if dotted else name
        path = tmp_path / (spelling + ".gz" if packed else spelling)
        path.write_bytes(gzip.compress(content) if packed else content)
    loaded = data.load("tiny", data_dir=tmp_path)
    assert idx(loaded.train_images) == tiny["train-images-idx3-ubyte"]
    assert idx(loaded.test_labels.astype(np.uint8)) == tiny["t10k-labels-idx1-ubyte"]


def test_environment_names_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMIRAGE_DATA", str(folder))
    assert data.load("tiny").train_images.shape == (6, 4, 3)
    assert data.fetch("tiny") == folder


def test_argument_beats_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMIRAGE_DATA", str(folder / "elsewhere"))
    assert data.load("tiny", data_dir=str(folder)).train_images.shape == (6, 4, 3)


def test_subfolder_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rename(folder.with_name("tiny"))
    assert data.load("tiny", data_dir=folder.parent).train_images.shape == (6, 4, 3)


def test_folder_in_the_home_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert data.load("tiny", data_dir="~/data").train_images.shape == (6, 4, 3)


def test_unknown_name() -> None:
    for function in (data.load, data.fetch):
        with pytest.raises(
            UserError, match=rf"^There is no data set 'minst': choose one of {', '.join(data.names())}\.$"
        ):
            function("minst")


def test_the_help_of_the_command_names_every_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["data", "fetch", "--help"])
    assert f"The data sets are {', '.join(data.names())}.".replace(" ", "") in "".join(capsys.readouterr().out.split())


def test_missing_folder(tiny: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError, match=r"'.*/none' does not exist: name .* by --data-dir or SAMIRAGE_DATA.*samirage data f"
    ):
        data.load("tiny", data_dir=tmp_path / "none")
    monkeypatch.setenv("SAMIRAGE_DATA", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"'.*/none' does not exist"):
        data.load("tiny")


def test_folder_that_is_a_file(tiny: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"'.*/file' is not a folder: "):
        data.load("tiny", data_dir=tmp_path / "file")
    with pytest.raises(UserError, match=r"'.*/file/tiny' cannot be written \(Not a directory\): name another"):
        data.fetch("tiny", tmp_path / "file")


def test_missing_file(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        UserError,
        match=r"/data' holds none of 't10k-labels-idx1-ubyte.gz', .*: put one there, or, .*fetch tiny --data-dir .*",
    ):
        data.load("tiny", data_dir=folder)


# --- files that are wrong -------------------------------------------------------------------------

IMAGES, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
Damage = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    ("name", "damage", "complaint"),
    [
        (IMAGES, lambda raw: b"", r"is truncated: it holds 0 of 88 bytes"),
        (IMAGES, lambda raw: raw[:3], r"is truncated: it holds 3 of 88 bytes"),
        (IMAGES, lambda raw: raw[:-1], r"is truncated: it holds 87 of 88 bytes"),
        (IMAGES, lambda raw: raw + b"\0", r"holds more than its 88 bytes"),
        (IMAGES, lambda raw: b"\0\0\x0d\x03" + raw[4:], r"is not an idx file of 3-d.* \(it begins with 00 00 0d 03\)"),
        (IMAGES, lambda raw: b"\0\0\x08\x01" + raw[4:], r"is not an idx file of 3-d.* \(it begins with 00 00 08 01\)"),
        (LABELS, lambda raw: b"\x80\x04\x95." + raw[4:], r"is not an idx file of 1-d.* \(it begins with 80 04 95 2e\)"),
        (
            IMAGES,
            lambda raw: raw[:12] + b"\0\0\0\x04" + raw[16:],
            r"announces the shape \(6, 4, 4\) where \(6, 4, 3\) is",
        ),
        (IMAGES, lambda raw: raw[:4] + b"\xff" * 12 + raw[16:], r"announces the shape \(4294967295, .* is due"),
        (
            IMAGES,
            lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
            r"has the wrong checksum \(SHA-256 \w{12}… where \w{12}… is",
        ),
        (LABELS, lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), r"has the wrong checksum"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_wrong_content(
    tiny: dict[str, bytes], folder: Path, name: str, damage: Damage, complaint: str, packed: bool
) -> None:
    bad = damage(tiny[name])
    (folder / f"{name}.gz").unlink()
    path = folder / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(bad) if packed else bad)
    expected = (
        f"^The file '.*/{path.name}' {complaint}.*: delete it and run `samirage data fetch tiny --data-dir .*`\\.$"
    )
    for function in (data.load, data.fetch):
        with pytest.raises(UserError, match=expected):
            function("tiny", data_dir=folder)
    assert path.exists()  # what is the user's is not deleted


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda packed: packed[:-4], r"is truncated: the gzip stream ends early"),
        (lambda packed: packed[: len(packed) // 2], r"is truncated: the gzip stream ends early"),
        (lambda packed: packed[:-8] + bytes(4) + packed[-4:], r"is not intact gzip \(CRC check failed"),
        (lambda packed: packed[:10] + b"\xff" * 20 + packed[30:], r"is not intact gzip \(Error -3"),
        (lambda packed: b"<html>Not found</html>", r"is not intact gzip \(Not a gzipped file"),
        (lambda packed: gzip.compress(bytes(10**8)), r"holds more than its 88 bytes"),
    ],
)
def test_wrong_gzip(tiny: dict[str, bytes], folder: Path, damage: Damage, complaint: str) -> None:
    path = folder / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"^The file '.*{IMAGES}.gz' {complaint}.*: delete it and run"):
        data.load("tiny", data_dir=folder)


def test_unreadable_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *args: object, **kwargs: object) -> None:  # for root, who runs CI, can read everything
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"^The file '.*' cannot be read \(Permission denied\): "):
        data.load("tiny", data_dir=folder)


def test_damaged_package_says_to_install_again(monkeypatch: pytest.MonkeyPatch) -> None:
    mini = data._DATA_SETS["mnist-mini"]
    wrong = (dataclasses.replace(mini.files[0], sha256="0" * 64), *mini.files[1:])
    monkeypatch.setitem(data._DATA_SETS, "mnist-mini", dataclasses.replace(mini, files=wrong))
    with pytest.raises(UserError, match=r"has the wrong checksum .*: delete it and install samirage again\.$"):
        data.load("mnist-mini")


# --- downloads ------------------------------------------------------------------------------------


@pytest.fixture
def mirror(tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A server that offers the intact files of `tiny` under /good/, as its only mirror."""
    pytest.importorskip("pooch", reason="downloads need the extra `lab`")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Mirror()
    server.bodies = {f"/good/{name}.gz": gzip.compress(content) for name, content in tiny.items()}
    use_mirrors(monkeypatch, f"{server.url}/good/")
    yield server
    server.close()


def use_mirrors(monkeypatch: pytest.MonkeyPatch, *urls: str) -> None:
    changed = dataclasses.replace(data._DATA_SETS["tiny"], mirrors=urls)
    monkeypatch.setitem(data._DATA_SETS, "tiny", changed)


def contents(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_download_into_a_folder(mirror: Mirror, tmp_path: Path) -> None:
    root = tmp_path / "new"
    assert data.fetch("tiny", root) == root / "tiny"
    assert contents(root) == ["tiny", *sorted(f"tiny/{name}.gz" for name in TINY_SHAPES)]
    assert len(mirror.requests) == 4
    assert data.load("tiny", data_dir=root).train_images.shape == (6, 4, 3)
    assert data.fetch("tiny", root) == root / "tiny"
    assert len(mirror.requests) == 4  # all was there


def test_download_into_the_cache_at_first_use(mirror: Mirror, tmp_path: Path) -> None:
    for _ in range(2):
        assert data.load("tiny").test_images.shape == (2, 4, 3)
    assert len(mirror.requests) == 4
    assert data.fetch("tiny") == tmp_path / "cache" / "samirage" / "tiny"


def test_download_into_the_folder_of_the_environment(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMIRAGE_DATA", str(tmp_path / "named"))
    assert data.fetch("tiny") == tmp_path / "named" / "tiny"
    assert data.load("tiny").test_images.shape == (2, 4, 3)


def test_empty_variable_names_no_folder(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMIRAGE_DATA", "")
    assert data.fetch("tiny") == tmp_path / "cache" / "samirage" / "tiny"


def test_only_what_is_missing_is_downloaded(mirror: Mirror, folder: Path) -> None:
    (folder / f"{LABELS}.gz").unlink()
    assert data.fetch("tiny", folder) == folder
    assert mirror.requests == [f"/good/{LABELS}.gz"]


def test_load_from_a_named_folder_downloads_nothing(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds none of"):
        data.load("tiny", data_dir=tmp_path)
    assert mirror.requests == []


def test_recompressed_file_is_accepted(mirror: Mirror, tiny: dict[str, bytes], tmp_path: Path) -> None:
    mirror.bodies = {f"/good/{name}.gz": gzip.compress(content, 1, mtime=5) for name, content in tiny.items()}
    assert data.fetch("tiny", tmp_path) == tmp_path / "tiny"


def flip_last(packed: bytes) -> bytes:
    raw = gzip.decompress(packed)
    return gzip.compress(raw[:-1] + bytes([raw[-1] ^ 1]))


BAD_BODIES = [
    (flip_last, r"has the wrong checksum"),
    (lambda packed: packed[:-9], r"is truncated"),
    (lambda packed: b"<html>Log in to the hotel's network</html>", r"is not intact gzip"),
]


@pytest.mark.parametrize(("damage", "complaint"), BAD_BODIES)
@pytest.mark.parametrize("existed", [False, True])
def test_bad_download_leaves_nothing(
    mirror: Mirror, tmp_path: Path, damage: Damage, complaint: str, existed: bool
) -> None:
    last = f"/good/{LABELS}.gz"  # the other three arrive intact
    mirror.bodies[last] = damage(mirror.bodies[last])
    if existed:
        (tmp_path / "tiny").mkdir()
    with pytest.raises(
        UserError, match=rf"^tiny could not be downloaded \(http://.*{last} {complaint}.*\): check the n"
    ):
        data.fetch("tiny", tmp_path)
    assert contents(tmp_path) == (["tiny"] if existed else [])


@pytest.mark.parametrize(("damage", "complaint"), BAD_BODIES)
def test_second_mirror_after_a_bad_first(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage, complaint: str
) -> None:
    mirror.bodies |= {path.replace("/good/", "/bad/"): damage(body) for path, body in mirror.bodies.items()}
    use_mirrors(monkeypatch, f"{mirror.url}/bad/", f"{mirror.url}/good/")
    data.fetch("tiny", tmp_path)
    assert len(mirror.requests) == 8
    assert data.load("tiny", data_dir=tmp_path).train_images.shape == (6, 4, 3)


def test_second_mirror_after_a_missing_first(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_mirrors(monkeypatch, "http://127.0.0.1:9/", f"{mirror.url}/gone/", f"{mirror.url}/good/")
    data.fetch("tiny", tmp_path)
    assert data.load("tiny", data_dir=tmp_path).train_images.shape == (6, 4, 3)


def test_connection_that_breaks(mirror: Mirror, tmp_path: Path) -> None:
    mirror.announce_more = 10
    with pytest.raises(UserError, match=r"^tiny could not be downloaded \(http://.*\): check the network"):
        data.fetch("tiny", tmp_path)
    assert contents(tmp_path) == []


def test_no_network(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_mirrors(monkeypatch, "http://127.0.0.1:9/", f"{mirror.url}/gone/")
    expected = (
        r"^tiny could not be downloaded \(http://127.0.0.1:9/\S+ gave the error ConnectionError; "
        r"http://\S+ gave the HTTP status 404\): check the network, or copy .* by --data-dir or SAMIRAGE_DATA\.$"
    )
    with pytest.raises(UserError, match=expected):
        data.load("tiny")
    assert contents(tmp_path) == []


def test_interrupted_download_leaves_nothing(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(IdxFile, "parse", interrupt)
    with pytest.raises(KeyboardInterrupt):
        data.fetch("tiny", tmp_path)
    assert contents(tmp_path) == []


def test_mirrors_are_encrypted_and_checksums_whole() -> None:
    for data_set in data._DATA_SETS.values():
        assert all(url.startswith("https://") and url.endswith("/") for url in data_set.mirrors)
        assert all(len(file.sha256) == 64 for file in data_set.files if isinstance(file, IdxFile))
        if data_set.archive is not None:
            kind, digits = data_set.archive.checksum.split(":")
            assert len(digits) == {"md5": 32, "sha256": 64}[kind]


def test_missing_extra(tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(
        UserError, match=r"^This needs 'pooch', which is not installed: run `pip install 'samirage\[lab\]'`"
    ):
        data.load("tiny")


def test_require_does_not_hide_a_broken_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("raise ImportError('libbroken.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match=r"libbroken\.so"):
        require("lab", "broken_module")


def test_folder_copied_by_hand_equals_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(MINI, tmp_path / "copy")
    mini = dataclasses.replace(data._DATA_SETS["mnist-mini"], name="copy", mirrors=("http://127.0.0.1:9/",))
    monkeypatch.setitem(data._DATA_SETS, "copy", mini)
    loaded, packaged = data.load("copy", data_dir=tmp_path), data.load("mnist-mini")
    assert np.array_equal(loaded.train_images, packaged.train_images)
    assert np.array_equal(loaded.test_labels, packaged.test_labels)
