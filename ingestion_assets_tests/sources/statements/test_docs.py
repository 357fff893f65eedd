"""docs/adding_a_dialect.md does what it says."""

import io
import re

from ingestion_assets.sources.statements.line import Line


def test_the_dialect_of_the_guide_reads_the_file_of_the_guide(project):
    """As it stands, without its optional column, and in another order and zone: the same lines each time."""
    guide = (project / "docs" / "adding_a_dialect.md").read_text(encoding="utf-8")
    (module,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (export,) = re.findall(r"```csv\n(.*?)```", guide, re.DOTALL)
    names: dict = {}
    exec(module, names)  # noqa: S102 - our own guide
    dialect = names["LAKESIDE"]

    def read(text: str) -> list[tuple]:
        assert dialect.recognises(text)
        lines = list(dialect.read(io.BytesIO(text.encode())))
        assert all(isinstance(line, Line) for line in lines)
        return [(line.at, line.key, line.account) for line in lines]

    found = read(export)
    assert [(at.isoformat(), account) for at, _, account in found] == [
        ("2025-03-03T23:30:00+00:00", "77"),
        ("2025-03-04T06:00:00+00:00", "77"),
    ]
    assert read(re.sub(r",(Balance|\"2,[\d.]+\")", "", export)) == found
    moved = (
        export.replace("+02:00", "-00:30")
        .replace("2025-03-04 01:30", "2025-03-03 23:00")
        .replace("08:00:", "05:30:")
    )
    assert read(moved) == found
