"""What pdsel survives, counted: kills, faults, rot, bad input, hostile content: `make ordeal`.

Every trial is drawn from a seed of its own, so that a lost one can be repeated alone: `python -m ordeal input --only NAME
--number 17`. `test_ordeal.py` holds the short form that runs in `make test`.
"""
