"""What an explorer may answer, and what is concluded from it."""

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from ingestion_assets.engine.errors import (
    IngestionError,
    Misconfigured,
    NotFound,
    QuotaExhausted,
    RateLimited,
    SchemaDrift,
    TooMuch,
    Transient,
    Unauthorized,
    Unsupported,
)
from ingestion_assets.engine.http import Client, Secrets
from ingestion_assets.sources.evm.provider import Header
from ingestion_assets.sources.evm.providers.blockscout import Blockscout
from ingestion_assets.sources.evm.providers.cronos import Cronos
from ingestion_assets.sources.evm.providers.etherscan import Etherscan
from ingestion_assets.sources.evm.providers.routescan import Routescan
from ingestion_assets.sources.evm.records import INTERNAL_TRANSACTIONS
from ingestion_assets.sources.evm.records import TOKEN_TRANSFERS as TOKENTX

KEY = "SECRETKEY7"
ME = "0x" + "a1" * 20
MIDNIGHT = datetime(2024, 1, 2, tzinfo=UTC)
RECORD = {
    "blockNumber": "5", "timeStamp": "1704067200", "hash": "0x" + "0f" * 32, "from": ME, "to": ME,
    "contractAddress": ME, "value": "5", "tokenSymbol": "USD", "tokenDecimal": "6",
}  # fmt: skip
EMPTY = {"status": "0", "message": "No transactions found", "result": []}


class Notes:
    """A budget that notes what it is told."""

    def __init__(self):
        self.requests, self.pauses, self.shrunk = 0, [], []

    most = None

    @contextmanager
    def request(self, permits=1):
        """Never waits."""
        self.requests += permits
        yield

    def pause(self, seconds):
        """We were too fast."""
        self.pauses.append(seconds)

    def shrink(self, requests):
        """Fewer are allowed."""
        self.shrunk.append(requests)


class Fake:
    """An explorer that gives one answer three times, and then a right one."""

    def __init__(
        self, answer, then=EMPTY, *, status=200, kind="application/json", attempts=4, wrong=3, made=Etherscan
    ):
        self.budget = Notes()
        self.slept, self.asked = [], []
        self._answers = [(status, kind, answer)] * wrong + [(200, "application/json", then)] * 9
        client = Client(
            "http://explorer.test/v2/api",
            secrets=Secrets(query={"apikey": KEY}),
            budget=self.budget,
            attempts=attempts,
            sleep=self.slept.append,
            transport=httpx.MockTransport(self._answer),
        )
        number = {"chain_id": 8453} if made in {Etherscan, Routescan} else {}
        self.explorer = made(client, name="it", chain="base", **number)

    def _answer(self, request):
        status, kind, body = self._answers[len(self.asked)]
        self.asked.append(dict(request.url.params))
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.Response(status, content=content, headers={"content-type": kind})

    def page(self):
        """Ask for some records."""
        return self.explorer.page(TOKENTX, ME, 0, 9)


BLOCK = {"number": "0x5", "timestamp": "0x65920080", "hash": "0x" + "A5" * 32, "parentHash": "0x" + "a4" * 32}
QUESTIONS = {
    "records": Fake.page,
    "head": lambda fake: fake.explorer.head(),
    "header": lambda fake: fake.explorer.header(5),
    "tag": lambda fake: fake.explorer.tagged("finalized"),
    "block by time": lambda fake: fake.explorer.block_before(MIDNIGHT),
}
RIGHT = {
    "records": EMPTY,
    "head": {"jsonrpc": "2.0", "id": 1, "result": "0x10"},
    "header": {"jsonrpc": "2.0", "id": 1, "result": BLOCK},
    "tag": {"jsonrpc": "2.0", "id": 1, "result": BLOCK},
    "block by time": {"status": "1", "message": "OK", "result": "16"},
}

