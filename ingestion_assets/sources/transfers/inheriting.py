"""The coverage of the store: what is covered of the raw transfers, but for what has changed since they were merged.

The stream `transfers/erc20_transfers/base/0x…` has the ranges of `evm/erc20_transfers/base/0x…`, with their evidence and by whose word,
without the blocks that are noted as changed and those below the floor. It is made anew as a whole, by one statement that
sees one moment, so it does not matter what happened in between, nor how often.

What is taken out are not single blocks, but spans from the first to the last one that is noted in days that lie close together. A
thousand accounts have a range each, and would have a thousand where a thousand blocks are taken out of it.
"""

from ingestion_assets.engine.store import Connection

APART = 31  # days between two notes from which on what lies between them stays covered


def inherit(connection: Connection, chain: str) -> None:
    """Bring the coverage of a chain's store up to date. The chain's lock is held."""
    connection.execute(_INHERIT, {"chain": chain})


def is_outdated(connection: Connection, chain: str) -> bool:
    """Whether `inherit` would change anything: coverage of blocks without transfers, and better evidence, come without a note."""
    found = connection.execute(_OUTDATED, {"chain": chain}).fetchone()
    return found is not None and found[0]


# A stream's name is family/kind/chain/subject.
_OF_CHAIN = (
    "split_part(stream, '/', 1) = '{family}' AND split_part(stream, '/', 3) = %(chain)s"
    " AND split_part(stream, '/', 2) IN ('token_transfers', 'erc20_transfers')"
)
_RIGHT = f"""
    islands AS (
        SELECT lower(blocks) AS lo, upper(blocks) AS hi,
               count(*) FILTER (WHERE begins) OVER (ORDER BY day, id) AS island
        FROM (SELECT id, day, blocks, day - lag(day) OVER (ORDER BY day, id) >= {APART} AS begins
              FROM ops.transfer_changes WHERE chain = %(chain)s) AS notes),
    dirty AS (
        SELECT coalesce(range_agg(span), '{{}}') AS blocks
        FROM (SELECT int8range(min(lo), max(hi)) AS span FROM islands GROUP BY island
              UNION ALL
              SELECT int8range(NULL, block) FROM ops.transfer_floors WHERE chain = %(chain)s) AS spans),
    right_now AS MATERIALIZED (
        SELECT 'transfers/' || split_part(stream, '/', 2) || '/' || %(chain)s || '/' || split_part(stream, '/', 4) AS stream,
               lower(whole) AS lo, upper(whole) - 1 AS hi, evidence, provider,
               CASE WHEN (lower(whole), upper(whole) - 1) = (lo, hi) THEN records ELSE 0 END AS records
        FROM ops.coverage, dirty, unnest(int8multirange(int8range(lo, hi, '[]')) - dirty.blocks) AS whole
        WHERE {_OF_CHAIN.format(family="evm")}),
    ours AS MATERIALIZED (
        SELECT stream, lo, hi, evidence, provider, records FROM ops.coverage WHERE {_OF_CHAIN.format(family="transfers")})"""
_INHERIT = f"""
    WITH {_RIGHT}, gone AS (
        DELETE FROM ops.coverage WHERE (stream, lo) IN (
            SELECT stream, lo FROM (SELECT * FROM ours EXCEPT SELECT * FROM right_now) AS wrong)
        RETURNING 1)
    INSERT INTO ops.coverage (stream, lo, hi, evidence, provider, records)
    SELECT * FROM (SELECT * FROM right_now EXCEPT SELECT * FROM ours) AS new
    WHERE (SELECT count(*) FROM gone) >= 0  -- what is in the way goes first"""
_OUTDATED = f"""
    WITH {_RIGHT}
    SELECT EXISTS (SELECT * FROM right_now EXCEPT SELECT * FROM ours)
        OR EXISTS (SELECT * FROM ours EXCEPT SELECT * FROM right_now)"""
