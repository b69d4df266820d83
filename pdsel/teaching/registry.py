"""All exercises, by number: the check of an answer, and a table of them."""

import pandas as pd

from pdsel.checks import DataError
from pdsel.teaching import of_data, of_results, of_theory

EXERCISES = {each.number: each for room in (of_theory, of_data, of_results) for each in room.EXERCISES}
EXERCISES = dict(sorted(EXERCISES.items()))


def check(number, answer=...):
    """Check the answer to an exercise.

    Parameters
    ----------
    number : str
        Such as "00.1".
    answer : number, str or dict
        Without one, the hint is given.

    Returns
    -------
    Verdict
        True if the answer is right; in a notebook it shows its words.

    Raises
    ------
    ValueError
        For a number that no exercise has.

    Examples
    --------
    >>> check("00.1", 0.5)
    Not yet. The size is right, the sign is not: PD is minus the sum. Hint: Only the other two aspects count.
    >>> check("00.1", -0.5)
    Yes. The other aspects agree with the label on balance: a weak consensus.
    """
    if number not in EXERCISES:
        raise DataError(f"number={number!r}: there is no such exercise. Remedy: use one of {list(EXERCISES)}")
    return EXERCISES[number].check(answer)


def exercise_table():
    """Number, minutes and question of every exercise, and the minutes of a notebook's exercises together.

    >>> exercise_table().loc["00.1", "minutes"].item() < 5
    True
    """
    rows = {number: {"minutes": each.minutes, "question": each.question} for number, each in EXERCISES.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("exercise")


def exercise_page():
    """The table of exercises as a page of the book.

    >>> exercise_page().count("**00.1**")
    1
    """
    table = exercise_table()
    total = table["minutes"].groupby(lambda number: number.split(".")[0], sort=False).sum()
    rows = [f"| **{number}** | {row['minutes']} | {row['question']} |" for number, row in table.iterrows()]
    sums = ", ".join(f"{number}: {minutes}" for number, minutes in total.items())
    parts = [
        "# All exercises",
        "They stand at the end of their notebooks, where `check` says yes, not yet, or gives a hint. Every solution, with its\n"
        "reason, is in `notebooks/solutions/solutions.ipynb`.",
        "\n".join(["| exercise | minutes | question |", "| --- | --- | --- |", *rows]),
        f"Minutes by notebook: {sums}.",
    ]
    return "\n\n".join(parts)