# What the explorer says -> what it means, whether asking again is of use.
SENTENCES = [
    ("Max rate limit reached, please use API Key for higher rate limit", RateLimited, True),
    ("Max calls per sec rate limit reached (3/sec)", RateLimited, True),
    ("Max daily rate limit reached. 110000 (100%) of 100000 day/limit", QuotaExhausted, False),
    ("Invalid API Key (#err2)|SECRETKEY7", Unauthorized, False),
    ("Missing/Invalid API Key", Unauthorized, False),
    ("Too many invalid api key attempts, please try again later", Unauthorized, False),
    ("Missing or unsupported chainid parameter (required for v2 api), please see …", Misconfigured, False),
    ("Free API access is not supported for this chain. Please upgrade your api plan", Unsupported, False),
    ("Free API access is temporarily unavailable due to unusually high network activity", Transient, True),
    ("Result window is too large, PageNo x Offset size must be less than or equal to 10000", TooMuch, False),
    ("Query Timeout occured. Please select a smaller result dataset", TooMuch, False),
    ("Error! Invalid address format", Misconfigured, False),
    ("Error! Missing Or invalid Action name", Misconfigured, False),
    ("Error! Block number already pass", Misconfigured, False),
    ("You are using a deprecated V1 endpoint, switch to Etherscan API V2.", Misconfigured, False),
    ("Something nobody has ever heard of", Transient, True),
]


# What only one of the others says, or means in its own way.
OF_OTHERS = [
    (Routescan, {"status": "0", "message": "NOTOK", "result": "Error! Invalid chain"}, Unsupported),
    (Routescan, {"status": "0", "message": "chain not supported", "result": None}, Unsupported),
    (Blockscout, {"status": "0", "message": "Result window is too large, PageNo x Offset size must be less than or equal to 10000", "result": None}, TooMuch),
    (Blockscout, {"status": "0", "message": "Invalid address hash", "result": None}, Misconfigured),
    (Blockscout, {"status": "0", "message": "Invalid address format", "result": None}, Misconfigured),
    (Blockscout, {"status": "0", "message": "Query parameter 'address' is required", "result": None}, Misconfigured),
    (Blockscout, {"status": "0", "message": "Unknown action", "result": None}, Misconfigured),
    (Blockscout, {"status": "0", "message": "Unknown module", "result": None}, Misconfigured),
    (Blockscout, {"status": "0", "message": "Too Many Requests", "result": None}, RateLimited),
    (Blockscout, {"status": "1", "message": "OK", "result": []}, Transient),
    (Etherscan, {"status": "1", "message": "OK", "result": []}, Transient),
    (Etherscan, {"status": "0", "message": "Error! Invalid chain", "result": None}, Misconfigured),
    (Cronos, {"status": "0", "message": "Invalid address hash", "result": None}, Misconfigured),
    (Cronos, {"status": "0", "message": "NOTOK", "result": "Invalid API Key"}, Unauthorized),
]  # fmt: skip


@pytest.mark.parametrize(("made", "said", "error"), OF_OTHERS, ids=str)
def test_the_sentences_of_other_dialects_have_one_meaning_too(made, said, error):
    """The same tree of errors."""
    with pytest.raises(error) as caught:
        Fake(said, attempts=1, made=made).page()
    assert type(caught.value) is error


@pytest.mark.parametrize("made", [Etherscan, Routescan, Cronos, Blockscout])
@pytest.mark.parametrize("text", [
    "No transactions found", "No internal transactions found", "No token transfers found", "No records found",
    "No blocks found", "No logs found",
])  # fmt: skip
def test_what_is_called_empty_is_empty(made, text):
    """In the words of any of them."""
    page = Fake({"status": "0", "message": text, "result": []}, made=made).page()
    assert (page.size, page.is_last, page.doubt) == (0, True, None)


@pytest.mark.parametrize("result", [[], None])
def test_a_range_that_is_not_indexed_yet_is_never_an_empty_one(result):
    """It is the explorer's own doubt."""
    text = "Some internal transactions within this block range have not yet been processed"
    fake = Fake({"status": "2", "message": text, "result": result}, made=Blockscout)
    page = fake.explorer.page(INTERNAL_TRANSACTIONS, ME, 0, 9)
    assert (page.size, page.is_last) == (0, True)
    assert text in page.doubt


