"""What sources.yaml and the environment may say, and what is answered to those who mistype it."""

from datetime import date
from pathlib import Path

import pytest

from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.settings import Settings, read_sources
from ingestion_assets.sources.evm.chains import Chains
from ingestion_assets.sources.evm.config import Depth, Tag

RIGHT = """\
chains:
  base:
    chain_id: 8453
    start: 2024-01-01
    finality: {depth: 2}
    providers:
      - {kind: etherscan, url: "http://explorer.test/v2/api", requests_per_second: 3}
    addresses: ["0x99280375AF9cd5ce049e5db8559fc0a334509a08"]
"""
ADDRESS = '"0x99280375AF9cd5ce049e5db8559fc0a334509a08"'

# What a reader of a message should not have to know: the names of our classes, and the words of the library that checks.
JARGON = (
    "Tag",
    "Depth",
    "Sources",
    "EtherscanProvider",
    "[key]",
    "Input",
    "valid",
    "instance",
    "Tuple",
    "dict",
    "{{",
)


@pytest.fixture
def said(tmp_path):
    """The message that a sources.yaml gets, without its path."""

    def ask(text):
        path = tmp_path / "sources.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(Misconfigured) as caught:
            read_sources(path)
        message = str(caught.value)
        assert all(line.startswith(str(path)) for line in message.splitlines()), message
        return message.replace(str(path), "")

    return ask


def test_a_key_that_was_pasted_where_it_does_not_belong_is_not_repeated(said):
    """People paste urls with their key, and keys as names."""
    for typed in ('url: "htp://node.test/SECRETKEY"', 'name: "SECRETKEY", url: "https://node.test"'):
        message = said(RIGHT.replace("{kind", f"{{{typed}, kind: rpc}}\n      - {{kind", 1))
        assert "providers.0" in message
        assert "SECRETKEY" not in message


@pytest.mark.parametrize(
    ("chain_id", "finality"),
    [(1, Tag(tag="finalized")), (137, Depth(depth=500)), (8453, Tag(tag="finalized"))],
)
def test_final_is_the_nodes_word_unless_the_chains_nodes_have_been_wrong(tmp_path, chain_id, finality):
    """What is typed counts all the same."""
    path = tmp_path / "sources.yaml"
    path.write_text(RIGHT.replace("8453", str(chain_id)).replace("    finality: {depth: 2}\n", ""))
    assert read_sources(path).chains["base"].finality == finality
    path.write_text(RIGHT.replace("8453", str(chain_id)))
    assert read_sources(path).chains["base"].finality == Depth(depth=2)


def test_what_is_right_is_read(tmp_path):
    """Addresses in lower case, everything else as typed or by default."""
    path = tmp_path / "sources.yaml"
    path.write_text(RIGHT)
    chain = read_sources(path).chains["base"]
    assert (chain.chain_id, chain.start, chain.finality) == (8453, date(2024, 1, 1), Depth(depth=2))
    assert chain.addresses == ("0x99280375af9cd5ce049e5db8559fc0a334509a08",)
    assert (chain.providers[0].page_size, chain.providers[0].requests_per_second) == (1_000, 3)


def test_finality_is_a_tag_unless_told(tmp_path):
    """The node's own word is the default; a safe tag and a quoted date will do too."""
    path = tmp_path / "sources.yaml"
    path.write_text(RIGHT.replace("    finality: {depth: 2}\n", "").replace("2024-01-01", '"2024-01-01"'))
    assert read_sources(path).chains["base"].finality == Tag(tag="finalized")
    path.write_text(RIGHT.replace("{depth: 2}", "{tag: safe}"))
    assert read_sources(path).chains["base"].finality == Tag(tag="safe")


def test_an_address_that_stands_twice_is_watched_once(tmp_path):
    """Also when it is written in other letters."""
    path = tmp_path / "sources.yaml"
    path.write_text(RIGHT.replace(ADDRESS, f"{ADDRESS}, {ADDRESS.lower()}"))
    assert len(read_sources(path).chains["base"].addresses) == 1


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}", "chains: {}", "\ufeffchains: {}"])
def test_an_empty_file_watches_nothing(tmp_path, text):
    """It is no mistake: the code location loads."""
    (tmp_path / "sources.yaml").write_text(text)
    assert read_sources(tmp_path / "sources.yaml").chains == {}


