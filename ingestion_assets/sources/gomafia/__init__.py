"""The tournament rating of gomafia.pro: clubs, players, tournaments, games, phase after phase.

`phases` says which there are; `provider` what the site is asked; `api` and `pages` are the two ways to ask it; `streams` what is
drained; `assets` what Dagster sees.
"""
