"""The examples run with the real libraries, quietly, in each precision; the pages about them quote what is there."""

import re
import runpy
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUNS = [
    ("lightning", "32-true", 150, 0.9),
    ("lightning", "bf16-mixed", 150, 0.9),
    ("accelerate", "no", 150, 0.9),
    ("accelerate", "bf16", 150, 0.9),
    ("transformers", "no", 60, 0.6),
    ("transformers", "bf16", 60, 0.6),
]


@pytest.mark.parametrize(("trainer", "precision", "steps", "accuracy"), RUNS)
def test_example_trains_quietly_and_leaves_nothing_behind(
    trainer, precision, steps, accuracy, tmp_path, monkeypatch, capfd
):
    pytest.importorskip(trainer.replace("lightning", "pytorch_lightning"))
    if trainer != "lightning":
        pytest.importorskip("accelerate").state.AcceleratorState._reset_state(True)  # one process has one precision
    script = ROOT / "examples" / f"{trainer}_mnist.py"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script.name, "--precision", precision, "--steps", str(steps)])
    runpy.run_path(str(script), run_name="__main__")
    seen = capfd.readouterr()
    match = re.fullmatch(
        r"test accuracy (0\.\d{3})\nstep (\d+): radius (\d\.\d{4}), shift ratio (\d\.\d{3})\n", seen.out
    )
    assert match, seen.out
    assert seen.err == ""
    assert float(match[1]) >= accuracy
    assert int(match[2]) == steps - 1
    assert float(match[3]) == 0.05
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("trainer", ["lightning", "accelerate", "transformers"])
def test_page_quotes_the_example(trainer):
    page = (ROOT / "docs" / f"howto-{trainer}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    script = (ROOT / "examples" / f"{trainer}_mnist.py").read_text(encoding="utf-8")
    lines = [line.strip() for line in script.splitlines() if line.strip()]
    quoted = 0
    for block in blocks:
        wanted = [line.strip() for line in textwrap.dedent(block).splitlines() if line.strip()]
        starts = range(len(lines) - len(wanted) + 1)
        quoted += any(lines[i : i + len(wanted)] == wanted for i in starts)
    assert quoted == 2  # the others are run by tests/trainers
    assert len(page.splitlines()) <= 60
    assert f"examples/{trainer}_mnist.py" in page