@pytest.mark.parametrize(("typed", "instead", "line", "words"), [
    # keys that nobody knows, at every level
    ("chains:", "chain:", 1, ["chain is not known here; allowed: chains"]),
    ("addresses:", "adresses:", 8, ["chains.base.adresses is not known", "addresses, chain_id, finality"]),
    ("kind: etherscan,", "kind: etherscan, colour: red,", 7, ["providers.0.colour is not known", "page_size"]),
    ("{depth: 2}", "{depht: 2}", 5, ["chains.base.finality: allowed are {tag: finalized}", "{'depht': 2}"]),
    # what is missing
    ("    chain_id: 8453\n", "", 2, ["chains.base.chain_id is missing"]),
    ("kind: etherscan, ", "", 7, ["chains.base.providers.0: kind is missing; the kinds are etherscan, blockscout"]),
    ("[" + ADDRESS + "]", "", 8, ["chains.base.addresses: a list is wanted (found nothing)"]),
    # wrong types and values
    ("8453", "one", 3, ["chains.base.chain_id: a whole number is wanted (found 'one')"]),
    ("8453", "yes", 3, ["chains.base.chain_id: a whole number is wanted (found True)"]),
    ("8453", "1.5", 3, ["chains.base.chain_id: a whole number is wanted (found 1.5)"]),
    ("8453", "-1", 3, ["chains.base.chain_id: must be greater than 0 (found -1)"]),
    ("8453", "[1]", 3, ["chains.base.chain_id: a whole number is wanted (found [1])"]),
    ("2024-01-01", "soon", 4, ["chains.base.start: a date is wanted, such as 2024-01-31 (found 'soon')"]),
    ("2024-01-01", "2024-13-01", 4, ["chains.base.start: a date is wanted", "'2024-13-01'"]),
    ("2024-01-01", "2024-02-30", 4, ["chains.base.start: a date is wanted", "'2024-02-30'"]),
    ("2024-01-01", "2024-01-01 10:00", 4, ["chains.base.start: a date is wanted"]),
    ("{depth: 2}", "{depth: -1}", 5, ["{tag: safe} and {depth: N}, N blocks of 0 or more", "{'depth': -1}"]),
    ("{depth: 2}", "{tag: final}", 5, ["{tag: safe} and {depth: N}", "{'tag': 'final'}"]),
    ("{depth: 2}", "{tag: safe, depth: 2}", 5, ["{tag: safe} and {depth: N}"]),
    ("{depth: 2}", "finalized", 5, ["{tag: safe} and {depth: N}", "'finalized'"]),
    ("requests_per_second: 3", "requests_per_second: -3", 7, ["must be greater than 0 (found -3)"]),
    ("requests_per_second: 3", "requests_per_second: 0", 7, ["must be greater than 0 (found 0)"]),
    ("requests_per_second: 3", "requests_per_second: fast", 7, ["a number is wanted (found 'fast')"]),
    ("requests_per_second: 3", "requests_per_second: .nan", 7, ["requests_per_second"]),
    ("requests_per_second: 3", "timeout_seconds: .inf", 7, ["timeout_seconds"]),
    ("requests_per_second: 3", "page_size: 1", 7, ["must be greater than or equal to 2 (found 1)"]),
    ("requests_per_second: 3", "attempts: 0", 7, ["must be greater than or equal to 1 (found 0)"]),
    ("http://explorer.test", "ftp://explorer.test", 7, ["'http' or 'https'"]),
    ('"http://explorer.test/v2/api"', "explorer", 7, ["a url is wanted, such as https://"]),
    ('"http://explorer.test/v2/api"', "5", 7, ["a url is wanted, such as https://", "(found 5)"]),
    # providers
    ("kind: etherscan", "kind: blockscoot", 7, ["providers.0: the kinds are etherscan, blockscout, routescan, cronos, rpc"]),
    ("kind: etherscan,", "kind: rpc, page_size: 5,", 7, ["providers.0.page_size is not known", "max_batch"]),
    ("requests_per_second: 3", "key_env: 5", 7, ["providers.0.key_env: a list is wanted (found 5)"]),
    ("requests_per_second: 3", "key_env: [5]", 7, ["providers.0.key_env.0: text is wanted; put it in quotes"]),
    ("requests_per_second: 3", "name: Mine", 7, ["a provider's name is lower-case letters, digits, - and _"]),
    # what goes together
    ("    addresses:", "    tokens: ['0x1']\n    addresses:", 8, ["tokens.0: a token is 0x and 40 hexadecimal digits, or"]),
    ("    addresses:", "    tokens: ['*']\n    addresses:", 2, ["chains.base: whole tokens are read from logs: add a provider"]),
    ("    addresses:", "    proofs: [size]\n    addresses:", 8, ["must be 'nonce', 'balance' or 'counted' (found 'size')"]),
    ("    addresses:", "    proofs: [counted]\n    addresses:", 2, ["chains.base: counted asks a second system"]),
    ("    addresses:", "    proofs: [balance]\n    addresses:", 2, ["nonce and balance ask a node: add a provider of kind rpc"]),
    ("    addresses:", "    follow_head: 1\n    addresses:", 8, ["chains.base.follow_head: true or false is wanted (found 1)"]),
    ('- {kind: etherscan, url: "http://explorer.test/v2/api", requests_per_second: 3}', "[]", 6, ["at least one"]),
    ("- {kind", "- etherscan\n      - {kind", 7, ["providers.0: a mapping of keys to values is wanted (found 'etherscan')"]),
    # addresses
    ("0x9928", "0x992", 8, ["chains.base.addresses.0: an address is 0x and 40 hexadecimal digits", "0x99203"]),
    ("0x9928", "0x992g", 8, ["an address is 0x and 40 hexadecimal digits"]),
    ("0x9928", "9928", 8, ["an address is 0x and 40 hexadecimal digits"]),
    ('a08"', 'a08\\n"', 8, ["an address is 0x and 40 hexadecimal digits"]),
    (ADDRESS, ADDRESS.strip('"'), 8, ["addresses.0: text is wanted; put it in quotes"]),
    ("[" + ADDRESS + "]", ADDRESS, 8, ["chains.base.addresses: a list is wanted"]),
    # names of chains
    ("  base:", "  Base:", 2, ["chains.Base: a chain's name is lower-case letters, digits, - and _"]),
    ("  base:", "  base|x:", 2, ["a chain's name is lower-case letters"]),
    ("  base:", "  1:", 2, ["chains.1: text is wanted; put it in quotes"]),
    # twice the same
    ("    start: 2024-01-01\n", "    start: 2024-01-01\n    start: 2024-01-02\n", 5, ["start stands here a second"]),
    ("kind: etherscan,", "kind: etherscan, kind: etherscan,", 7, ["kind stands here a second time"]),
])  # fmt: skip
def test_a_mistake_is_answered_with_its_line_and_what_is_allowed(said, typed, instead, line, words):
    """Where, what was found, what is allowed: in words of the file, not of our code."""
    assert typed in RIGHT
    message = said(RIGHT.replace(typed, instead, 1))
    for word in words:
        assert word in message
    assert message.startswith(f":{line}: ")
    assert not [word for word in JARGON if word in message.replace("found '" + instead, "")], message


