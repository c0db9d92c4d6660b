"""CIFAR, binary version: its files, wherever they lie, and the archive that they come in."""

import dataclasses
import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from samirage.errors import UserError
from samirage.lab.data import datasets as data
from samirage.lab.data.datasets import CifarFile
from samirage.lab.data.download import Archive, BadFileError
from tests.lab.data.mirror import Mirror

ARCHIVE = "cifar-100-binary.tar.gz"
FOLDER = "cifar-100-binary"
COUNTS = {"train.bin": 200, "test.bin": 100}


def records(images: int, seed: int = 0) -> np.ndarray:
    """A made-up file: two labels (the coarse one is the fine one by five) and 3,072 bytes of colours a record."""
    rng = np.random.default_rng(seed)
    fine = rng.permutation(np.arange(images) % 100)
    pixels = rng.integers(0, 256, (images, 3 * 32 * 32))
    return np.concatenate([(fine // 5)[:, None], fine[:, None], pixels], axis=1).astype(np.uint8)


FILES = {name: records(count, seed).tobytes() for seed, (name, count) in enumerate(COUNTS.items())}


def tar(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


GOOD = tar({f"{FOLDER}/{name}": content for name, content in FILES.items()} | {f"{FOLDER}/fine_label_names.txt": b"a"})


def use(monkeypatch: pytest.MonkeyPatch, *mirrors: str, archive: bytes = GOOD) -> None:
    """Make `cifar100` a small data set with this archive, served by these mirrors."""
    small = dataclasses.replace(
        data._DATA_SETS["cifar100"],
        files=tuple(CifarFile(name, count) for name, count in COUNTS.items()),
        mirrors=mirrors or ("http://127.0.0.1:9/",),
        archive=Archive(ARCHIVE, f"md5:{hashlib.md5(archive).hexdigest()}", FOLDER),
    )
    monkeypatch.setitem(data._DATA_SETS, "cifar100", small)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch)
    monkeypatch.delenv("SAMIRAGE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    pytest.importorskip("pooch", reason="downloads need the extra `lab`")
    server = Mirror()
    server.bodies = {f"/good/{ARCHIVE}": GOOD}
    use(monkeypatch, f"{server.url}/good/")
    yield server
    server.close()


def contents(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_pixels_and_labels_are_where_the_format_has_them() -> None:
    content = bytearray(FILES["train.bin"])
    start = 7 * 3074
    content[start + 2 + 1024 + 3 * 32 + 5] = 77  # record 7: green of row 3, column 5
    images, labels = CifarFile("train.bin", 200).parse(bytes(content))
    assert images.shape == (200, 32, 32, 3)
    assert images[7, 3, 5, 1] == 77
    assert labels[7] == content[start + 1]
    assert images.flags.writeable
    assert labels.flags.writeable


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda raw: raw[:-1], "is truncated: it holds 614799 of 614800 bytes"),
        (lambda raw: raw + b"\0", "holds more than its 614800 bytes"),
        (lambda raw: raw[:1] + bytes([raw[1] ^ 1]) + raw[2:], "is not train.bin of CIFAR-100 .which has 2 images"),
        (lambda raw: bytes([19 - raw[0]]) + raw[1:], "is not train.bin of CIFAR-100"),
        (lambda raw: raw[:1] + b"\xff" + raw[2:], "is not train.bin of CIFAR-100"),
        (lambda raw: raw[1:] + raw[:1], "is not train.bin of CIFAR-100"),
    ],
)
def test_what_is_known_of_a_file_is_checked(damage, complaint: str, tmp_path: Path) -> None:
    bad = damage(FILES["train.bin"])
    with pytest.raises(BadFileError, match=complaint):
        CifarFile("train.bin", 200).parse(bad)
    for name, content in {**FILES, "train.bin": bad}.items():
        (tmp_path / name).write_bytes(content)
    for function in (data.load, data.fetch):
        with pytest.raises(
            UserError, match=rf"^The file '.*train.bin' {complaint}.*: delete it and run `samirage data"
        ):
            function("cifar100", data_dir=tmp_path)


def test_groups_that_are_not_of_five_classes_are_refused() -> None:
    content = np.frombuffer(FILES["train.bin"], np.uint8).reshape(200, -1).copy()
    first, second = (np.flatnonzero(content[:, 0] == group)[0] for group in (0, 1))
    content[[first, second], 0] = content[[second, first], 0]  # as often as before, but across classes
    with pytest.raises(BadFileError, match="in 20 groups of five"):
        CifarFile("train.bin", 200).parse(content.tobytes())


@pytest.mark.parametrize("below", ["", FOLDER, "cifar100"])
@pytest.mark.parametrize("packed", [False, True])
def test_files_are_found_in_the_folder_or_below_it(tmp_path: Path, below: str, packed: bool) -> None:
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    for name, content in FILES.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content, 1) if packed else content)
    loaded = data.load("cifar100", data_dir=tmp_path)
    assert loaded.train_images.shape == (200, 32, 32, 3)
    assert loaded.test_labels.dtype == np.int64
    assert data.fetch("cifar100", tmp_path) == folder


