"""Reading a block again: what every provider shows of it now, and how a reading takes the place of what is stored."""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from ingestion_assets.engine.errors import IngestionError, TooMuch
from ingestion_assets.engine.stream import Batch, Covered, Evidence
from ingestion_assets.sources.evm import ledger
from ingestion_assets.sources.evm.provider import ALL, Provider, Question, Reading
from ingestion_assets.sources.evm.streams import History


def readings(history: History, subjects: tuple[str, ...], block: int) -> Iterator[tuple[Provider, Reading]]:
    """One block as each able provider shows it now, nodes first; those in doubt about it, or that fail, are left out."""
    chain = history.chain
    for provider in chain.providers.able(history.kind.name, rank=lambda one: one.at_once is not None):
        one_by_one = [(subject,) for subject in subjects] if provider.at_once == 1 else [subjects]
        try:
            parts = [
                reading
                for some in one_by_one
                for reading in history.ask(provider, Question(history.kind, some, block, block))
            ]
        except TooMuch:
            continue  # it cannot say
        except IngestionError as error:
            chain.providers.failed(provider, history.kind.name, error)
            continue
        chain.providers.succeeded(provider)
        if all(reading.doubt is None for reading in parts):
            yield provider, ledger.merged(parts)


def replacing(
    subjects: tuple[str, ...], replaced: Sequence[tuple[History, Reading]], evidence: Evidence
) -> Batch:
    """Readings of the same blocks that take the place of what is stored of them, all in one batch.

    Args:
        subjects: whom the readings are about.
        replaced: a reading for each kind of records.
        evidence: why they are believed; what was believed of these blocks before says nothing any more.
    """
    (history, reading), *_ = replaced
    return Batch(
        Covered(reading.lo, reading.hi, evidence, anew=True),
        tuple(one.page.rows(of.kind) for of, one in replaced),
        tuple(letter for _, one in replaced for letter in one.page.rejected()),
        tuple(of.key_of(subject) for of, _ in replaced for subject in subjects),
        tuple(_stored(of, subjects, one) for of, one in replaced),
        history.chain.forks.requires(),
    )


def _stored(history: History, subjects: tuple[str, ...], reading: Reading) -> sa.Delete:
    kind, columns = history.kind, history.kind.table.c
    gone = sa.delete(kind.table).where(
        columns.chain == history.chain.name, columns.block_number.between(reading.lo, reading.hi)
    )
    if ALL in subjects:
        return gone
    names = [columns[name] for name in kind.subject_columns]
    return gone.where(sa.or_(*(name.in_(list(subjects)) for name in names)))


def source_of(by: str) -> str:
    """Who gave the records, of those by whose word a range is believed."""
    return by.partition("+")[0]


def together(by: str, other: str) -> str:
    """By whose word a range is believed when another one confirms it: who gave the records comes first."""
    source = source_of(by)
    return source if source == other else f"{source}+{other}"