def test_a_mistake_in_one_item_is_one_message(said):
    """The list around it is not also called too short."""
    assert len(said(RIGHT.replace("kind: etherscan", "kind: node")).splitlines()) == 1


def test_a_chain_may_have_the_name_of_a_section(said):
    """Its mistakes are told like those of any other."""
    message = said(RIGHT.replace("  base:", "  providers:").replace("{kind", "{colour: red, kind"))
    assert message.startswith(":7: chains.providers.providers.0.colour is not known here; allowed: ")


def test_all_mistakes_are_listed_at_once(said):
    """Each with its own line."""
    message = said(RIGHT.replace("8453", "x").replace("2024-01-01", "y"))
    assert [line.split(": ")[1] for line in message.splitlines()] == [
        "chains.base.chain_id",
        "chains.base.start",
    ]


@pytest.mark.parametrize(("text", "line", "word"), [
    ("chains: [", 1, "no YAML"),
    ("chains:\n\tbase: 1", 2, "no YAML"),
    ("chains: {}\nchains: {}\n", 2, "chains stands here a second time"),
    ("a: b\nc: d: e\n", 2, "no YAML"),
    ("chains: {}\n\x07", 2, "it holds U+0007"),
    ("--- {}\n--- {}\n", 2, "no YAML"),
    ("? [a]\n: 1\n", 1, "unhashable"),
    ("chains: &a [*a]", 1, "this alias stands for what it stands in"),
    ("chains: *missing", 1, "undefined alias"),
    ("chains: !!python/object:os.system {}", 1, "no YAML"),
    ("[]", 1, "the file: a mapping of keys to values is wanted (found [])"),
    ("chains", 1, "the file: a mapping of keys to values is wanted"),
    ("chains:", 1, "chains: a mapping of keys to values is wanted (found nothing)"),
    ("chains: {base: }", 1, "chains.base: a mapping of keys to values is wanted (found nothing)"),
])  # fmt: skip
def test_what_is_no_yaml_or_no_mapping_is_said_with_its_line(said, text, line, word):
    """And never as an exception of the library that reads it."""
    message = said(text)
    assert message.startswith(f":{line}: ")
    assert word in message


