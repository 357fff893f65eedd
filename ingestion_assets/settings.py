"""What this process is told from outside: the environment, and sources.yaml. Nothing else reads either.

Whoever needs a setting is given it; the code location, the CLI and Dagster's storage begin here.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from ingestion_assets.engine import database
from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.sources.events.config import FeedConfig, FeedName
from ingestion_assets.sources.evm.config import ChainConfig, ChainName
from ingestion_assets.sources.evm.providers import KINDS_OF_PROVIDERS
from ingestion_assets.sources.gomafia.config import GomafiaConfig
from ingestion_assets.sources.section import Section
from ingestion_assets.sources.statements.config import StatementsConfig

PROJECT = Path(__file__).resolve().parent.parent


class Sources(Section):
    """sources.yaml: what is ingested."""

    chains: Mapping[ChainName, ChainConfig] = Field(default_factory=dict)
    events: Mapping[FeedName, FeedConfig] = Field(default_factory=dict)
    statements: StatementsConfig | None = None
    gomafia: GomafiaConfig | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The environment, read once."""

    home: Path  # DAGSTER_HOME
    sources_file: Path  # INGESTION_SOURCES
    database: str | None = field(
        repr=False
    )  # INGESTION_DATABASE_URL, with its password; None: the embedded server
    automate: bool  # INGESTION_AUTOMATE: sensors and schedules begin switched on
    variables: Mapping[str, str] = field(repr=False)  # where the key variables of sources.yaml are looked up
    api_token: str | None = field(
        default=None, repr=False
    )  # INGESTION_API_TOKEN: what the API wants as a bearer token

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the variables that README lists."""
        home = Path(environment.get("DAGSTER_HOME") or PROJECT / "dagster_home").resolve()
        sources = environment.get("INGESTION_SOURCES")
        return cls(
            home=home,
            sources_file=Path(sources).resolve() if sources else home / "sources.yaml",
            database=environment.get("INGESTION_DATABASE_URL") or None,
            api_token=environment.get("INGESTION_API_TOKEN") or None,
            automate=environment.get("INGESTION_AUTOMATE") == "1",
            variables=dict(environment),
        )

    def database_url(self) -> str:
        """Where Postgres is; starts the embedded one if none was named and it does not run yet."""
        return self.database or database.embedded(self.home / "data" / "postgres")

    @property
    def sources_folder(self) -> Path:
        """What relative paths in sources.yaml begin at."""
        return self.sources_file.parent

    def sources(self) -> Sources:
        """What sources.yaml says.

        Raises:
            Misconfigured: with the line, the value and what is allowed there.
        """
        return read_sources(self.sources_file)


def read_sources(path: Path) -> Sources:
    """Read and check a sources.yaml."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Misconfigured(
            f"{path} cannot be read ({error.strerror}): INGESTION_SOURCES names the file"
        ) from error
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from error
    try:
        loader = _Loader(text)
        tree = loader.get_single_node()
        content = {} if tree is None else loader.construct_document(tree)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Misconfigured(f"{path}:{line}: this is no YAML: it holds U+{error.character:04X}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise Misconfigured(f"{path}:{line}: this is no YAML: {error.problem or error.context}") from error
    _refuse_twins(path, tree, ())
    try:
        return Sources.model_validate({} if content is None else content)
    except ValidationError as error:
        details = [_without_kind(detail) for detail in error.errors()]
        found = [
            f"{path}:{_line(tree, detail['loc'])}: {_explain(detail)}"
            for detail in details
            if not _follows_from_another(detail, details)
        ]
        raise Misconfigured("\n".join(found)) from error


def _without_kind(detail: ErrorDetails) -> ErrorDetails:
    """Pydantic names the kind of a provider, or of pages, among the steps to it; the file does not."""
    match detail["loc"]:
        case ("events", str(), "pages", kind, *rest):
            detail["loc"] = (*detail["loc"][:3], *rest)
            detail["ctx"] = {**detail.get("ctx", {}), "kind": kind}
        case ("chains", str(), "providers", int(), kind, *rest):
            detail["loc"] = (*detail["loc"][:4], *rest)
            detail["ctx"] = {**detail.get("ctx", {}), "kind": kind}
    return detail


class _Loader(yaml.SafeLoader):
    """Leaves a scalar that only looks like a date or a number as text, so that the checks can say where it stands."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - as in yaml
        try:
            return super().construct_object(node, deep=deep)
        except ValueError:
            return node.value


def _refuse_twins(path: Path, node: yaml.Node | None, above: tuple[yaml.Node, ...]) -> None:
    """A key that stands twice in one mapping: YAML would silently keep the last."""
    if node in above:
        raise Misconfigured(f"{path}:{node.start_mark.line + 1}: this alias stands for what it stands in")
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise Misconfigured(
                    f"{path}:{key.start_mark.line + 1}: {key.value} stands here a second time"
                )
            seen.add(key.value)
            _refuse_twins(path, value, (*above, node))
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twins(path, item, (*above, node))


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The line that an error's location stands on: as deep as the file goes towards it."""
    line = node.start_mark.line if node is not None else 0
    for step in location:
        if isinstance(node, yaml.MappingNode):
            match = next(((key, value) for key, value in node.value if key.value == str(step)), None)
            if match is None:
                break  # what is missing is not in the file
            line, node = match[0].start_mark.line, match[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line
    return line + 1


# What pydantic calls an error -> what to write instead; everything else it says well enough.
_WANTED = {
    "bool_type": "true or false is wanted",
    "dict_type": "a mapping of keys to values is wanted",
    "model_attributes_type": "a mapping of keys to values is wanted",
    "model_type": "a mapping of keys to values is wanted",
    "tuple_type": "a list is wanted",
    "string_type": "text is wanted; put it in quotes",
    "int_type": "a whole number is wanted",
    "float_type": "a number is wanted",
    "float_parsing": "a number is wanted",
    "finite_number": "a number is wanted",
    "date_type": "a date is wanted, such as 2024-01-31",
    "date_parsing": "a date is wanted, such as 2024-01-31",
    "date_from_datetime_parsing": "a date is wanted, such as 2024-01-31",
    "date_from_datetime_inexact": "a date is wanted, such as 2024-01-31",
    "url_type": "a url is wanted, such as https://api.etherscan.io/v2/api",
    "url_parsing": "a url is wanted, such as https://api.etherscan.io/v2/api",
    "too_short": "at least one is needed",
    "union_tag_invalid": f"the kinds are {', '.join(KINDS_OF_PROVIDERS)}",
    "union_tag_not_found": f"kind is missing; the kinds are {', '.join(KINDS_OF_PROVIDERS)}",
}
_PAGES = "the kinds are cursor, offset, page"
_PARAMETER = "the name of a query parameter is wanted: letters, digits, _, . and -"
_FIELD = "the name of a field is wanted: letters, digits, _ and -"
_SHAPES = {
    "chains": "a chain's name is lower-case letters, digits, - and _",
    "events": "a feed's name is lower-case letters, digits, - and _, a letter first",
    **dict.fromkeys(("limit", "cursor", "offset", "page", "since", "until", "parameters"), _PARAMETER),
    **dict.fromkeys(("id", "type", "time", "more", "next"), _FIELD),
    "records": "the place of the records in the answer is wanted, such as data or result.items",
    "key_header": "the name of a header is wanted, such as X-API-Key",
    "addresses": "an address is 0x and 40 hexadecimal digits",
    "tokens": 'a token is 0x and 40 hexadecimal digits, or "*" for all of them',
    "name": "a provider's name is lower-case letters, digits, - and _",
}


def _follows_from_another(detail: ErrorDetails, details: Sequence[ErrorDetails]) -> bool:
    """A list whose only item is bad is also called too short."""
    depth = len(detail["loc"])
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > depth and other["loc"][:depth] == detail["loc"] for other in details
    )


def _explain(detail: ErrorDetails) -> str:
    steps = [step for step in detail["loc"] if step != "[key]"]
    where = ".".join(str(step) for step in steps) or "the file"
    if detail["type"] == "extra_forbidden":
        return f"{where} is not known here; allowed: {', '.join(_allowed(steps[:-1], detail.get('ctx', {})))}"
    if detail["type"] == "missing":
        return f"{where} is missing"
    if detail["type"] == "combination":
        return f"{where}: {detail['msg']}"
    if detail["type"].startswith("union_tag") and "pages" in steps:
        wanted = _PAGES
    elif detail["type"] == "string_pattern_mismatch":
        wanted = next(_SHAPES[str(step)] for step in reversed(steps) if step in _SHAPES)
    else:
        said = detail["msg"].removeprefix("Input ").replace("should be", "must be")
        wanted = _WANTED.get(detail["type"], said)
    if "providers" in steps and steps[-1] in ("url", "name") and isinstance(detail["input"], str):
        # people paste keys there
        return f"{where}: {wanted}"
    is_provider = "providers" in steps and isinstance(detail["input"], Mapping)
    return f"{where}: {wanted} (found {'a mapping' if is_provider else _shorten(detail['input'])})"


def _allowed(location: Sequence[int | str], context: Mapping[str, Any]) -> list[str]:
    """The keys that the mapping at this location may hold; of a provider, those of its kind."""
    model: Any = Sources.model_json_schema()
    definitions = model.get("$defs", {})
    for step in location:
        model = _resolve(model, definitions)
        if isinstance(step, int):
            model = model["items"]
        elif step in model.get("properties", {}):
            model = model["properties"][step]
        else:  # a mapping whose keys are names
            model = next(iter(model["patternProperties"].values()))
    if "discriminator" in model:
        model = {"$ref": model["discriminator"]["mapping"][context["kind"]]}
    return sorted(_resolve(model, definitions)["properties"])


def _resolve(model: Any, definitions: Mapping[str, Any]) -> Any:
    if "anyOf" in model:  # a section that may be left out
        model = model["anyOf"][0]
    return definitions[model["$ref"].rsplit("/", 1)[1]] if "$ref" in model else model


def _shorten(value: object) -> str:
    text = "nothing" if value is None else re.sub(r"\s+", " ", repr(value))
    return text if len(text) <= 60 else text[:57] + "…"  # noqa: PLR2004
