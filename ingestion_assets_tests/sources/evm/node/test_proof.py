"""What a header commits to, and everything that a node may leave out, add or change."""

import random
from collections.abc import Callable

import msgspec
import pytest
from Crypto.Hash import keccak
from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.sources.evm.fields import Unreadable
from ingestion_assets.sources.evm.node import merkle
from ingestion_assets.sources.evm.node.keccak import keccak256
from ingestion_assets.sources.evm.node.proof import (
    Contradiction,
    bloom_may_hold,
    check_block,
    check_logs,
    logs_bloom,
    receipts_root,
)
from ingestion_assets.sources.evm.node.shapes import (
    Block,
    Log,
    Receipt,
    octets,
    quantity,
    read_block,
    read_log,
)

NUMBER = 17


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def raw(thing: object) -> msgspec.Raw:
    """As a node sends it."""
    return msgspec.Raw(msgspec.json.encode(thing))


def a_log(rng: random.Random, transaction: int, index: int) -> Log:
    """A log of any contract."""
    return Log(
        address=_hex(rng.randbytes(20)),
        topics=tuple(_hex(rng.randbytes(32)) for _ in range(rng.randrange(5))),
        data=_hex(rng.randbytes(rng.choice([0, 1, 32, 64, 300]))),
        block_number=hex(NUMBER),
        block_hash=_hash("block"),
        transaction_hash=_hash(f"transaction {transaction}"),
        transaction_index=hex(transaction),
        log_index=hex(index),
    )


def _hash(name: str) -> str:
    return _hex(keccak256(name.encode()))


def a_block(*, logs: tuple[int, ...] = (2, 0, 1), seed: int = 0) -> tuple[Block, list[Receipt]]:
    """A block that is true; `logs` in each of its transactions."""
    rng = random.Random(seed)
    receipts, of_all = [], []
    gas = 0
    for at, count in enumerate(logs):
        own = [a_log(rng, at, len(of_all) + number) for number in range(count)]
        of_all += own
        used = 21_000 + rng.randrange(10**6)
        gas += used
        receipt = Receipt(
            transaction_hash=_hash(f"transaction {at}"),
            transaction_index=hex(at),
            block_hash=_hash("block"),
            block_number=hex(NUMBER),
            cumulative_gas_used=hex(gas),
            gas_used=hex(used),
            logs_bloom=_hex(logs_bloom(own)),
            logs=[raw(log) for log in own],
            type=hex(rng.randrange(5)),
            status=hex(rng.randrange(2)),
        )
        receipts.append(receipt)
    hashes = [raw(receipt.transaction_hash) for receipt in receipts]
    bloom, root = _hex(logs_bloom(of_all)), _hex(receipts_root(receipts))
    block = Block(hex(NUMBER), _hash("block"), _hash("parent"), "0x1", bloom, root, hex(gas), hashes)
    return block, receipts


def events(receipts: list[Receipt]) -> list[Log]:
    """All logs of a block."""
    return [log for receipt in receipts for log in receipt.events()]


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (
            b"Transfer(address,address,uint256)",
            "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
        ),
    ],
)
def test_keccak_is_the_one_of_ethereum(data, digest):
    """And not the SHA3-256 that became the standard."""
    assert keccak256(data).hex() == digest


@given(st.binary(max_size=500))
def test_both_implementations_of_keccak_agree(data):
    """Which of them is there depends on the system."""
    assert keccak256(data) == keccak.new(data=data, digest_bits=256).digest()


@pytest.mark.parametrize(
    ("values", "root"),  # of the general trie in PyPI's `trie` 4.0.0
    [
        ([], "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"),
        ([b"a"], "0934a6a4a84a455b46bf2e427c90fbc07dbce3fd6fe5b9213cc6cd7c8030792c"),
        ([bytes((n,)) for n in range(5)], "c91faf2b3ba9898824344c665885a1441387c96287ebf77708b382937a68ec8c"),
        (
            [number.to_bytes(2, "big") * 20 for number in range(300)],
            "c10e1fc473d48b8f115fbb97ed7e1c463a61d605714a49c2f5304ead99b6002f",
        ),
    ],
)
def test_the_root_of_a_list_is_that_of_a_general_trie(values, root):
    """Empty, alone, with nodes that are shorter than their hash, and with indices of three bytes."""
    assert merkle.root(values).hex() == root


