"""Proving. Belongs here: making proofs one after another, so that one that cannot be made stops no other.

A proof is a stream that compares what is committed with something else: it is drained without reading ahead.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ingestion_assets.engine.budget import PATIENCE
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import DatabaseUnavailable, IngestionError, Transient
from ingestion_assets.engine.store import Store
from ingestion_assets.engine.stream import Batch, Covered, Stream, Tally, Unproved, name_of

log = logging.getLogger(__name__)


class Proof(Stream, Protocol):
    """A stream whose marks raise the evidence of what is stored, or take it back."""

    @property
    def findings(self) -> Sequence[str]:
        """What was noticed while it was read and is no contradiction of what is stored, a sentence each."""
        ...


@dataclass(frozen=True, slots=True)
class Proved:
    """What proofs have shown. `contradictions` are taken out of the coverage; `failed` proofs could not be made."""

    mended_rows: int
    contradictions: Sequence[str]
    findings: Sequence[str]
    failed: Sequence[str]
    stopped: bool


def prove(
    proofs: Sequence[Proof],
    store: Store,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    attempts: int = 4,
    sleep: Callable[[float], None] = time.sleep,
) -> Proved:
    """Make these proofs.

    Args:
        proofs: in this order.
        store: where their marks go.
        should_stop: asked between batches.
        attempts: of one proof whose providers fail in passing; each goes on where the last one ended.
        sleep: how to wait between attempts, seconds.

    Raises:
        DatabaseUnavailable: nothing can be proved without it.
    """
    seen = _Seen()
    failed: list[str] = []
    for proof in proofs:
        for left in reversed(range(attempts)):
            if should_stop():
                break
            try:
                drained = drain([proof], store, read_ahead=0, should_stop=should_stop, on_commit=seen)
            except DatabaseUnavailable:
                raise
            except IngestionError as error:
                wait = (error.retry_after or 1.0) if isinstance(error, Transient) else None
                if left and wait is not None and wait <= PATIENCE:
                    log.warning("%s: %s; the proof goes on in %.0f s", name_of(proof), error, wait)
                    _wait(wait, sleep, should_stop)
                    continue
                failed.append(f"{name_of(proof)}: {error}")
            else:
                failed += [f"{stream}: {error}" for stream, error in drained.failed.items()]
            break
    findings = [finding for proof in proofs for finding in proof.findings]
    return Proved(seen.written, seen.contradictions(), findings, failed, should_stop())


def _wait(seconds: float, sleep: Callable[[float], None], should_stop: Callable[[], bool]) -> None:
    while seconds > 0 and not should_stop():
        sleep(min(1.0, seconds))
        seconds -= 1.0


class _Seen:
    """What was committed, also by a proof that failed later."""

    def __init__(self) -> None:
        self.written = 0
        self._gaps: dict[tuple[str, int, int], str] = {}

    def __call__(self, stream: Stream, batch: Batch, tally: Tally) -> None:
        self.written += tally.inserted
        mark = batch.mark
        for key in batch.keys or stream.keys:
            if isinstance(mark, Unproved):
                self._gaps[key, mark.lo, mark.hi] = mark.reason
            elif isinstance(mark, Covered):
                for gap in [
                    gap for gap in self._gaps if gap[0] == key and mark.lo <= gap[1] and gap[2] <= mark.hi
                ]:
                    del self._gaps[gap]

    def contradictions(self) -> list[str]:
        return [f"{stream}: {reason}" for (stream, _, _), reason in self._gaps.items()]
