"""What this process is told from outside: the environment, and sources.yaml. Nothing else reads either.

Whoever needs a setting is given it; the code location, the CLI and Dagster's storage begin here.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from ingestion_assets.engine import database
from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.sources.evm.config import ChainConfig, ChainName, Section

PROJECT = Path(__file__).resolve().parent.parent


class Sources(Section):
    """sources.yaml: what is ingested."""

    chains: Mapping[ChainName, ChainConfig] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """The environment, read once."""

    home: Path  # DAGSTER_HOME
    sources_file: Path  # INGESTION_SOURCES
    database: str | None  # INGESTION_DATABASE_URL; None: the embedded server
    automate: bool  # INGESTION_AUTOMATE: sensors and schedules begin switched on
    variables: Mapping[str, str] = field(repr=False)  # where the key variables of sources.yaml are looked up

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the variables that README lists."""
        home = Path(environment.get("DAGSTER_HOME") or PROJECT / "dagster_home").resolve()
        sources = environment.get("INGESTION_SOURCES")
        return cls(
            home=home,
            sources_file=Path(sources).resolve() if sources else home / "sources.yaml",
            database=environment.get("INGESTION_DATABASE_URL") or None,
            automate=environment.get("INGESTION_AUTOMATE") == "1",
            variables=environment,
        )

    def database_url(self) -> str:
        """Where Postgres is; starts the embedded one if none was named and it does not run yet."""
        return self.database or database.embedded(self.home / "data" / "postgres")

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
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise Misconfigured(f"{path}{line}: this is no YAML: {getattr(error, 'problem', error)}") from error
    _refuse_twins(path, tree)
    try:
        return Sources.model_validate({} if content is None else content)
    except ValidationError as error:
        found = [f"{path}:{_line(tree, detail['loc'])}: {_explain(detail)}" for detail in error.errors()]
        raise Misconfigured("\n".join(found)) from error


def _refuse_twins(path: Path, node: yaml.Node | None) -> None:
    """A key that stands twice in one mapping: YAML would silently keep the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise Misconfigured(
                    f"{path}:{key.start_mark.line + 1}: {key.value} stands here a second time"
                )
            seen.add(key.value)
            _refuse_twins(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twins(path, item)


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The line that an error's location stands on: as deep as the file goes towards it."""
    line = node.start_mark.line if node is not None else 0
    for step in location:
        if isinstance(node, yaml.MappingNode):
            match = next(((key, value) for key, value in node.value if key.value == str(step)), None)
            if match is None:
                continue  # pydantic names the alternatives of a union too, and these are not in the file
            line, node = match[0].start_mark.line, match[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line
    return line + 1


_HINTS = {
    "string_pattern_mismatch": "an address is 0x and 40 hexadecimal digits; a chain's name is lower-case letters, digits, - and _",
    "too_long": "one provider for each chain is supported so far",
}


def _explain(detail: ErrorDetails) -> str:
    where = ".".join(str(step) for step in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{where} is not known here; allowed: {', '.join(_allowed(detail['loc'][:-1]))}"
    value = _shorten(detail["input"])
    hint = _HINTS.get(detail["type"])
    return f"{where}: {detail['msg']} (found {value})" + (f"; {hint}" if hint else "")


def _allowed(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the mapping at this location may hold."""
    model: Any = Sources.model_json_schema()
    definitions = model.get("$defs", {})
    for step in location:
        model = _resolve(model, definitions)
        if isinstance(step, int):
            model = model.get("items", {})
        elif step in model.get("properties", {}):
            model = model["properties"][step]
        elif "anyOf" in model:
            model = next((m for m in model["anyOf"] if m.get("$ref", "").endswith("/" + step)), model)
        else:
            values = model.get("additionalProperties") or next(
                iter(model.get("patternProperties", {}).values()), model
            )
            model = values if isinstance(values, dict) else model
    return sorted(_resolve(model, definitions).get("properties", {}))


def _resolve(model: Any, definitions: Mapping[str, Any]) -> Any:
    return definitions[model["$ref"].rsplit("/", 1)[1]] if "$ref" in model else model


def _shorten(value: object) -> str:
    text = re.sub(r"\s+", " ", repr(value))
    return text if len(text) <= 60 else text[:57] + "…"  # noqa: PLR2004
