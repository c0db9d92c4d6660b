"""Methods have one home: every label, every recipe, and the names that stored results use."""

import subprocess
import sys

import pytest

from samirage.lab.engine.ensemble import Recipe
from samirage.lab.engine.recipe import PIECES, recipe_parts
from samirage.lab.methods import COLOURS, METHODS, method_named
from samirage.lab.studies import alternatives, guard, wells
from samirage.lab.tasks import cifar
from samirage.sam import Decay, Guard, WarmStart


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_train(name: str) -> None:
    recipe = Recipe(steps=100, lr=0.1, rho=1.0, **recipe_parts(name, steps=100))
    assert set(METHODS[name].pieces) <= set(PIECES)
    assert (recipe.guard is not None) == any("guard" in piece for piece in METHODS[name].pieces)


def test_a_method_is_made_of_the_pieces_of_its_name() -> None:
    parts = recipe_parts("guard+switch+decay", steps=200, switch_fraction=0.25, kappa=0.5)
    assert parts == {
        "guard": Guard(kappa=0.5),
        "warm_start": WarmStart(fraction=0.25, total_steps=200),
        "schedule": Decay(total_steps=200),
    }
    assert recipe_parts("kappa0.9", steps=200, kappa=0.5)["guard"] == Guard(kappa=0.9)  # its own goes first


def test_the_studies_train_methods_of_the_table() -> None:
    assert {*guard.METHODS, *alternatives.METHODS, *wells.METHODS, *cifar.METHODS} <= set(METHODS)


def test_labels_tell_methods_apart() -> None:
    labels = [method.label for method in METHODS.values()]
    assert len(set(labels)) == len(labels)
    drawn = [(m.colour, m.marker, m.dashes) for m in METHODS.values() if m.colour]
    assert len(set(drawn)) == len(drawn)
    assert {colour for colour, _, _ in drawn} == {light for light, _ in COLOURS.values()}


@pytest.mark.parametrize("name", ["jump", "jump+switch", "search+switch", "of 2031"])
def test_methods_that_nothing_trains_any_more_still_have_a_label(name: str) -> None:
    assert method_named(name).label


def test_the_table_needs_no_torch() -> None:
    code = "import sys, samirage.lab.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
