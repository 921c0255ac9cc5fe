"""What ``tinyml bench`` runs: one table of cases, its contenders, and how they are timed.

`cases` is the table, which pytest-benchmark runs too. Nothing here is imported by ``import
tinyml``, and no peer is imported before it is asked for.
"""
