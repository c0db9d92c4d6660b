"""What did not come out: the claims that fail, and those that cannot be compared."""

from pages.stored import FOLDER, expected, finished, measured, section, table
from samirage.lab.results.claims import Claim, Verdict


def _with(verdict: Verdict) -> dict[str, list[Claim]]:
    found = {study: [one for one in FOLDER.claims(study) if one.verdict is verdict] for study in finished()}
    return {study: claims for study, claims in found.items() if claims}


def fails_block() -> list[str]:
    """Return the claims that fail, study by study."""
    failing = _with(Verdict.FAILS)
    n, of = sum(map(len, failing.values())), sum(len(FOLDER.claims(study)) for study in finished())
    lines = [f"{n} of {of} claims fail, in {len(failing)} of {len(finished())} studies."]
    for study, claims in failing.items():
        rows = [[one.statement, expected(one), measured(one), str(one.n)] for one in claims]
        lines += ["", f"**[{section(study).title}](results.md#{study})**", ""]
        lines += table(["claim", "expected", "measured", "n"], rows)
    return lines


def not_comparable_block() -> list[str]:
    """Return the claims that these runs cannot decide, with the reason."""
    found = _with(Verdict.NOT_COMPARABLE)
    if not found:
        return ["There is none among the stored results."]
    return [
        f"- [{section(study).title}](results.md#{study}): {one.statement}: {one.reason or 'nothing was measured'}"
        for study, claims in found.items()
        for one in claims
    ]


def runs_block() -> list[str]:
    """Return how small the runs are on which all of this rests."""
    rows = []
    for study in finished():
        manifest = FOLDER.manifest(study)
        config = manifest["config"]
        images = f"{config['images']:,} of {config['data']}" if config.get("images") else "–"
        rows.append([
            f"[{study}](results.md#{study})",
            str(config.get("scale", "–")),
            images,
            str(config.get("steps", "–")),
            str(len(manifest["seeds"])) if manifest["seeds"] else "–",
            manifest["started"][:10],
            manifest["versions"]["torch"],
            f"`{manifest['command']}`",
        ])  # fmt: skip
    return table(["study", "scale", "training images", "steps", "seeds", "date", "torch", "command"], rows)
