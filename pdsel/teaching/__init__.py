"""What a class needs beside the notebooks: exercises that check themselves, bets, and a small world to try things on.

What may live here: exercises with their checks, their places in the notebooks, bets before a reveal, a quiz, a
handout, slides, and tables made for teaching. Nothing here is needed for a result; no other room imports this one.
"""

import lazy_loader

_attach = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bets": ["bet"],
        "exercise": ["Exercise", "Verdict"],
        "questions": ["QUESTIONS", "quiz"],
        "registry": ["EXERCISES", "check", "exercise_table"],
        "small_world": ["SmallWorld", "small_world"],
    },
)
__getattr__, __dir__, __all__ = _attach
