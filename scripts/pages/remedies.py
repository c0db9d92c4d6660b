"""The README's block on study `mnist`, and those of the page on the guard."""

from pages.stored import FOLDER, claims_list, origin
from samirage.lab.methods import method_named
from samirage.report.numbers import percent, with_error
from samirage.report.plots.remedies import setting_label
from samirage.report.runs import load_runs
from samirage.report.sections import alternatives, guard, wells
from samirage.report.tables import method_table


def mnist_block() -> list[str]:
    """Return the README's paragraph and table about study `mnist`."""
    manifest = FOLDER.manifest("mnist")
    config = manifest["config"]
    rows = {(row.method, row.rho): row for row in method_table(load_runs(FOLDER, "mnist"))}
    sgd = rows["sgd", 0.0]
    lines = [
        f"{sgd.n} seeds each, {config['images']:,} training images, full batch, {config['steps']} steps, learning rate "
        f"{config['lr']:g}, loss {config['loss']}; {manifest['hardware']['processor']}, torch "
        f"{manifest['versions']['torch']}. Plain gradient descent: {percent(sgd.accuracy.mean)} ± "
        f"{100 * sgd.accuracy.standard_error:.1f} test accuracy. {manifest['started'][:10]}: `{manifest['command']}`.",
        "",
        "| rho | SAM only: accuracy (%) | at hallucinated points | switch: accuracy (%) | at hallucinated points |",
        "|---|---|---|---|---|",
    ]
    for rho in config["rhos"]:
        cells = [f"{rho:g}"]
        for method in ("sam", "switch"):
            row = rows[method, float(rho)]
            cells.append(f"{100 * row.accuracy.mean:.1f} ± {100 * row.accuracy.standard_error:.1f}")
            cells.append(f"{row.hallucinated.k} of {row.n}")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", "Claims held against this run:", "", *claims_list(FOLDER.claims("mnist"))]


def guard_block() -> list[str]:
    """Return the remedies, each at its worst radius in every setting, and the claims."""
    runs = guard.load(FOLDER, "guard")
    lines = [
        guard.headline(runs)[0],
        "",
        "| mean test accuracy (%) at the worst radius | " + " | ".join(setting_label(s) for s in runs) + " |",
        "|---" * (len(runs) + 1) + "|",
    ]
    tables = [guard.table(setting, cells) for setting, cells in runs.items()]
    for method in tables[0].rows:
        cells = []
        for one in tables:
            row = min((row for row in one.rows[method] if row is not None), key=lambda row: row.accuracy.mean)
            where = f" at {row.rho:g}" if row.rho else ""
            cells.append(with_error(row.accuracy.mean, row.accuracy.standard_error, scale=100) + where)
        lines.append(f"| {method_named(method).label} | {' | '.join(cells)} |")
    return [*lines, "", f"({origin('guard')})", "", *claims_list(FOLDER.claims("guard"))]


def alternatives_block() -> list[str]:
    """Return the ranking of the alternatives."""
    lines = [
        "| method | accuracy (%) in its worst setting | worst setting | mean over settings | at hallucinated points | "
        "gradients per step |",
        "|---|---|---|---|---|---|",
    ]
    for rank in alternatives.ranking(guard.load(FOLDER, "alternatives")):
        accuracy = with_error(rank.worst.mean, rank.worst.standard_error, scale=100)
        lines.append(
            f"| {rank.label} | {accuracy} | {rank.where} | {100 * rank.mean:.1f} | {rank.hit} of {rank.n} | "
            f"{rank.gradients:.2f} |"
        )
    return [*lines, "", f"({origin('alternatives')})"]


def wells_block() -> list[str]:
    """Return where the runs in the double well end."""
    cells = {name: FOLDER.read_cell("wells", name) for name in FOLDER.finished("wells")}
    return [wells.describe(cells), "", f"({origin('wells')})"]
