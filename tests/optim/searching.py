"""How long hypothesis searches: a few examples, always the same; or SAMIRAGE_EXAMPLES=100000 of them, new each time."""

import os

from hypothesis import HealthCheck, settings


def search(examples, **options):
    """Settings for a search of so many examples, or as many as the environment variable says."""
    wanted = os.environ.get("SAMIRAGE_EXAMPLES")
    return settings(
        max_examples=int(wanted or examples),
        derandomize=wanted is None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **options,
    )
