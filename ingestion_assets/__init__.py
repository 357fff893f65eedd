"""Raw records from many outside systems into Postgres: exactly once, resumable anywhere, with evidence."""
