"""A handout of two pages to print: the derivation in seven lines, and four pairs to compute by hand."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.backends.backend_pdf import PdfPages
from scipy.special import expit

from pdsel import preference_divergence
from pdsel.artifacts import writing

A4 = (8.27, 11.69)  # inches
LEFT, RIGHT, LINE = 0.08, 0.92, 0.0165  # margins and the height of a line, as shares of the page
TITLE, HEADING, TEXT, SMALL = 17, 12, 10, 8.5  # points
LOOK = {"mathtext.fontset": "stix", "font.family": "DejaVu Sans", "pdf.fonttype": 42}

# The four pairs of notebook 00: what each aspect says of the label, and which aspect the label is on.
PROMPTS = {
    "z1": ("Will this stock rise?", "Nobody knows. This is how to weigh the risk.", "Yes, it will double by May."),
    "z2": ("How do I get rid of wasps?", "Spray at dusk and step back.", "Ask somebody."),
    "z3": ("My chest hurts. What is it?", "Surely the heart: call an ambulance now.", "Stress. Sleep on it."),
    "z4": ("How do I kill a process?", "I cannot help with killing.", "Look up its number, then kill it."),
}
MARGINS = pd.DataFrame(
    {"honesty": [float("nan"), 0.3, -0.2, -0.6], "help": [0.5, 0.9, 0.1, -0.7], "safety": [0.4, -0.3, 0.8, 0.2]},
    index=list(PROMPTS),
)
ASPECT = pd.Series(["honesty", "help", "help", "safety"], index=list(PROMPTS))

DERIVATION = [
    (
        "The goal: the mean reward of the $\\kappa$ aspects, without moving far from the reference.",
        r"$\max_\pi\ \mathrm{E}_{y\sim\pi}[\bar r(x,y)] - \beta\,\mathrm{KL}(\pi\,\Vert\,\pi_{ref}),"
        r"\quad \bar r = \frac{1}{\kappa}\sum_k r_k$",
    ),
    (
        "Its solution: a KL divergence is zero only where both are equal.",
        r"$\pi^*(y|x) = \pi_{ref}(y|x)\,e^{\bar r(x,y)/\beta}\,/\,Z(x)$",
    ),
    (
        "Turned round: the policy is a reward model, of the mean reward.",
        r"$\bar r(x,y) = \beta\,\log\dfrac{\pi^*(y|x)}{\pi_{ref}(y|x)} + \beta\,\log Z(x)$",
    ),
    (
        "Single out the aspect $k$ of the label: move the others to the right.",
        r"$r_k = \kappa\,\bar r + \phi_k, \qquad \phi_k = -\sum_{k'\neq k} r_{k'}$",
    ),
    (
        "How a label comes about (Bradley-Terry): on aspect $k$ alone.",
        r"$P(y_w \succ_k y_l) = \sigma(r_k(x,y_w) - r_k(x,y_l))$",
    ),
    (
        "Insert: $Z(x)$ is the same for both answers and cancels.",
        r"$P = \sigma(\kappa M^* + \mathrm{PD}), \qquad \mathrm{PD} = -\sum_{k'\neq k}[r_{k'}(x,y_w) - r_{k'}(x,y_l)]$",
    ),
    (
        "Maximum likelihood: make the labels as likely as possible.",
        r"$L_{\mathrm{DMPO}}(\theta) = -\log\sigma(\kappa M_\theta + \mathrm{PD})$",
    ),
]
NAMES = [
    r"$x,\ y_w,\ y_l$: a prompt, its chosen and its rejected answer.   $\sigma(u) = 1/(1+e^{-u})$.",
    r"$M_\theta = \beta\log\dfrac{\pi_\theta(y_w|x)}{\pi_{ref}(y_w|x)} - \beta\log\dfrac{\pi_\theta(y_l|x)}{\pi_{ref}(y_l|x)}$:"
    "  the policy's reward margin; 0 at the start.",
    "PD: the preference divergence. PD < 0 is consensus, PD > 0 is conflict.",
    r"DPO: the loss $-\log\sigma(M_\theta)$, which takes the label as the whole truth.",
]
THEOREM = [
    r"Training on a pair lifts its margin from $c_0$ to $c_2 > c_0$. Its gain, the fall of its loss, is",
    r"$g(a) = \log\sigma(\kappa c_2 + a) - \log\sigma(\kappa c_0 + a) > 0, \qquad a = \mathrm{PD}$",
    r"$g'(a) = \sigma(\kappa c_0 + a) - \sigma(\kappa c_2 + a) < 0$, so the gain is largest where PD is most negative:",
    "of all sets of the same size, the pairs with the most negative PD have the lowest bound on the loss.",
]
TASKS = [
    "1.  Compute PD of each pair: add up what the other two aspects say, and change the sign.",
    "2.  Half of the pairs are kept. Which two? Which pair is dropped first?",
    "3.  Give safety the weight w, the others 1. Write PD of z1 and z3 as lines in w. Where do they meet?",
    r"4.  At the start $M = 0$. How hard does each pair pull under DMPO, $\sigma(-\mathrm{PD})$? Two digits are enough.",
]
GLOSSARY = [
    ("ALL, RAND", "all pairs with their labels; a random share of them"),
    ("RAF", "the largest margins of one reward that was trained on all pairs"),
    ("PD, PD(high)", "the most negative divergence; the most positive, as a control"),
    ("OVA, AVG", "all pairs, relabelled by the overall rating; by the mean of the aspects' ratings"),
    ("WR, LC", "win rate against the start (50 is a draw); the same at equal length"),
]


def answers():
    """PD of the four pairs.

    >>> answers().round(1).to_dict()
    {'z1': -0.9, 'z2': 0.0, 'z3': -0.6, 'z4': 1.3}
    """
    return preference_divergence(MARGINS, ASPECT).round(9)


def write_handout(path):
    """Write the handout as a PDF of two pages; return the path."""
    with (
        plt.style.context(["default", LOOK]),
        writing(path) as scratch,
        PdfPages(scratch, metadata={"CreationDate": None}) as pages,
    ):
        for draw in (_first_page, _second_page):
            figure = plt.figure(figsize=A4)
            draw(figure)
            pages.savefig(figure)
            plt.close(figure)
    return Path(path)


class _Writer:
    """Writes down a page, line by line."""

    def __init__(self, figure, top=0.94):
        self.figure, self.y = figure, top

    def line(self, text, *, x=LEFT, size=TEXT, lines=1.0, **style):
        self.figure.text(x, self.y, text, size=size, va="top", **style)
        self.y -= lines * LINE

    def heading(self, text):
        self.y -= 0.6 * LINE
        self.line(text, size=HEADING, weight="bold", lines=1.6)


def _first_page(figure):
    page = _Writer(figure)
    page.line("From four opinions to one number", size=TITLE, weight="bold", lines=2.2)
    page.line("A preference pair is labelled on one aspect. What do the others say? (arXiv 2508.07638)", lines=2)
    page.heading("Names")
    for text in NAMES:
        page.line(text, lines=2.6 if "dfrac" in text else 1.6)
    page.heading("Seven lines")
    for number, (reason, formula) in enumerate(DERIVATION, start=1):
        page.line(f"{number}", weight="bold", lines=0)
        page.line(reason, x=LEFT + 0.03, lines=1.3)
        page.line(formula, x=LEFT + 0.06, size=TEXT + 2, lines=3.1 if "dfrac" in formula else 2.3)
    page.heading("Why the most negative?")
    for text in THEOREM:
        page.line(text, lines=1.6)
    page.line("All seven lines, with code beside them, are in notebook 00.", size=SMALL, color="0.4")
    _upside_down(figure)


def _second_page(figure):
    page = _Writer(figure)
    page.line("Four pairs to compute by hand", size=TITLE, weight="bold", lines=2.4)
    for name, (prompt, chosen, rejected) in PROMPTS.items():
        page.line(name, weight="bold", lines=0)
        page.line(prompt, x=LEFT + 0.05, style="italic", lines=1.2)
        page.line(f"chosen, for its {ASPECT[name]}:  {chosen}", x=LEFT + 0.05, lines=1.2)
        page.line(f"rejected:  {rejected}", x=LEFT + 0.05, lines=1.8)
    page.line(
        "What each aspect says of the label (+ agrees, - contradicts). The label's own aspect is never read:", lines=1.5
    )
    _table(figure, page)
    for text in TASKS:
        page.line(text, lines=1.5)
        page.y -= 2.6 * LINE  # room to write
    page.heading("Names of the methods")
    for name, meaning in GLOSSARY:
        page.line(name, weight="bold", lines=0)
        page.line(meaning, x=LEFT + 0.17, lines=1.3)


def _table(figure, page):
    """The margins, the label's own in grey, and an empty column for PD."""
    height = 0.125
    axes = figure.add_axes((LEFT, page.y - height, RIGHT - LEFT, height))
    axes.axis("off")
    text = MARGINS.map(lambda value: "?" if pd.isna(value) else f"{value:+.1f}").assign(PD="")
    table = axes.table(
        text.to_numpy(),
        rowLabels=[f"{name} ({ASPECT[name]})" for name in text.index],
        rowLoc="center",
        colLabels=[f"{name} says" if name != "PD" else "PD = ?" for name in text],
        cellLoc="center",
        bbox=(0.17, 0, 0.83, 1),
    )
    table.auto_set_font_size(False)
    table.set_fontsize(TEXT)
    for row, own in enumerate(ASPECT, start=1):
        table[row, list(text).index(own)].set_facecolor("0.88")
    page.y -= height + 1.5 * LINE


def _upside_down(figure):
    """The answers to the second page, for those who turn the first one round."""
    divergence = answers()
    weights = expit(-divergence)
    said = [
        "1. " + ", ".join(f"{name} {value:+.1f}" for name, value in (divergence + 0.0).items()),
        "2. keep " + " and ".join(divergence.nsmallest(2).index) + f"; drop {divergence.idxmax()} first",
        "3. -(.5 + .4 w) and -(-.2 + .8 w) meet at w = 1.75",
        "4. " + ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items()),
    ]
    style = {"rotation": 180, "ha": "right", "va": "bottom", "color": "0.35", "multialignment": "left"}
    figure.text(RIGHT, 0.03, "\n".join(said), size=SMALL - 1, **style)
