"""The offline world: prompts, responders, raters, gold aspects and a shipped base model whose truth is known."""

from pathlib import Path

from pdsel.notesworld.people import rated_rows, write_ratings
from pdsel.notesworld.world import ASPECTS, draw_prompts, gold_aspects, gold_utility, read_prompt, split_of

BASE_MODEL = str(Path(__file__).parent / "base_model")

__all__ = [
    "ASPECTS",
    "BASE_MODEL",
    "draw_prompts",
    "gold_aspects",
    "gold_utility",
    "rated_rows",
    "read_prompt",
    "split_of",
    "write_ratings",
]
