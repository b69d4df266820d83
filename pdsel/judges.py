"""The judges' public door; they live in `pdsel.evaluation.judges`."""

from pdsel.evaluation.judges import *  # noqa: F403
from pdsel.evaluation.judges import __all__ as __all__