def test_a_cronos_explorer_may_say_its_head_as_a_node_or_in_its_envelope():
    """Unverified, so both are understood; and no other."""
    for said in ({"jsonrpc": "2.0", "id": 1, "result": "0x10"}, {"status": "1", "message": "OK", "result": "0x10"},
                 {"status": "1", "message": "OK", "result": "16"}):  # fmt: skip
        assert Fake(said, made=Cronos).explorer.head() == 16
    with pytest.raises(IngestionError):
        Fake({"status": "0", "message": "NOTOK", "result": "16"}, made=Cronos, attempts=1).explorer.head()


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("echo", ["", f" (apikey={KEY})"], ids=["plain", "key echoed"])
@pytest.mark.parametrize("where", ["result", "message"])
@pytest.mark.parametrize("sentence", SENTENCES, ids=[text[:28] for text, *_ in SENTENCES])
def test_every_sentence_of_the_explorer_has_one_meaning(sentence, where, echo, question):
    """Wherever it stands and whatever was asked; what is worth it is asked again, and no key comes back out."""
    text, error, again = sentence
    said = {"status": "0", "message": "NOTOK", "result": text + echo}
    if where == "message":
        said = {"status": "0", "message": text + echo, "result": None}
    patient = Fake(said, RIGHT[question])
    if again:
        QUESTIONS[question](patient)
        assert len(patient.asked) == 4
        assert len(patient.slept) == 3
    hasty = Fake(said, attempts=1)
    with pytest.raises(error) as caught:
        QUESTIONS[question](hasty if again else patient)
    assert type(caught.value) is error
    assert len(hasty.asked if again else patient.asked) == 1
    assert text.replace(KEY, "***")[:20] in str(caught.value)
    assert KEY not in str(caught.value)
    assert "explorer.test" in str(caught.value)


# Bodies that are no envelope with records or a sentence.
NO_ANSWERS = [
    (b"<html><title>Just a moment...</title>SECRETKEY7</html>", 200, "text/html", Transient),
    (b"<html>SECRETKEY7</html>", 403, "text/html", Transient),
    (b"<html>SECRETKEY7</html>", 502, "text/html", Transient),
    (b"", 500, "text/plain", Transient),
    (b"", 503, "text/plain", Transient),
    (b"", 429, "text/plain", RateLimited),
    (b"", 200, "application/json", Transient),
    (b'{"status":"1","message":"SECRETKEY7","result":"', 200, "application/json", Transient),
    (b'{"status":"1", "apikey=SECRETKEY7', 200, "application/json", Transient),
    (b"\xff\xfe SECRETKEY7", 200, "application/json", Transient),
    (b'{"status":"1","result":"0x1"}{}', 200, "application/json", Transient),
    (b"", 401, "application/json", Unauthorized),
    (b"", 403, "application/json", Unauthorized),
    (b"", 404, "text/html", NotFound),
    (b"[]", 200, "application/json", SchemaDrift),
    (b"5", 200, "application/json", SchemaDrift),
    (b"null", 200, "application/json", SchemaDrift),
    (b'"SECRETKEY7"', 200, "application/json", SchemaDrift),
    (b'{"status":1,"message":"OK","result":[]}', 200, "application/json", SchemaDrift),
    (b'{"status":"1","message":5,"result":[]}', 200, "application/json", SchemaDrift),
    (b'{"status":"1","message":"OK","result":{"SECRETKEY7":5}}', 200, "application/json", SchemaDrift),
    (b'{"status":"1","message":"OK","result":5}', 200, "application/json", SchemaDrift),
    (b'{"status":"1","message":"OK","result":' + b"[" * 9_999 + b"]" * 9_999 + b"}", 200, "", SchemaDrift),
]


