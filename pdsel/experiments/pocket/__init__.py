"""A real language model and real people's ratings: the paper's experiment on WebNLG 2020 with a model for a laptop.

The rated inputs are split in halves. On one half pairs are made, selected and trained on. The other half's people judge: how
often a policy's implicit reward orders their pairs as they do, which needs no judge, and what judges trained on or checked
against people say of the policies' texts on further inputs.

What may live here: the settings of a run (`settings`), people's pairs and how often a reward agrees with them (`people`), what
is computed for each (`cells`), the labels that rules keep (`kept_labels`), running all of it (`run`), and the tables that come
of it (`tables`). `python -m pdsel.experiments.pocket run|tables ...` is the door.
"""
