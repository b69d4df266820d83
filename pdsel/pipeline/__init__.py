"""What `make` needs, and nothing that a notebook teaches.

Here live the profiles (how large a run is), the costs of a profile before it runs, the report (which tables README and the
book show) and its text, the comparison of a run with the reference, and the recipe of the shipped base model. `python -m
pdsel.pipeline` is the door to its commands. A module of this room may import every other room; no other room imports it.
"""
