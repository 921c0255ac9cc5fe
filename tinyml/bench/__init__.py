"""Benchmarks of ``tinyml bench``: a table of cases, libraries that run them, and their timing.

pytest-benchmark runs the table `cases` too. Nothing here is imported by ``import tinyml``, and
other libraries only when they are named.
"""
