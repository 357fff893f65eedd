"""When to believe that a shape has changed: not after one look. A half page, or one from another release, looks the same."""

import logging
from collections.abc import Callable
from typing import TypeVar

from ingestion_assets.engine.errors import ProtocolError, SchemaDrift

T = TypeVar("T")

DOUBTS = 3  # readings of a page before we believe that it is another one now

log = logging.getLogger(__name__)


def believed(ask: Callable[[], T]) -> T:
    """The answer. One that breaks the rules is asked for again before we believe that they have changed."""
    for doubt in range(1, DOUBTS + 1):
        try:
            return ask()
        except (SchemaDrift, ProtocolError) as error:
            if doubt == DOUBTS:
                raise
            log.info("asking again: %s", error)
    raise AssertionError("the loop ends with an answer or an error")
