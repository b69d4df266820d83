"""`python -m pdsel.teaching NOTEBOOK ...` writes the exercises into these notebooks; `make exercises` into all."""

import sys

from pdsel.teaching.place import place

if __name__ == "__main__":
    for name in sys.argv[1:]:
        if place(name):
            print(f"{name}: exercises written anew")