@pytest.mark.parametrize(
    ("data", "encoded"),
    [
        (b"", "80"),
        (b"\x00", "00"),
        (b"\x7f", "7f"),
        (b"\x80", "8180"),
        (b"a" * 55, "b7" + "61" * 55),
        (b"a" * 56, "b838" + "61" * 56),
        (b"a" * 256, "b90100" + "61" * 256),
    ],
)
def test_bytes_are_written_as_rlp(data, encoded):
    """https://ethereum.org/developers/docs/data-structures-and-encoding/rlp."""
    assert merkle.string(data).hex() == encoded


def test_numbers_and_lists_are_written_as_rlp():
    """Without leading zeros; a list of lists."""
    assert [merkle.integer(n).hex() for n in (0, 15, 1024)] == ["80", "0f", "820400"]
    empty = merkle.sequence([])
    assert merkle.sequence([empty, merkle.sequence([empty])]).hex() == "c3c0c1c0"


def test_a_bloom_holds_what_was_put_in():
    """All of an address and its topics; a stranger is seldom found."""
    log = a_log(random.Random(1), 0, 0)
    bloom = logs_bloom([log])
    address, topics = octets(log.address), [octets(topic) for topic in log.topics]
    assert len(bloom) == 256
    assert bloom_may_hold(bloom, address, *topics)
    assert bloom_may_hold(bloom)
    assert not bloom_may_hold(bloom, address, keccak256(b"a stranger"))
    assert not bloom_may_hold(bytes(256), address)
    assert bloom_may_hold(b"\xff" * 256, keccak256(b"anything"))


