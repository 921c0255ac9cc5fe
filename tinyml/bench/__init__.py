"""Benchmarks of ``tinyml bench``: a table of cases, libraries that run them, and their timing.

pytest-benchmark runs the same table, `cases.CASES`. ``import tinyml`` imports nothing of this
package, and another library is imported only when the user names it.
"""
