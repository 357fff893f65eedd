"""How long the slow property tests look: `make drills` has them look four times as long."""

import os

from hypothesis import settings

EFFORT = int(os.environ.get("TEST_EFFORT", "1"))


def examples(most: int) -> settings:
    """At most so many examples, times the effort."""
    return settings(max_examples=most * EFFORT)