@pytest.mark.parametrize(("body", "status", "kind", "error"), NO_ANSWERS)
@pytest.mark.parametrize("question", ["records", "head", "block by time"])
def test_what_is_no_answer_is_asked_again_or_shown_to_a_person(body, status, kind, error, question):
    """A gateway's page and a cut answer pass; another shape does not. None is ever an empty success."""
    again = issubclass(error, Transient)
    fake = Fake(body, RIGHT[question], status=status, kind=kind)
    if again:
        QUESTIONS[question](fake)
        assert len(fake.asked) == 4
        fake = Fake(body, status=status, kind=kind, attempts=1)
    with pytest.raises(error) as caught:
        QUESTIONS[question](fake)
    assert type(caught.value) is error
    assert len(fake.asked) == 1
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("said", [
    {"status": "1", "message": "OK", "result": ""},
    {"status": "1", "message": "OK", "result": None},
    {"status": "1", "message": "OK", "result": []},
    {"status": "1", "message": "OK"},
    {"status": "0", "message": "NOTOK", "result": []},
    {"status": "0", "message": "", "result": []},
    {"status": "0", "message": "NOTOK", "result": ""},
    {"status": "0", "message": "NOTOK", "result": None},
    {"status": "0", "message": "No transactions found", "result": None},
    {"status": "0", "message": "No transactions found", "result": ""},
    {"status": "2", "message": "Some internal transactions have not yet been processed", "result": []},
    {"status": "2", "message": "Some internal transactions have not yet been processed", "result": [RECORD]},
    {"status": "0", "message": "NOTOK", "result": [RECORD]},
], ids=json.dumps)  # fmt: skip
def test_nothing_is_empty_but_what_the_explorer_calls_empty(said):
    """A blank, a null, a list without a word, an index that is still being built: asked again."""
    fake = Fake(said)
    assert fake.page().size == 0
    assert len(fake.asked) == 4
    with pytest.raises(Transient):
        Fake(said, attempts=1).page()


@pytest.mark.parametrize("word", [
    "No transactions found", "No records found", "No token transfers found", "No blocks found",
    "No internal transactions found",
])  # fmt: skip
def test_what_the_explorer_calls_empty_is_empty(word):
    """In each of its words, and at once."""
    fake = Fake({"status": "0", "message": word, "result": []})
    page = fake.page()
    assert (page.size, page.is_last, len(fake.asked)) == (0, True, 1)


@pytest.mark.parametrize(("result", "error"), [
    (None, Transient), ("", Transient), ("latest", SchemaDrift), ("16", SchemaDrift), ("0x", SchemaDrift),
    ("0x-1", SchemaDrift), ("0x" + "f" * 99, SchemaDrift), ({"number": "0x1", "timestamp": "0x1"}, SchemaDrift),
    (["0x1"], SchemaDrift), (KEY, SchemaDrift),
], ids=repr)  # fmt: skip
def test_a_head_is_a_number_or_an_error(result, error):
    """Never zero by mistake: a chain that seems empty would be covered."""
    with pytest.raises(error) as caught:
        Fake({"jsonrpc": "2.0", "id": 1, "result": result}, attempts=1).explorer.head()
    assert type(caught.value) is error
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("result", [
    "", "0x5", BLOCK | {"number": None}, {"number": "0x5"}, BLOCK | {"number": 5}, BLOCK | {"timestamp": ""},
    BLOCK | {"timestamp": "now"}, BLOCK | {"timestamp": "0xffffffffffffff"}, BLOCK | {"number": "0x6"},
    BLOCK | {"hash": ""}, BLOCK | {"hash": None}, BLOCK | {"hash": "0x12"}, BLOCK | {"parentHash": "0x"},
], ids=repr)  # fmt: skip
def test_a_header_that_does_not_identify_its_block_is_an_error(result):
    """One of ours, with words."""
    with pytest.raises(IngestionError, match="explorer"):
        Fake({"jsonrpc": "2.0", "id": 1, "result": result}, attempts=1, wrong=9).explorer.header(5)


def test_a_header_is_the_block_in_our_terms():
    """Hashes in lower case, time in UTC."""
    header = Fake(RIGHT["header"], wrong=1).explorer.header(5)
    assert header == Header(5, "0x" + "a5" * 32, "0x" + "a4" * 32, datetime(2024, 1, 1, tzinfo=UTC))


def test_a_block_that_is_not_there_has_no_header():
    """Null is the node's word for that."""
    assert Fake({"jsonrpc": "2.0", "id": 1, "result": None}).explorer.header(5) is None


def test_a_tag_that_the_node_does_not_know_is_answered_with_what_to_do():
    """Give the chain a depth."""
    with pytest.raises(Unsupported, match=r"finality of \{depth"):
        Fake({"jsonrpc": "2.0", "id": 1, "result": None}).explorer.tagged("finalized")


