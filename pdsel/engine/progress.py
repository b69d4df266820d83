"""Progress bars: one at a time, none in a run of the graph, and in a notebook nothing is left of one that has ended."""

import os
import sys
from contextlib import contextmanager

from tqdm.auto import tqdm
from tqdm.notebook import tqdm_notebook

from pdsel.artifacts import IN_GRAPH

SILENT = (IN_GRAPH, "TQDM_DISABLE")  # variables of the environment that ask for no bars


class Progress(tqdm):
    """tqdm's bar. Of bars within bars only the outermost is drawn, since the inner ones would flicker.

    >>> [letter for letter in Progress("abc", disable=True)]
    ['a', 'b', 'c']
    """

    outermost = None
    cell = None  # in a notebook, the count of the cell that drew it: a bar that an error left open hides no later one
    place = None  # in a notebook, the output that shows the bar

    def __init__(self, *args, **options):
        inside = Progress.outermost is not None and Progress.outermost.cell == _cell()
        unseen = inside or any(os.environ.get(name) for name in SILENT)
        options |= {"leave": False, "disable": bool(options.get("disable")) or unseen}
        if isinstance(self, tqdm_notebook):
            options["display"] = False
        super().__init__(*args, **options)
        if self.disable:
            return
        Progress.outermost, self.cell = self, _cell()
        if isinstance(self, tqdm_notebook):
            from IPython.display import display

            self.place = display(self.container, display_id=True)

    def close(self):
        """End the bar; a notebook's output becomes empty, where tqdm would leave the text of a bar at 0 %."""
        super().close()
        if Progress.outermost is self:
            Progress.outermost = None
        if self.place is not None:
            self.place.update({"text/plain": ""}, raw=True)
            self.place = None


@contextmanager
def quiet_processes(*more):
    """Processes that are started in the body inherit an environment that asks for no bars, and sets the variables `more`.

    Bars of several processes would draw over each other.

    >>> with quiet_processes():
    ...     os.environ["TQDM_DISABLE"]
    '1'
    """
    names = ["TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS", *more]
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _cell():
    """The count of the notebook's cell that runs; None outside of notebooks."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "execution_count", None)
