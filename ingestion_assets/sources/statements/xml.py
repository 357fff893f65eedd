"""XML, read without trust: no DTD and so no entities, UTF-8, bounded depth and memory; each start tag verbatim."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.parsers import expat

from ingestion_assets.sources.statements.line import Source, Unreadable
from ingestion_assets.sources.statements.text import MOST_BYTES

CHUNK = 1 << 16  # bytes
DEEPEST = 50  # elements within one another; brokers nest four


@dataclass(frozen=True, slots=True)
class Element:
    """A start tag: its number in the document, from 1, and its text."""

    number: int
    name: str
    attributes: Mapping[str, str]
    raw: str


def elements(source: Source) -> Iterator[Element]:
    """The elements of a document, in order.

    Raises:
        Unreadable: it is no XML, or none that can be trusted.
    """
    document = _Document()
    while chunk := source.read(CHUNK):
        document.feed(chunk)
        yield from document.take()
    document.feed(b"", is_final=True)
    yield from document.take()


class _Document:
    """An expat parser that remembers the bytes of the tag it is at."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(encoding="UTF-8")  # whatever the declaration claims
        self._parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.EntityDeclHandler = self._refuse_doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        # Whatever comes after a tag tells where the tag has ended.
        for handler in (
            "CharacterDataHandler",
            "CommentHandler",
            "ProcessingInstructionHandler",
            "StartCdataSectionHandler",
        ):
            setattr(self._parser, handler, self._other)
        self._bytes = bytearray()
        self._offset = 0  # of the first of these bytes in the document
        self._open: tuple[int, str, dict[str, str]] | None = None  # where the last tag begins
        self._found: list[Element] = []
        self._depth = 0
        self._number = 0

    def feed(self, chunk: bytes, *, is_final: bool = False) -> None:
        """Parse on."""
        self._bytes += chunk
        try:
            self._parser.Parse(chunk, is_final)
        except expat.ExpatError as error:
            raise Unreadable(f"this is no XML: {error}") from error
        begin = self._parser.CurrentByteIndex if self._open is None else self._open[0]
        del self._bytes[: max(0, begin - self._offset)]
        self._offset = max(self._offset, begin)
        if len(self._bytes) > MOST_BYTES + 2 * CHUNK:
            raise Unreadable(f"there is a tag of more than {MOST_BYTES:,} bytes after byte {begin:,}")

    def take(self) -> list[Element]:
        """What was found since it was last asked."""
        found, self._found = self._found, []
        return found

    def _refuse_doctype(self, *_: object) -> None:
        raise Unreadable("it declares a document type or entities, which no broker writes")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._close()
        self._depth += 1
        if self._depth > DEEPEST:
            raise Unreadable(f"its elements are nested more than {DEEPEST} deep")
        self._open = self._parser.CurrentByteIndex, name, attributes

    def _end(self, _name: str) -> None:
        self._close()
        self._depth -= 1

    def _other(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        """The tag has ended, for something else begins."""
        if self._open is None:
            return
        begin, name, attributes = self._open
        self._open = None
        self._number += 1
        raw = bytes(self._bytes[begin - self._offset : self._parser.CurrentByteIndex - self._offset])
        self._found.append(Element(self._number, name, attributes, raw.decode()))