def test_an_error_of_the_node_is_asked_again():
    """It comes as JSON-RPC and not in the envelope; the key it echoes is masked."""
    said = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": f"busy {KEY}"}}
    assert Fake(said, RIGHT["head"]).explorer.head() == 16
    with pytest.raises(Transient, match=r"its node says .*busy \*\*\*"):
        Fake(said, attempts=1).explorer.head()


@pytest.mark.parametrize(("result", "block"), [
    ("16", 16), ("0", 0), ("Error! No closest block found", None),
])  # fmt: skip
def test_the_block_before_a_time_is_a_number_or_none(result, block):
    """None: the chain begins later."""
    status = "1" if result.isdecimal() else "0"
    said = {"status": status, "message": "OK", "result": result}
    assert Fake(said).explorer.block_before(MIDNIGHT) == block


def test_a_time_beyond_the_head_is_before_the_head():
    """The explorer refuses a future time; its newest block is the answer."""
    said = {"status": "0", "message": "NOTOK", "result": "Error! Block timestamp too far in the future"}
    fake = Fake(said, RIGHT["head"], wrong=1)
    assert fake.explorer.block_before(MIDNIGHT) == 16


@pytest.mark.parametrize(
    "result", ["", None, "-1", "1.5", "0x10", "٣", "9" * 5_000, [], ["16"]], ids=lambda r: repr(r)[:9]
)
def test_a_block_before_a_time_that_is_no_number_is_asked_again(result):
    """A blank is not block 0."""
    with pytest.raises(Transient):
        Fake({"status": "1", "message": "OK", "result": result}, attempts=1).explorer.block_before(MIDNIGHT)


def test_being_too_fast_makes_all_processes_wait():
    """And the number it names shrinks the budget that they share."""
    fake = Fake({"status": "0", "message": "NOTOK", "result": "Max calls per sec rate limit reached (3/sec)"})
    fake.page()
    assert (fake.budget.pauses, fake.budget.shrunk) == ([1.0] * 3, [3] * 3)
    assert fake.slept == [1.0] * 3
    assert fake.budget.requests == 4


def test_a_limit_without_a_number_only_waits():
    """There is nothing to learn from it."""
    fake = Fake({"status": "0", "message": "NOTOK", "result": "Max rate limit reached"}, wrong=1)
    fake.page()
    assert (fake.budget.pauses, fake.budget.shrunk) == ([1.0], [])


def test_a_used_up_day_names_its_end():
    """The next midnight in UTC, in the error and in its words."""
    fake = Fake({"status": "0", "message": "NOTOK", "result": "Max daily rate limit reached"})
    with pytest.raises(QuotaExhausted, match=r"full again at \d{4}-\d\d-\d\d 00:00 UTC") as caught:
        fake.page()
    now = datetime.now(UTC)
    assert now < caught.value.until <= now + timedelta(days=1)


@pytest.mark.parametrize(
    "symbol", [rb"\ud83d", rb"\ude00", rb"a\ud83db", rb"\ud83d\ud83d", rb"\ude00\ud83d", rb"\ud83d\u0000"]
)
@pytest.mark.parametrize("place", [b'"tokenSymbol": "USD"', b'"tokenName": "x"'])
def test_half_a_character_in_a_token_name_does_not_cost_its_record(symbol, place):
    """Names are cut by explorers in the middle of an emoji; strict JSON has no word for that."""
    record = json.dumps(RECORD | {"tokenName": "x"}).encode()
    field, _, _ = place.partition(b": ")
    spoiled = record.replace(place, field + b': "' + symbol + b'"')
    assert spoiled != record
    page = Fake(b'{"status":"1","message":"OK","result":[' + spoiled + b"]}").page()
    assert (len(page.good), page.bad) == (1, [])
    page.rows(TOKENTX).lines.decode()


def test_a_question_names_chain_range_page_and_order():
    """And the key, only on the wire."""
    fake = Fake(EMPTY)
    fake.explorer.page(TOKENTX, ME, 3, 9, page=2, newest_first=True)
    assert fake.asked == [{
        "chainid": "8453", "module": "account", "action": "tokentx", "address": ME, "startblock": "3",
        "endblock": "9", "page": "2", "offset": "1000", "sort": "desc", "apikey": KEY,
    }]  # fmt: skip
