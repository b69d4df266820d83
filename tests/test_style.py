"""What ruff does not check: a function has at most six parameters, but for a few with a reason."""

import ast
from pathlib import Path

import pdsel

MOST = 6
PACKAGE = Path(pdsel.__file__).parent
CONTRACT = "the contract names its keywords, and people call it with them"
CELL = "its keywords are the settings of a cell, so that a cell is plain data"
LONGER = {
    "objectives.dmpo_loss": CONTRACT,
    "proxies.fit_proxy": CONTRACT,
    "training.train_dmpo": CONTRACT,
    "experiments.probe_study.probe_cell": CELL,
    "experiments.proxy_studies.proxy_cell": CELL,
    "rules.built.statistically_rejected": "its positional parameters name the signals that the rule needs",
    "rules.built.rejection_sampled": "its positional parameters name the signals that the rule needs",
    "engine.scoring.score_texts": "one loop for three readings of texts",
    "experiments.human_ratings.agreement_table": "a study and its settings",
    "pipeline.compute.generation_seconds": "the quantities of one formula",
    "pipeline.compute.training_memory": "the quantities of one formula",
}


def lengths():
    """The number of parameters of every function, by its dotted name; `self` and `**options` are not counted."""
    for file in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                yield f"{module}.{node.name}", len([each for each in given if each.arg not in ("self", "cls")])


def test_a_function_has_at_most_six_parameters():
    longer = {name for name, n in lengths() if n > MOST}
    assert longer == set(LONGER), "take a dataclass, or give a reason; remove names that are not longer any more"
