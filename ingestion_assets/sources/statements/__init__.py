"""Statements: the files of brokers and exchanges, every line of them once."""
