"""JSON-RPC as nodes speak it, which is not always as it is written down."""

import json

import httpx
import pytest

from ingestion_assets.engine.budget import SharedBudget
from ingestion_assets.engine.errors import RateLimited, TooMuch, Transient, Unauthorized, Unsupported
from ingestion_assets.engine.http import Client
from ingestion_assets.sources.evm.node.refusals import Reverted
from ingestion_assets.sources.evm.node.wire import Call, Refused, Wire

CALLS = [Call("square", (number,)) for number in range(10)]
SQUARES = [str(number**2).encode() for number in range(10)]


def item(call, **instead):
    """A good answer, or another one."""
    return {"jsonrpc": "2.0", "id": call["id"], **(instead or {"result": call["params"][0] ** 2})}


class Server:
    """Answers each request with `answer(calls)`, which gives an object or a list; remembers how many calls came."""

    def __init__(self, answer, status=200):
        self.sizes, self._answer, self._status = [], answer, status

    def __call__(self, request):
        """As httpx.MockTransport wants it."""
        asked = json.loads(request.content)
        calls = asked if isinstance(asked, list) else [asked]
        self.sizes.append(len(calls))
        body = self._answer(calls)
        if isinstance(body, httpx.Response):
            return body
        single = isinstance(asked, dict) and isinstance(body, list)
        return httpx.Response(self._status, json=body[0] if single else body)


def wire(server, *, budget=None, **options):
    """Asks it, without waiting."""
    client = Client(
        "http://node.test",
        transport=httpx.MockTransport(server),
        sleep=lambda _: None,
        errors_in_body=True,
        budget=budget,
    )
    return Wire(client, **options)


def results(server, **options):
    """Of ten calls."""
    return [bytes(answer) for answer in wire(server, **options).results(CALLS)]


def test_answers_may_come_in_any_order_and_with_ids_as_text():
    """The standard allows the first; some gateways do the second."""
    server = Server(lambda calls: [{**item(call), "id": str(call["id"])} for call in reversed(calls)])
    assert results(server, max_batch=4) == SQUARES
    assert server.sizes == [4, 4, 2]


def test_what_is_missing_is_asked_for_again_and_nothing_else():
    """Each answer lacks its last item."""
    server = Server(lambda calls: [item(call) for call in calls[: max(1, len(calls) - 1)]])
    assert results(server) == SQUARES
    assert server.sizes == [10, 1]


def test_an_answer_to_a_question_that_was_not_asked_is_left_alone():
    """An id of somebody else, one twice, and none at all."""
    server = Server(
        lambda calls: [item({"id": 77, "params": [1]}), *map(item, calls), item(calls[0], result=-1)]
    )
    assert results(server, max_batch=5) == SQUARES


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize(
    ("code", "message"),
    [
        (-32600, "batch item count exceeded limit: maximum allowed is 3"),
        (-32005, "Number of requests exceeds max batch size"),
        (-32000, "no batch for you"),
        (-32600, "Batch requests are not supported"),
    ],
)
def test_a_refused_batch_is_halved_and_the_size_is_remembered(code, message, as_list):
    """One error object instead of the list, or the only item of it."""

    def answer(calls):
        if len(calls) > 3:
            refusal = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
            return [refusal] if as_list else refusal
        return [item(call) for call in calls]

    server = Server(answer)
    asking = wire(server)
    assert list(map(bytes, asking.results(CALLS))) == SQUARES
    assert server.sizes == [10, 5, 2, 2, 2, 2, 2]
    asking.results(CALLS)
    assert server.sizes[7:] == [2] * 5


def test_a_batch_that_is_more_than_its_budget_now_allows_is_halved(store):
    """The node was shrunk to two calls a window by somebody else, after the size was chosen."""
    budget = SharedBudget(store, "node", 32, 0.05)
    server = Server(lambda calls: [item(call) for call in calls])
    asking = wire(server, budget=budget)
    assert list(map(bytes, asking.results(CALLS))) == SQUARES
    assert server.sizes == [8, 2]
    budget.shrink(2)
    assert list(map(bytes, asking.results(CALLS))) == SQUARES
    assert server.sizes[2:] == [2] * 5
    assert budget.used_today() == 20


@pytest.mark.parametrize("status", [400, 413])
def test_a_batch_that_is_refused_by_http_is_halved_too(status):
    """With a page that says nothing, or with nothing."""

    def answer(calls):
        return (
            httpx.Response(status, text="Payload Too Large")
            if len(calls) > 1
            else [item(call) for call in calls]
        )

    assert results(Server(answer)) == SQUARES


def test_a_node_without_batches_is_asked_one_by_one():
    """It answers a list with an error about parsing, and a single object well."""

    def answer(calls):
        return (
            {"id": None, "error": {"code": -32700, "message": "parse error"}}
            if len(calls) > 1
            else item(calls[0])
        )

    assert results(Server(answer)) == SQUARES