def test_a_file_in_another_encoding_is_refused(said):
    """With the byte where it stops being UTF-8."""
    assert said(b"chains: {} # caf\xe9\n") == " is no UTF-8 text: invalid continuation byte at byte 16"


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_names_the_variable(tmp_path, name):
    """A file that is not there, and a folder."""
    with pytest.raises(Misconfigured, match=r"cannot be read .*INGESTION_SOURCES"):
        read_sources(tmp_path / name)


def test_a_long_value_is_cut(said):
    """A message stays readable whatever was found."""
    assert len(said(RIGHT.replace("8453", "x" * 5_000))) < 200


def test_the_environment_has_defaults(project):
    """Nothing set: the project's own folder, the embedded database, sensors switched off."""
    settings = Settings.from_environment({})
    assert settings.home == project / "dagster_home"
    assert settings.sources_file == project / "dagster_home" / "sources.yaml"
    assert (settings.database, settings.automate) == (None, False)
    assert settings.sources().chains  # what is shipped is right


def test_the_environment_is_obeyed(tmp_path):
    """Variables that are set but empty count as not set."""
    settings = Settings.from_environment(
        {
            "DAGSTER_HOME": str(tmp_path),
            "INGESTION_SOURCES": "",
            "INGESTION_DATABASE_URL": "postgresql://host/name",
            "INGESTION_AUTOMATE": "1",
        }
    )
    assert settings.sources_file == tmp_path / "sources.yaml"
    assert settings.database_url() == "postgresql://host/name"
    assert settings.automate
    named = Settings.from_environment({"INGESTION_SOURCES": "other.yaml"})
    assert named.sources_file == Path("other.yaml").resolve()


def test_secrets_are_not_shown():
    """Neither the keys nor the password of the database."""
    settings = Settings.from_environment(
        {
            "ETHERSCAN_API_KEY": "hush1",
            "INGESTION_DATABASE_URL": "postgresql://me:hush2@host/name",
        }
    )
    assert "hush" not in repr(settings)
    assert "hush" not in str(settings)


@pytest.mark.parametrize("variables", [{}, {"SCAN_KEY": ""}])
def test_a_key_that_is_not_set_is_named(tmp_path, variables):
    """By its variable and its chain, before anything is asked."""
    path = tmp_path / "sources.yaml"
    path.write_text(RIGHT.replace("requests_per_second: 3", "key_env: SCAN_KEY"))
    chains = Chains(read_sources(path).chains, variables, store=None)
    with pytest.raises(Misconfigured, match=r"chains\.base: the variable SCAN_KEY.*is not set"):
        chains.chain("base")


def test_a_key_that_was_pasted_into_the_file_is_not_repeated(said):
    """Neither as the name of a variable, nor in the url of a provider whose kind is wrong."""
    secret = "abcDEF123secret"  # noqa: S105 - it is the point
    for pasted in (f'kind: etherscan, key_env: "{secret}",', f'kind: alchemy, name: "{secret}",'):
        assert secret not in said(RIGHT.replace("kind: etherscan,", pasted, 1))
