"""`python -m pdsel.teaching` writes what a class needs, in the repository's root: `make exercises`.

The exercises go into the notebooks; the table of exercises, the quiz and the handout into `docs/learn`.
"""

from pathlib import Path

from pdsel.artifacts import save_text
from pdsel.teaching.handout import write_handout
from pdsel.teaching.place import place
from pdsel.teaching.questions import quiz_page
from pdsel.teaching.registry import exercise_page

LEARN = Path("docs", "learn")


def main():
    """Write everything, and say which notebooks changed."""
    for path in sorted(Path("notebooks").glob("*.ipynb")):
        if place(path):
            print(f"{path}: exercises written anew")
    for name, page in {"quiz": quiz_page(), "exercises": exercise_page()}.items():
        print("written:", save_text(page, LEARN / f"{name}.md"))
    print("written:", write_handout(LEARN / "handout.pdf"))


if __name__ == "__main__":
    main()
