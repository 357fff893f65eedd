"""How many blocks the next question for logs may span, learnt from refusals and kept for all runs.

Every provider has a limit of its own, on blocks, on logs, on bytes or on time, and few say so before they are asked.
So we ask for `first` blocks, believe what a refusal says of its reason where that makes sense, halve where it says
nothing, and double again when answers are small. To make it forget: `DELETE FROM ops.log_ranges WHERE provider = …`.
"""

import threading

from ingestion_assets.engine.errors import TooMuch
from ingestion_assets.engine.store import Store
from ingestion_assets.sources.evm.node.refusals import refusal

FIRST = 2_000  # blocks; what most providers allow
PATIENCE = 3  # answers before a larger question is tried
WANTED = 20_000  # logs in one answer that we hold in memory gladly
REMEMBERED = 1_000  # refused ranges, so many that none is forgotten before it is read in parts


class LogRanges:
    """The size of questions for logs at one provider of one chain. Threads share it, processes share what it learns.

    Several questions may be under way: refusals and acceptances come in any order. A range that was refused is never
    asked again, nor one that holds it, and a question that was refused is followed by a smaller one from its first
    block. Doubling too early costs a refusal, so after each such mistake twice as many answers are awaited: the number
    of refusals grows with the logarithm of the chain's length.

    Args:
        store: keeps what is learnt, in `ops.log_ranges`.
        chain: its name.
        provider: its name.
        question: the class of question: a node allows more of one token than of all.
        first: blocks of the first question that was ever asked.
        wanted: logs in one answer that are enough.
    """

    def __init__(
        self,
        store: Store,
        chain: str,
        provider: str,
        question: str,
        *,
        first: int = FIRST,
        wanted: int = WANTED,
    ) -> None:
        self._store = store
        self._key = (chain, provider, question)
        self._wanted = wanted
        self._lock = threading.Lock()
        self._is_loaded = False
        self._blocks = first  # to ask for next
        self._stored = 0  # blocks that the next process would begin with
        self._most_blocks: int | None = None
        self._most_logs: int | None = None
        self._refused: dict[int, int] = {}  # first block -> last block, of the smallest that begins there
        self._small = 0  # answers in a row that left room for twice the size
        self._patience = PATIENCE
        self._is_trial = False  # the size has been doubled, and not again since

    def next(self, lo: int, hi: int) -> int:
        """The last block of the next question, which begins with `lo` and may not pass `hi`."""
        with self._lock:
            self._load()
            smaller = [refused - 1 for first, refused in self._refused.items() if lo <= first]
            return min([hi, lo + self._blocks - 1, *smaller])

    def accepted(self, lo: int, hi: int, logs: int) -> None:
        """The blocks `lo`..`hi` were answered, with so many logs."""
        size = hi - lo + 1
        with self._lock:
            self._load()
            if size == self._blocks and self._is_news():
                self._save()  # only what has held: the next process begins with it
            if logs > self._wanted and size <= self._blocks:
                self._resize(max(1, size * self._wanted // logs))
            elif size == self._blocks:
                room = min(self._wanted, self._most_logs or self._wanted)
                self._small = self._small + 1 if 2 * logs < room else 0
                self._grow()

    def refused(self, lo: int, hi: int, code: int, message: str, data: object = None) -> None:
        """The blocks `lo`..`hi` were refused for their size, in these words.

        Raises:
            TooMuch: one block alone is refused; its logs must be had in another way.
        """
        size = hi - lo + 1
        if size == 1:
            raise TooMuch(f"{self._key[1]} refuses the logs of block {lo} alone (error {code})")
        said = refusal(message, data)
        with self._lock:
            self._load()
            self._remember(lo, hi)
            if said.blocks is not None:
                # The limit itself was refused: then it counts the distance, or is to be kept below.
                limit = said.blocks - 1 if said.blocks == size else said.blocks
                self._most_blocks = min(self._most_blocks or limit, limit)
            if said.logs is not None:
                self._most_logs = min(self._most_logs or said.logs, said.logs)
            if size <= self._blocks:  # else a question that was under way while another one taught us
                if self._is_trial:
                    self._patience *= 2
                self._resize(_smaller(size, said.fits(lo, hi), self._most_blocks))
            self._save()

    def _remember(self, lo: int, hi: int) -> None:
        if len(self._refused) >= REMEMBERED:
            del self._refused[next(iter(self._refused))]
        self._refused[lo] = min(hi, self._refused.get(lo, hi))

    def _grow(self) -> None:
        if self._small < self._patience or self._blocks == self._most_blocks:
            return
        if self._is_trial:  # the last doubling was no mistake
            self._patience = PATIENCE
        self._resize(min(2 * self._blocks, self._most_blocks or 2 * self._blocks))
        self._is_trial = True

    def _resize(self, blocks: int) -> None:
        self._blocks = blocks
        self._small = 0
        self._is_trial = False

    def _is_news(self) -> bool:
        if self._blocks == self._most_blocks:
            return self._blocks != self._stored
        return not self._stored < 2 * self._blocks < 4 * self._stored

    def _load(self) -> None:
        if self._is_loaded:
            return
        row = self._store.transaction(lambda c: c.execute(_KNOWN, self._key).fetchone())
        if row is not None:
            self._blocks, self._most_blocks, self._most_logs = row
            self._stored = self._blocks
        self._is_loaded = True

    def _save(self) -> None:
        """Keep the size, and the smaller of our limits and those that other processes have learnt meanwhile."""
        values = (*self._key, self._blocks, self._most_blocks, self._most_logs)
        row = self._store.transaction(lambda c: c.execute(_LEARNT, values).fetchone())
        if row is not None:
            self._most_blocks, self._most_logs = row
        self._blocks = min(self._blocks, self._most_blocks or self._blocks)
        self._stored = self._blocks


def _smaller(size: int, hint: int | None, limit: int | None) -> int:
    """What to ask for after so many blocks were refused: what the provider said if it is less, else half."""
    said = [blocks for blocks in (hint, limit) if blocks is not None and 0 < blocks < size]
    return min(said, default=size // 2)


_KNOWN = "SELECT blocks, most_blocks, most_logs FROM ops.log_ranges WHERE chain = %s AND provider = %s AND filter = %s"
_LEARNT = """
    INSERT INTO ops.log_ranges AS known (chain, provider, filter, blocks, most_blocks, most_logs)
    VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (chain, provider, filter) DO UPDATE SET blocks = excluded.blocks,
        most_blocks = least(known.most_blocks, excluded.most_blocks),
        most_logs = least(known.most_logs, excluded.most_logs), updated_at = now()
    RETURNING most_blocks, most_logs"""