def test_a_bloom_is_that_of_the_specification():
    """Three bits, from the low 11 bits of the first three pairs of bytes of the hash."""
    [found] = {logs_bloom([read_log(raw({**_fields(), "address": "0x" + "00" * 20, "topics": []}))])}
    digest = keccak256(bytes(20))
    expected = bytearray(256)
    for at in (0, 2, 4):
        bit = int.from_bytes(digest[at : at + 2], "big") % 2048
        expected[255 - bit // 8] |= 1 << bit % 8
    assert found == bytes(expected)


def _fields() -> dict[str, object]:
    return dict(msgspec.to_builtins(a_log(random.Random(0), 0, 0)))


@pytest.mark.parametrize("logs", [(), (0,), (1,), (0, 0, 0), (2, 0, 1), (3,) * 130])
@pytest.mark.parametrize("root", [True, False])
def test_a_true_block_is_proved(logs, root):
    """Empty, without logs, and with more receipts than fit one byte."""
    block, receipts = a_block(logs=logs)
    check_block(block, receipts, root=root)
    check_logs(block, events(receipts))


def test_letters_of_any_case_are_the_same_hash():
    """Some nodes write addresses and hashes with capitals."""
    block, receipts = a_block()
    block.hash = _capital(block.hash)
    block.transactions = [raw({"hash": _capital(name)}) for name in block.hashes()]
    for receipt in receipts:
        receipt.logs_bloom = _capital(receipt.logs_bloom)
        receipt.logs = [
            raw(msgspec.structs.replace(x, address=_capital(x.address))) for x in receipt.events()
        ]
    check_block(block, receipts, root=True)


def _capital(text: str) -> str:
    return "0x" + text[2:].upper()


def _change(name: str, value: object) -> Callable[[Block, list[Receipt]], None]:
    def change(_: Block, receipts: list[Receipt]) -> None:
        setattr(receipts[0], name, value)

    return change


def _change_log(at: int, **values: object) -> Callable[[Block, list[Receipt]], None]:
    def change(_: Block, receipts: list[Receipt]) -> None:
        receipts[0].logs[at] = raw(msgspec.structs.replace(receipts[0].events()[at], **values))

    return change


def _another_header(name: str, value: object) -> Callable[[Block, list[Receipt]], None]:
    return lambda block, _: setattr(block, name, value)


def _drop_log(block: Block, receipts: list[Receipt]) -> None:
    receipts[0].logs.pop()
    _ = block


def _drop_log_and_mend_the_receipt(block: Block, receipts: list[Receipt]) -> None:
    _drop_log(block, receipts)
    receipts[0].logs_bloom = _hex(logs_bloom(receipts[0].events()))


def _swap_logs(_: Block, receipts: list[Receipt]) -> None:
    receipts[0].logs.reverse()


def _swap_receipts(_: Block, receipts: list[Receipt]) -> None:
    receipts.reverse()


def _swap_gas(_: Block, receipts: list[Receipt]) -> None:
    one, two = receipts[0], receipts[1]
    one.cumulative_gas_used, two.cumulative_gas_used = two.cumulative_gas_used, one.cumulative_gas_used


LIES = {
    "a receipt is missing": lambda _, receipts: receipts.pop(),
    "the first receipt is missing": lambda _, receipts: receipts.pop(0),
    "all receipts are missing": lambda _, receipts: receipts.clear(),
    "a receipt came twice": lambda _, receipts: receipts.append(receipts[-1]),
    "a receipt stands for another": lambda _, receipts: receipts.__setitem__(1, receipts[0]),
    "the receipts are in another order": _swap_receipts,
    "a log is missing": _drop_log,
    "a log is missing and the bloom is mended": _drop_log_and_mend_the_receipt,
    "the logs are in another order": _swap_logs,
    "a log is of another contract": _change_log(0, address="0x" + "11" * 20),
    "a log has another topic": _change_log(0, topics=(_hash("another"),)),
    "a log is of another block": _change_log(0, block_hash=_hash("another")),
    "a log says another number of block": _change_log(0, block_number="0x1"),
    "a log is of another transaction": _change_log(0, transaction_hash=_hash("another")),
    "a log says another place": _change_log(0, transaction_index="0x1"),
    "a log has another index": _change_log(1, log_index="0x7"),
    "a log has the index of another": _change_log(1, log_index="0x0"),
    "the receipt is of another block": _change("block_hash", _hash("another")),
    "the receipt is of another number": _change("block_number", "0x12"),
    "the receipt is of another transaction": _change("transaction_hash", _hash("another")),
    "the receipt has another place": _change("transaction_index", "0x1"),
    "the receipt used less gas": _change("gas_used", "0x1"),
    "the gas of two receipts is swapped": _swap_gas,
    "the receipt has another bloom": _change("logs_bloom", _hex(bytes(256))),
    "the header used more gas": _another_header("gas_used", "0xffffffff"),
    "the header has another bloom": _another_header("logs_bloom", _hex(b"\xff" * 256)),
    "the header has another hash": _another_header("hash", _hash("another")),
    "a number is none": _change("gas_used", "21000"),
    "a number has a sign": _change("cumulative_gas_used", "0x-1"),
    "the bloom is no run of bytes": _change("logs_bloom", "0xzz"),
    "an address is cut": _change_log(0, address="0x111"),
    "the index of a log is none": _change_log(0, log_index=""),
    "a log is no object": lambda _, receipts: receipts[0].logs.__setitem__(0, raw(7)),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lie_is_a_contradiction_that_names_the_block(lie):
    """The receipts root is not needed for any of these."""
    block, receipts = a_block()
    lie(block, receipts)
    with pytest.raises(Contradiction, match=r"^block (17|0x11)\b"):
        check_block(block, receipts, root=False)


SMALL_LIES = {
    "a log has other data": _change_log(0, data="0x1234"),
    "another outcome": lambda _, receipts: setattr(
        receipts[0], "status", {"0x0": "0x1", "0x1": "0x0"}[receipts[0].status or ""]
    ),
    "another type": lambda _, receipts: setattr(receipts[0], "type", hex(quantity(receipts[0].type) + 1)),
    "a state root": _change("root", _hash("another")),
    "another receipts root": _another_header("receipts_root", _hash("another")),
}


@pytest.mark.parametrize("lie", SMALL_LIES.values(), ids=SMALL_LIES)
def test_what_only_the_root_commits_to_needs_the_root(lie):
    """Every byte of every log."""
    block, receipts = a_block()
    lie(block, receipts)
    if receipts[0].root is not None:
        receipts[0].status = None
    check_block(block, receipts, root=False)
    with pytest.raises(Contradiction, match=r"^block 17: its receipts root is 0x"):
        check_block(block, receipts, root=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", None),
        ("status", "yes"),
        ("type", "legacy"),
        ("type", "0x80"),
        ("type", "0x100"),
        ("root", "0x1"),
    ],
)
def test_a_receipt_without_a_readable_outcome_has_no_root(field, value):
    """It cannot be what was hashed."""
    block, receipts = a_block()
    setattr(receipts[0], field, value)
    if field == "root":
        receipts[0].status = None
    with pytest.raises(Contradiction, match=r"^block (17|0x11)\b"):
        check_block(block, receipts, root=True)


@given(st.integers(0, 200), st.data())
def test_no_log_can_be_dropped_but_the_last_ones_of_a_full_bloom(seed, data):
    """Any hole shows; what lies at the end shows unless others have set all of its bits."""
    block, receipts = a_block(logs=(3, 2, 4), seed=seed)
    logs = events(receipts)
    dropped = data.draw(st.integers(0, len(logs) - 1))
    kept = logs[:dropped] + logs[dropped + 1 :]
    if dropped == len(logs) - 1 and logs_bloom(kept) == logs_bloom(logs):
        check_logs(block, kept)
        return
    with pytest.raises(Contradiction, match=r"^block 17: "):
        check_logs(block, kept)


def test_logs_that_come_twice_or_from_elsewhere_are_a_contradiction():
    """Also where the bloom would be the same."""
    block, receipts = a_block()
    logs = events(receipts)
    for wrong in ([*logs, logs[-1]], [logs[0], *logs], logs[::-1], []):
        with pytest.raises(Contradiction, match=r"^block 17: "):
            check_logs(block, wrong)


def test_receipts_of_unknown_types_are_hashed_with_their_number():
    """Chains of their own have types of their own."""
    _, receipts = a_block(logs=(1,))
    roots = set()
    for number in (0, 1, 2, 3, 4, 0x64, 0x7B, 0x7E):
        receipts[0].type = hex(number)
        roots.add(receipts_root(receipts))
    assert len(roots) == 8
    receipts[0].type = "0x64"
    typed = receipts_root(receipts)
    receipts[0].type = "0x0"
    assert receipts_root(receipts) != typed


def test_deposits_of_optimism_commit_to_their_nonce_once_they_have_a_version():
    """Before the Canyon fork the nonce was told, and not hashed."""
    _, receipts = a_block(logs=(1,))
    receipts[0].type = "0x7e"
    plain = receipts_root(receipts)
    receipts[0].deposit_nonce = "0x4"
    assert receipts_root(receipts) == plain
    receipts[0].deposit_receipt_version = "0x1"
    versioned = receipts_root(receipts)
    assert versioned != plain
    receipts[0].deposit_nonce = "0x5"
    assert receipts_root(receipts) != versioned


def test_the_state_sync_of_polygon_is_shown_and_not_committed_to():
    """It stands at the end, without gas, and neither bloom nor root know of its logs; but its place is checked."""
    block, receipts = a_block()
    name = _hex(keccak256(b"matic-bor-receipt-" + NUMBER.to_bytes(8, "big") + octets(block.hash)))
    log = a_log(random.Random(9), 3, 3)
    log.transaction_hash = name
    sync = msgspec.structs.replace(
        receipts[1],
        transaction_hash=name,
        transaction_index="0x3",
        cumulative_gas_used="0x0",
        gas_used="0x0",
        logs=[raw(log)],
        type="0x0",
    )
    block.transactions.append(raw({"hash": name}))
    shown = [*receipts, sync]
    check_block(block, shown, root=True)
    check_logs(block, events(shown))
    with pytest.raises(Contradiction, match="4 transactions, and 3 receipts"):
        check_block(block, receipts, root=True)
    log.log_index = "0x4"
    sync.logs = [raw(log)]
    with pytest.raises(Contradiction, match="the log 3 should stand"):
        check_block(block, shown, root=True)
    stranger = msgspec.structs.replace(log, log_index="0x3", transaction_hash=_hash("a stranger"))
    with pytest.raises(Contradiction, match="do not make its bloom"):
        check_logs(block, [*events(receipts), stranger])


def test_a_block_reads_whole_transactions_as_well_as_hashes():
    """eth_getBlockByNumber gives either."""
    fields = msgspec.json.decode(raw(a_block()[0]))
    fields["transactions"] = [{"hash": "0xAB", "value": "0x1"}, "0xCD"]
    assert read_block(msgspec.json.encode(fields)).hashes() == ["0xab", "0xcd"]


@pytest.mark.parametrize(("text", "number"), [("0x", 0), ("0x0", 0), ("0x1A", 26), ("0x00ff", 255)])
def test_quantities_are_read(text, number):
    """Explorers write zero as 0x, and some nodes pad with zeros."""
    assert quantity(text) == number


@pytest.mark.parametrize("text", ["", "1a", "0xg", "0x1_0", " 0x1", "-0x1", "0x١", "0x1\n"])
def test_what_is_no_quantity_is_refused(text):
    """Python's own reading of numbers is more generous than the protocol."""
    with pytest.raises(Unreadable, match="no number"):
        quantity(text)


@pytest.mark.parametrize("text", ["", "12", "0x1", "0xgg", "0x1 ", "0x 12", "0X12"])
def test_what_is_no_run_of_bytes_is_refused(text):
    """Two digits each, after 0x."""
    with pytest.raises(Unreadable, match="no run of bytes"):
        octets(text)
