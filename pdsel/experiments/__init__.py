"""Questions asked of many runs on the notes world, and of data that people rated.

What may live here: which cells a question needs (`grid_plan`, `league`, `proxy_studies`, `probe_study`, `cost_study`),
computing them (`grid`, and the studies), whether the world can tell good from bad (`world_check`), the tables they give
(`grid_tables`, `league_tables`), what the tables say (`claims`, `verdicts`, `proxy_quality`, `uncertainty`, `human_ratings`,
`human_probes`), the paper's numbers (`published`), and how far the tests of a league can be trusted (`calibration`). No
rule, no metric and no figure: those are in `rules`, `evaluation` and `plots`. Nothing of the lesson needs this room.
"""
