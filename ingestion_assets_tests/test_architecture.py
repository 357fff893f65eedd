"""The rules of the house: who may import whom, who reads the environment, and how large a module may be."""

import ast
from pathlib import Path

import pytest

import ingestion_assets

ROOT = Path(ingestion_assets.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

# The top: these put the parts together, and nobody below imports them.
TOP = {
    "__main__", "settings", "definitions", "instance", "cli", "terminal", "supervise", "serving", "processes", "report", "feed_report", "gomafia_report", "sources_report", "store_report",
    "statement_report", "printing",
    "backfills",
}  # fmt: skip

# What each part may import of the package, beside itself. `migrations` is a folder name and nothing else.
ALLOWED = {
    "engine": set(),
    "sandbox": set(),
    "migrations": set(),
    "orchestration": {"engine"},
    "sources": {"engine", "orchestration"},
    "api": {"engine", "sources"},  # of sources, the definitions of tables: see below
}


def name_of(path):
    """`engine.store`, relative to the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path):
    """Every module that a file imports, wherever in the file: absolute names, and each `from x import y` as x and x.y."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path):
    """What it imports of this package, relative to the package."""
    return {name.partition(".")[2] for name in imports(path) if name.startswith("ingestion_assets.")}


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_point_one_way(part):
    """From definitions → {sources, api} → orchestration → engine."""
    for path in ROOT.glob(f"{part}/**/*.py"):
        for name in ours(path):
            assert name.split(".")[0] in ALLOWED[part] | {part}, f"{name_of(path)} imports {name}"


def test_source_families_do_not_know_each_other():
    """Tables are the exception: one family may read what another has stored. What people type is checked alike in all, and settings are given alike."""
    for path in ROOT.glob("sources/**/*.py"):
        family = name_of(path).split(".")[1]
        for name in ours(path):
            _, *parts = name.split(".")
            if name.startswith("sources.") and parts[0] not in (family, "__init__", "section", "environment"):
                assert parts[1:2] == ["tables"], f"{name_of(path)} imports {name}"


def test_the_api_knows_of_sources_only_their_tables():
    """What is stored is all that it may depend on."""
    for path in ROOT.glob("api/**/*.py"):
        for name in ours(path):
            _, *parts = name.split(".")
            if name.startswith("sources."):
                assert "tables" in (parts[-1], *parts[1:2]) or parts == parts[:1], (
                    f"{name_of(path)} imports {name}"
                )


def test_the_list_of_parts_is_complete():
    """A new package or module has to be given its place here."""
    found = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in MODULES}
    assert found <= set(ALLOWED) | TOP | {"__init__"}


def test_pandas_stays_in_the_io_manager():
    """Derived assets are handed DataFrames; nobody else needs one, or pays for its import."""
    users = {
        name_of(path) for path in MODULES if any(name.split(".")[0] == "pandas" for name in imports(path))
    }
    assert users == {"orchestration.io_manager"}


@pytest.mark.parametrize("part", ["engine", "sandbox", "api"])
def test_dagster_is_not_known_below_orchestration(part):
    """The engine ingests without it."""
    for path in ROOT.glob(f"{part}/**/*.py"):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not {name for name in roots if name.startswith("dagster")}, name_of(path)


def reads_the_environment(path):
    """Whether a file speaks of os.environ or os.getenv."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    attributes = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    return bool(attributes & {"environ", "getenv"}) or {"os.environ", "os.getenv"} & set(imports(path))


def test_only_the_settings_read_the_environment():
    """Everybody else is told.

    supervise.py takes it too, to pass it on: the processes that it starts are to have it whole, with
    PATH and HOME; it looks nothing up in it.
    """
    assert {name_of(path) for path in MODULES if reads_the_environment(path)} == {"settings", "supervise"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_small_and_says_what_belongs_in_it(path):
    """A docstring, and at most 400 lines."""
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 400
