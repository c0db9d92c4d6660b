"""Which modules are mutated, and which tests ought to see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final


class UnknownModuleError(Exception):
    """A module was named that is not among those to mutate."""


@dataclass(frozen=True)
class Project:
    """What is mutated, and how it is tested.

    Attributes:
        root: Root of the project.
        package: Path of the package from there.
        targets: Patterns of the modules to mutate, from the package.
        extra_tests: For a module, or a room, what its tests are besides `tests/<room>/test_<module>.py` and its
            examples.
        planted: Path of the list of planted bugs.
        preload: Modules that all tests import, and that are slow to import.
    """

    root: Path
    package: str
    targets: Sequence[str]
    extra_tests: Mapping[str, Sequence[str]] = field(default_factory=dict)
    planted: str = "scripts/mutation/planted.toml"
    preload: Sequence[str] = ()

    def files(self, modules: Sequence[str] = ()) -> list[str]:
        """Return the paths of the modules to mutate.

        Args:
            modules: Rooms or modules to keep, such as `sam` or `sam/guard`; all if there are none.

        Raises:
            UnknownModuleError: If one of them is not among the targets, or a target is gone.
        """
        package = self.root / self.package
        by_pattern = {pattern: sorted(package.glob(pattern)) for pattern in self.targets}
        gone = [pattern for pattern, paths in by_pattern.items() if not paths]
        if gone:
            raise UnknownModuleError(
                f"no module of {self.package} is called {', '.join(gone)}: bring the targets up to date"
            )
        found = {path for paths in by_pattern.values() for path in paths if path.name != "__init__.py"}
        names = {path.relative_to(package).with_suffix("").as_posix(): path for path in sorted(found)}
        kept = dict.fromkeys(names, not modules)
        for module in modules:
            wanted = module.removeprefix(self.package).strip("/").removesuffix(".py")
            hit = [name for name in names if name == wanted or name.startswith(wanted + "/")]
            if not hit:
                rooms = sorted({name.partition("/")[0] for name in names})
                raise UnknownModuleError(
                    f"there is no module {module!r} to mutate: name a room ({', '.join(rooms)}) or one of its modules, "
                    "such as sam/guard"
                )
            kept.update(dict.fromkeys(hit, True))
        return [path.relative_to(self.root).as_posix() for name, path in names.items() if kept[name]]

    def tests_of(self, file: str) -> tuple[str, ...]:
        """Return the test files of a module, all of its room where there are none of its own, and files with examples.

        Args:
            file: Its path from the root.
        """
        name = file.removeprefix(self.package).strip("/").removesuffix(".py")
        room, _, module = name.rpartition("/")
        own = f"tests/{room}/test_{module}.py".replace("//", "/")
        tests = [own] if (self.root / own).is_file() else []
        parents = [parent.as_posix() for parent in PurePosixPath(name).parents]
        for key in (name, *parents):
            tests += self.extra_tests.get(key, ())
        if not [test for test in tests if test.startswith("tests/")]:
            tests = [f"tests/{room}", *tests]
        tests.append(file)  # for its examples
        return tuple(dict.fromkeys(t for t in tests if not any(t.startswith(f"{folder}/") for folder in tests)))


_PROOFS: Final = (
    "tests/points/proofs/test_prove.py",
    "tests/points/proofs/test_exact_proofs.py",
    "tests/points/proofs/test_check.py",
)
_RULES: Final = (
    "tests/diagnosis/test_rules.py",
    "tests/diagnosis/test_rule_boundaries.py",
    "tests/diagnosis/test_thresholds.py",
)
SAMIRAGE: Final = Project(
    root=Path(__file__).resolve().parent.parent.parent,
    package="src/samirage",
    targets=(
        "sam/**/*.py",
        "points/**/*.py",
        "diagnosis/rules.py",
        "diagnosis/thresholds.py",
        "lab/results/claims.py",
        "lab/results/statistics.py",
    ),
    extra_tests={
        # With the examples of a whole room, its modules have the same tests, which are then run without a mutant once.
        "sam": ("tests/sam", "src/samirage/sam"),
        "sam/policies/warm_start": ("tests/optim/test_schedules.py",),
        "points": ("src/samirage/points",),
        "points/equation": ("tests/points/find/test_find.py", "tests/points/certificates/test_certify.py"),
        "points/polish": ("tests/points/find/test_find.py",),
        "points/certificates": ("tests/points/certificates/test_certify.py",),
        "points/find": ("tests/points/find/test_find.py",),
        "points/find/basins": ("tests/points/find/test_orbits_and_basins.py",),
        "points/find/evidence": ("tests/points/certificates/test_certify.py",),
        "points/find/orbits": ("tests/points/find/test_orbits_and_basins.py",),
        "points/find/radius": ("tests/points/find/test_branch.py",),
        "points/find/sphere": ("tests/points/find/test_branch.py",),
        "points/proofs": _PROOFS,
        "diagnosis/rules": (*_RULES, "tests/monitor/test_diagnose.py"),
        "diagnosis/thresholds": _RULES,
        "lab/results/claims": ("tests/lab/results/test_claims.py", "tests/lab/results/test_claims_of_values.py"),
        "lab/results/statistics": (
            "tests/lab/results/test_statistics.py",
            "tests/lab/results/test_claims_of_values.py",
        ),
    },
    preload=("torch", "numpy", "scipy.linalg", "scipy.sparse.linalg", "scipy.optimize", "sympy", "flint"),
)
