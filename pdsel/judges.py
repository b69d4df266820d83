"""The public door to the judges, which live in `pdsel.evaluation.judges`: `from pdsel.judges import gold_judge`."""

from pdsel.evaluation.judges import __all__ as __all__
from pdsel.evaluation.judges import __dir__ as __dir__
from pdsel.evaluation.judges import __getattr__ as __getattr__
