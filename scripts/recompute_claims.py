"""Write the claims, the readings and the digests of a run anew, from its cells and with the code at hand.

For when a claim, or the code that computes it, has been corrected: nothing is trained. What changes is printed, so that
it can be looked at before it is committed.

Usage: recompute_claims.py RUN
"""

import argparse
from pathlib import Path

from samirage.lab.results.store import RunFolder
from samirage.lab.sweep.verify import recompute, verify


def main(arguments: list[str] | None = None) -> None:
    """Recompute all studies of a run.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run folder")
    folder = RunFolder(parser.parse_args(arguments).run)
    for study in folder.studies():
        for difference in verify(folder, study).differences:
            print(difference)
        found = recompute(folder, study)
        folder.write_claims(study, found.claims)
        folder.write_reading(study, found.reading)
        folder.write_digests(study, found.digests)


if __name__ == "__main__":
    main()