def test_the_archive_is_downloaded_once_and_unpacked(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "new"
    assert data.fetch("cifar100", root) == root / FOLDER
    assert contents(root) == [FOLDER, f"{FOLDER}/test.bin", f"{FOLDER}/train.bin"]
    assert (root / FOLDER / "test.bin").read_bytes() == FILES["test.bin"]
    data.load("cifar100", data_dir=root)
    data.fetch("cifar100", root)
    assert mirror.requests == [f"/good/{ARCHIVE}"]
    assert capsys.readouterr().err == f"downloading {mirror.url}/good/{ARCHIVE}\n"


def test_it_is_downloaded_into_the_cache_at_first_use(mirror: Mirror, tmp_path: Path) -> None:
    assert data.load("cifar100").train_images.shape == (200, 32, 32, 3)
    assert (tmp_path / "cache" / "samirage" / FOLDER / "train.bin").is_file()


@pytest.mark.parametrize("inside", [False, True])
def test_an_archive_that_lies_there_is_used(tmp_path: Path, inside: bool) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    ((folder if inside else tmp_path) / ARCHIVE).write_bytes(GOOD)
    assert data.fetch("cifar100", tmp_path) == folder  # no mirror answers
    assert data.load("cifar100", data_dir=tmp_path).test_images.shape == (100, 32, 32, 3)


def test_an_archive_that_lies_there_and_is_wrong_is_not_used(tmp_path: Path) -> None:
    (tmp_path / ARCHIVE).write_bytes(GOOD[:-1])
    with pytest.raises(
        UserError, match=rf"^The file '.*{ARCHIVE}' has the wrong checksum \(MD5 \w+ where \w+ is due\)"
    ):
        data.fetch("cifar100", tmp_path)
    assert contents(tmp_path) == [ARCHIVE]


SHORT = {f"{FOLDER}/{name}": content[:-1] for name, content in FILES.items()}


@pytest.mark.parametrize(
    ("body", "known", "complaint"),
    [
        (b"<html>Log in to the hotel's network</html>", False, "has the wrong checksum"),
        (GOOD[:-5], False, "has the wrong checksum"),
        (GOOD[: len(GOOD) // 2], True, "is truncated|is not an intact archive"),
        (b"no archive at all", True, "is not an intact archive"),
        (tar({"elsewhere/train.bin": b""}), True, f"holds no {FOLDER}/train.bin"),
        (tar(SHORT), True, "is truncated: it holds 614799 of 614800 bytes"),
    ],
)
def test_a_bad_archive_leaves_nothing(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes, known: bool, complaint: str
) -> None:
    mirror.bodies = {f"/good/{ARCHIVE}": body}
    use(monkeypatch, f"{mirror.url}/good/", archive=body if known else GOOD)
    root = tmp_path / "new"
    with pytest.raises(
        UserError, match=rf"^cifar100 could not be downloaded \(http://.*{ARCHIVE} ({complaint}).*\): che"
    ):
        data.fetch("cifar100", root)
    assert contents(tmp_path) == []


def test_the_second_mirror_serves_where_the_first_does_not(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.bodies[f"/bad/{ARCHIVE}"] = GOOD[:-5]
    use(monkeypatch, f"{mirror.url}/gone/", f"{mirror.url}/bad/", f"{mirror.url}/good/")
    data.fetch("cifar100", tmp_path)
    assert len(mirror.requests) == 3
    assert contents(tmp_path) == [FOLDER, f"{FOLDER}/test.bin", f"{FOLDER}/train.bin"]


def test_only_the_missing_file_is_taken_from_the_archive(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "train.bin").write_bytes(FILES["train.bin"])
    assert data.fetch("cifar100", tmp_path) == tmp_path
    assert contents(tmp_path) == ["test.bin", "train.bin"]


TEN = "cifar-10-batches-bin"
TEN_FILES = {
    f"{name}.bin": b"".join(bytes([(7 * i + k) % 10]) + bytes([(k, i)[i % 2]]) * 3072 for i in range(10 + k))
    for k, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"])
}


@pytest.fixture
def ten(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """`cifar10` with few images: 10 in its first batch, one more in each of the others; and a server that has it."""
    whole = data._DATA_SETS["cifar10"]
    packed = tar({f"{TEN}/{name}": content for name, content in TEN_FILES.items()} | {f"{TEN}/readme.html": b"a"})
    assert whole.archive is not None
    small = dataclasses.replace(
        whole,
        files=tuple(dataclasses.replace(file, images=len(TEN_FILES[file.name]) // 3073) for file in whole.files),
        mirrors=(f"{mirror.url}/ten/",),
        archive=dataclasses.replace(whole.archive, checksum=f"sha256:{hashlib.sha256(packed).hexdigest()}"),
    )
    monkeypatch.setitem(data._DATA_SETS, "cifar10", small)
    mirror.bodies = {f"/ten/{whole.archive.name}": packed}
    return mirror


def test_cifar10_comes_in_five_batches_and_one_for_testing(ten: Mirror, tmp_path: Path) -> None:
    assert data.fetch("cifar10", tmp_path) == tmp_path / TEN
    assert contents(tmp_path) == [TEN, *(f"{TEN}/{name}" for name in sorted(TEN_FILES))]
    loaded = data.load("cifar10", data_dir=tmp_path)
    assert loaded.train_images.shape == (10 + 11 + 12 + 13 + 14, 32, 32, 3)
    assert loaded.train_labels.tolist() == [(7 * i + k) % 10 for k in range(5) for i in range(10 + k)]
    assert loaded.train_images[10 + 11 + 3].tolist() == [[[3] * 3] * 32] * 32  # image 3 of the third batch
    assert loaded.test_labels.tolist() == [(7 * i + 5) % 10 for i in range(15)]
    assert loaded.test_images.shape == (15, 32, 32, 3)
    assert loaded.train_labels.dtype == np.int64
    assert loaded.train_images.flags.writeable


def test_a_label_that_cifar10_does_not_have_is_refused(ten: Mirror, tmp_path: Path) -> None:
    data.fetch("cifar10", tmp_path)
    path = tmp_path / TEN / "data_batch_2.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(UserError, match=r"data_batch_2.bin' is not data_batch_2.bin of CIFAR-10 \(which has 10 cl"):
        data.load("cifar10", data_dir=tmp_path)


def test_the_public_archive_of_cifar10() -> None:
    ten = data._DATA_SETS["cifar10"]
    assert sum(file.nbytes for file in ten.files) == 60_000 * 3073
    assert ten.archive == Archive(
        "cifar-10-binary.tar.gz", "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", TEN
    )


def test_the_whole_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    named = os.environ.get("SAMIRAGE_DATA")
    if not named or not any((Path(named) / below / "train.bin").exists() for below in ("", FOLDER, "cifar100")):
        pytest.skip("SAMIRAGE_DATA does not name a folder with the CIFAR-100 binary files")
    whole = data.load("cifar100")
    assert whole.train_images.shape == (50_000, 32, 32, 3)
    assert np.bincount(whole.test_labels).tolist() == [100] * 100
    # Mean and standard deviation of the three colours, as they are known for this data set.
    assert whole.train_images.mean((0, 1, 2)) / 255 == pytest.approx([0.5071, 0.4865, 0.4409], abs=5e-5)
    assert whole.train_images.std((0, 1, 2)) / 255 == pytest.approx([0.2673, 0.2564, 0.2762], abs=5e-5)
