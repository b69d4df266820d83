"""The offline world: prompts, responders, raters, gold aspects and two shipped base models.

The true quality of every response is known here, so every estimate can be compared with the truth. What may live in this
room: the world, its variants, its settings (`settings`) and the base models; nothing that trains, selects or judges.
"""

from pdsel.notesworld.people import rated_rows, write_ratings
from pdsel.notesworld.settings import BASE_MODEL, PROXY_BASE, model_path
from pdsel.notesworld.variants import GOLD, OPPOSED, mixture_aspects, variant_gaps, variant_scores
from pdsel.notesworld.world import (
    ASPECTS,
    FAMILIES,
    RELIABILITY,
    WORDS,
    best_response,
    draw_prompts,
    draw_reliability,
    gold_aspects,
    gold_utility,
    read_prompt,
    split_of,
    told,
)

__all__ = [
    "ASPECTS",
    "BASE_MODEL",
    "FAMILIES",
    "GOLD",
    "OPPOSED",
    "PROXY_BASE",
    "RELIABILITY",
    "WORDS",
    "best_response",
    "draw_prompts",
    "draw_reliability",
    "gold_aspects",
    "gold_utility",
    "mixture_aspects",
    "model_path",
    "rated_rows",
    "read_prompt",
    "split_of",
    "told",
    "variant_gaps",
    "variant_scores",
    "write_ratings",
]