def test_null_is_asked_for_again_unless_it_is_an_answer():
    """A backend that lags says null of a block that another one shows."""
    seen = []

    def answer(calls):
        seen.append(len(calls))
        return [item(call, result=None) if len(seen) % 2 and call["id"] else item(call) for call in calls]

    assert results(Server(answer)) == SQUARES
    asking = wire(Server(lambda calls: [item(call, result=None) for call in calls]))
    assert bytes(asking.one("square", 1, may_be_null=True)) == b"null"
    with pytest.raises(Transient, match="answers square with nothing"):
        asking.one("square", 1)


def test_an_error_of_one_call_is_that_calls_alone():
    """The others are well; nothing is asked again."""

    def answer(calls):
        fault = {"code": -32601, "message": "the method square does not exist"}
        return [
            item(call, error=fault) if call["id"] == 3 else item(call, error=None, result=1) for call in calls
        ]

    server = Server(answer)
    answers = wire(server).ask(CALLS)
    assert [number for number, one in enumerate(answers) if isinstance(one, Refused)] == [3]
    assert isinstance(answers[3], Refused)
    assert isinstance(answers[3].error, Unsupported)
    assert server.sizes == [10]


def test_calls_that_were_too_fast_are_asked_again():
    """Also where the error is no object, and the code alone says it."""
    slow = iter([True, True, False, True])

    def answer(calls):
        fault = {"code": 429, "message": "slow down"}
        return [
            item(call, error=fault) if call["id"] % 2 and next(slow, False) else item(call) for call in calls
        ]

    assert results(Server(answer)) == SQUARES
    with pytest.raises(RateLimited):
        results(
            Server(
                lambda calls: {
                    "id": calls[0]["id"],
                    "error": {"code": -32005, "message": "too many requests"},
                }
            )
        )


def test_a_call_whose_answer_is_too_large_beside_others_is_asked_alone():
    """Geth gives up a batch in the middle: `response too large`."""

    def answer(calls):
        fault = {"code": -32003, "message": "response too large"}
        return [item(call, error=fault) if at else item(call) for at, call in enumerate(calls)]

    assert results(Server(answer)) == SQUARES


@pytest.mark.parametrize("status", [200, 400, 413])
def test_an_error_in_the_body_says_more_than_the_status(status):
    """QuickNode sends a range that is too large as 413, Alchemy as 400."""
    fault = {"code": -32614, "message": "eth_getLogs is limited to a 10,000 range"}
    server = Server(lambda calls: [item(call, error=fault) for call in calls], status)
    [answer] = wire(server).ask([Call("eth_getLogs", ({},))])
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, TooMuch)
    assert answer.fault.message == fault["message"]
    assert server.sizes == [1]


def test_a_key_without_rights_is_not_asked_with_again():
    """A batch that is refused for the key is not halved down to nothing."""
    fault = {"code": -32000, "message": "must be authenticated"}
    server = Server(lambda calls: [item(call, error=fault) for call in calls], 401)
    with pytest.raises(Unauthorized):
        wire(server).results(CALLS)
    assert server.sizes == [10]


def test_a_contract_that_refuses_a_call_is_no_failure_of_the_node():
    """In whatever words; it is asked once."""
    for message in ("execution reverted", "VM execution error.", "out of gas", "invalid opcode: INVALID"):
        fault = {"code": -32000, "message": message}
        server = Server(lambda calls, fault=fault: [item(call, error=fault) for call in calls])
        [answer] = wire(server).ask([Call("eth_call", ({},))])
        assert isinstance(answer, Refused)
        assert isinstance(answer.error, Reverted)
        assert server.sizes == [1]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Just a moment</html>", b"[1, 2]", b'{"id": 0}', b"[]", b"null", b'"busy"', b"\xff\xfe"],
)
def test_what_is_no_json_rpc_is_a_failure_in_passing(body):
    """Gateways have bad moments."""
    with pytest.raises(Transient):
        results(Server(lambda _: httpx.Response(200, content=body)))


def test_an_answer_that_is_nested_too_deeply_is_too_much():
    """And only the call that it belongs to suffers."""
    deep = b"[" * 100_000 + b"]" * 100_000

    def answer(calls):
        if any(call["id"] == 3 for call in calls):
            return httpx.Response(200, content=b'{"id":3,"result":%b}' % deep)
        return [item(call) for call in calls]

    answers = wire(Server(answer)).ask(CALLS)
    assert isinstance(answers[3], Refused)
    assert isinstance(answers[3].error, TooMuch)
    assert [bytes(one) for at, one in enumerate(answers) if at != 3] == SQUARES[:3] + SQUARES[4:]


def test_errors_of_any_shape_are_read():
    """A text, a list, an object without a code."""
    for error in (
        "archive requests need a token",
        ["missing trie node"],
        {"message": "state is not available", "pruned": 1},
    ):
        server = Server(lambda calls, error=error: [item(call, error=error) for call in calls])
        [answer] = wire(server).ask(CALLS[:1])
        assert isinstance(answer, Refused)
        assert isinstance(answer.error, Unsupported), error
