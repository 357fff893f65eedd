"""Logs become keys by being put together first and looked at afterwards: what is odd must not slip through."""

import msgspec
import pytest

from ingestion_assets.sources.evm.fields import Unreadable
from ingestion_assets.sources.evm.node.shapes import Log
from ingestion_assets.sources.evm.node.transfers import TRANSFER, is_transfer, key_of

NAME = "0x" + "ab" * 32
TOKEN, SENDER, RECEIVER = ("0x" + digit * 40 for digit in "123")


def topic(account):
    """As logs hold it."""
    return "0x" + "0" * 24 + account[2:]


def word(number):
    """32 bytes."""
    return f"{number:064x}"


LOG = Log(
    address=TOKEN,
    topics=(TRANSFER, topic(SENDER), topic(RECEIVER)),
    data="0x" + word(5),
    block_number="0x1",
    block_hash="0x" + "cd" * 32,
    transaction_hash=NAME,
    transaction_index="0x0",
    log_index="0x0",
)
KEY = f"{NAME}\t{SENDER}\t{RECEIVER}\t{TOKEN}\t5".encode()


def changed(**parts):
    """The log with other parts."""
    return msgspec.structs.replace(LOG, **parts)


@pytest.mark.parametrize(
    "log",
    [
        LOG,
        changed(address=TOKEN.upper().replace("X", "x"), transaction_hash="0x" + "AB" * 32),
        changed(topics=(TRANSFER, "0x" + "f" * 24 + SENDER[2:], topic(RECEIVER))),
        changed(topics=(TRANSFER, topic(SENDER)), data="0x" + topic(RECEIVER)[2:] + word(5)),
        changed(topics=(TRANSFER,), data="0x" + topic(SENDER)[2:] + topic(RECEIVER)[2:] + word(5)),
    ],
    ids=["plain", "capitals", "a topic that is not filled up with zeros", "one party in the data", "both"],
)
def test_one_transfer_has_one_key_however_it_is_written(log):
    """Also from tokens older than the standard."""
    assert is_transfer(log)
    assert key_of(log) == KEY


def test_the_largest_value_keeps_all_its_digits():
    """2^256 - 1."""
    assert key_of(changed(data="0x" + "f" * 64)).endswith(b"\t%d" % (2**256 - 1))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("transaction_hash", NAME[:-1]),
        ("transaction_hash", NAME + "0"),
        ("transaction_hash", "1" + NAME[1:]),
        ("transaction_hash", "0x" + "g" * 64),
        ("transaction_hash", "0X" + "ab" * 31 + "0x"),
        ("transaction_hash", NAME[:20] + "\t" + NAME[21:]),
        ("transaction_hash", NAME[:20] + "\n" + NAME[21:]),
        ("address", TOKEN[:-1]),
        ("address", "1" + TOKEN[1:]),
        ("address", "genesis"),
        ("address", TOKEN + "\t"),
        ("address", ""),
        ("topics", (TRANSFER, topic(SENDER)[:-1], topic(RECEIVER))),
        ("topics", (TRANSFER, topic(SENDER) + "0", topic(RECEIVER))),
        ("topics", (TRANSFER, topic(SENDER), topic(RECEIVER)[:-1] + "x")),
        ("topics", (TRANSFER, topic(SENDER), "1x" + topic(RECEIVER)[2:])),
        ("topics", (TRANSFER, topic(SENDER)[:-1], topic(RECEIVER) + "0")),
        ("topics", (TRANSFER, "", "")),
        ("data", "0x" + "g" * 64),
        ("data", "-0x" + "0" * 62 + "5"),
        ("data", "0x-" + "0" * 62 + "5"),
        ("data", "00" + word(5)),
    ],
)
def test_what_is_no_hash_no_address_or_no_number_makes_no_key(part, value):
    """Whatever its length, and wherever it would put a tab."""
    with pytest.raises(Unreadable):
        key_of(changed(**{part: value}))
