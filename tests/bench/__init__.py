"""How fast and how lean the numbers are: `make bench`. Not part of the tests, but `test_bench.py` runs it tiny."""
