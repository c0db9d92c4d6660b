"""What is installed, and where: the wheel, an environment with torch and numpy alone, and versions that must agree."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import samirage

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {extra: [Requirement(line) for line in lines] for extra, lines in PROJECT["optional-dependencies"].items()}
HARD = [Requirement(line) for line in PROJECT["dependencies"]]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


# --- versions that must agree -----------------------------------------------------------------------


def test_torch_and_numpy_are_the_only_hard_dependencies_and_ranges() -> None:
    assert {requirement.name for requirement in HARD} == {"torch", "numpy"}
    assert not any("==" in str(requirement.specifier) for requirement in HARD)


def test_every_dependency_is_pinned_within_its_range() -> None:
    for requirement in [*HARD, *(r for requirements in EXTRAS.values() for r in requirements)]:
        pin = pins().get(canonicalize_name(requirement.name))
        assert pin is not None, f"constraints.txt has no pin for {requirement.name}"
        assert Version(pin) in requirement.specifier, f"{requirement} excludes its pin, {pin}"


def test_pins_are_exact_and_name_no_tool_of_the_installation() -> None:
    for name, version in pins().items():
        assert str(Version(version)) == version
        assert Version(version).local is None  # a build such as 2.13.0+cpu is not to be had everywhere
        assert name not in {"pip", "setuptools", "wheel", "samirage"}


def test_pre_commit_uses_the_pinned_tools() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    revisions = dict(re.findall(r"repo: https://\S+/(\S+)-pre-commit\n\s+rev: v(\S+)", text))
    assert revisions == {"ruff": pins()["ruff"]}
    assert text.count("rev:") == len(revisions)
    # Other hooks run in .venv, where the pins hold.
    assert re.findall(r"entry: (\S+)", text) == [".venv/bin/mypy", ".venv/bin/lint-imports"]


def test_version_is_the_same_everywhere() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(\d\S*)\]", changelog, re.MULTILINE)[0] == samirage.__version__
    assert f"\nversion: {samirage.__version__}\n" in citation


def imports(path: Path) -> Iterator[str]:
    """The top-level names that a file imports, wherever in the file, by statement or by `require`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (name.name.split(".")[0] for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.split(".")[0]
            case ast.Call(func=ast.Name(id="require"), args=[_, ast.Constant(value=str(module))]):
                yield module.split(".")[0]


def test_everything_imported_is_declared() -> None:
    of_module = packages_distributions()
    needed = [requirement for extra in EXTRAS.keys() - {"bench", "dev"} for requirement in EXTRAS[extra]]
    declared = {canonicalize_name(requirement.name) for requirement in [*HARD, *needed]}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for module in set(imports(path)) - sys.stdlib_module_names - {"samirage"}:
            owners = {canonicalize_name(name) for name in of_module.get(module, [module])}
            assert owners & declared, f"{path.relative_to(ROOT)} imports {module}, which no dependency declares"


# --- the wheel --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    kept = {".py", ".typed", ".gz", ".md", ".html", ".css", ".js", ".j2", ".jinja"}
    expected = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "samirage").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix in kept
    }
    assert packed == expected
    assert "samirage/py.typed" in packed
    assert sum(name.startswith("samirage/lab/data/mnist_mini/") for name in packed) == 5
    assert any(name.startswith("samirage/report/templates/") for name in packed)
    assert len(licences) == 1
    assert wheel.stat().st_size < 2_000_000


# --- an environment with torch and numpy alone ------------------------------------------------------


def closure(*roots: str) -> set[str]:
    """The distributions that these need, themselves included, on this machine."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            requirements = map(Requirement, distribution(name).requires or [])
            waiting += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def minimal_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel, torch, numpy and what those two need: links, not copies."""
    environment = tmp_path_factory.mktemp("minimal")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=60)
    python = environment / "bin" / "python"
    (site,) = environment.glob("lib/python*/site-packages")
    for name in closure("torch", "numpy"):
        needed = distribution(name)
        for top in {file.parts[0] for file in needed.files or [] if file.parts[0] not in {"..", "__pycache__"}}:
            (site / top).symlink_to(str(needed.locate_file(top)))
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    command += ["--no-deps", "--no-index", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return python


def run_minimal(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/", env={"PATH": "/usr/bin:/bin"})


@pytest.mark.slow
def test_optimizer_needs_torch_and_numpy_alone(minimal_python: Path) -> None:
    code = """
import importlib.util, torch, samirage
assert "minimal" in samirage.__file__, samirage.__file__
for extra in ("xarray", "matplotlib", "pooch", "rich", "pytest"):
    assert importlib.util.find_spec(extra) is None, extra
w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
optimizer = samirage.SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
def closure():
    optimizer.zero_grad()
    loss = (w * w).sum() / 2
    loss.backward()
    return loss
optimizer.step(closure)
# The gradient of ||w||^2/2 at w + rho w/||w|| is 1.1 w, so a step of 0.1 leaves 0.89 w.
torch.testing.assert_close(w.detach(), torch.tensor([3.0, 4.0]) * 0.89)
from samirage.lab.data.datasets import load
assert len(load("mnist-mini").train_labels) == 5000
print("fine")
"""
    done = run_minimal(minimal_python, "-W", "error", "-c", code)
    assert (done.stdout, done.stderr) == ("fine\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("reproduce", "mnist", "--scale", "smoke"), ("report", "no-such-run")])
def test_command_says_which_extra_is_missing(minimal_python: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    out = ("--out", str(tmp_path / "run")) if arguments[0] == "reproduce" else ()
    done = run_minimal(minimal_python.with_name("samirage"), *arguments, *out)
    assert done.returncode == 2, done.stderr
    assert "pip install 'samirage[lab]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "package"),
    [("lightning", "pytorch_lightning"), ("transformers", "transformers")],
)
def test_trainer_says_which_extra_is_missing(minimal_python: Path, module: str, package: str) -> None:
    done = run_minimal(minimal_python, "-c", f"import samirage.trainers.{module}")
    sentence = f"This needs '{package}', which is not installed: run `pip install 'samirage[{module}]'`."
    assert done.stderr.splitlines()[-1] == f"samirage.errors.UserError: {sentence}"
