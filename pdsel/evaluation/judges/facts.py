"""Judges of texts about facts that read no ratings: chrF++ against human texts, and the share of the facts mentioned.

Both give a number per text; a text beats another where its number is higher. People's agreement with them is measured in
`pdsel.experiments.pocket`, and so are answers that ignore what was asked.
"""

import re

from sacrebleu.metrics import CHRF

from pdsel.data.webnlg import fact_line

SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+|\n+")
NOT_A_WORD = re.compile(r"[^\w]+")


def chrf(text, references):
    """chrF++ of a text against the nearest of its references, 0 to 100 (Popović 2017; sacrebleu).

    >>> round(chrf("Aarhus is led by Jacob.", ["Jacob leads Aarhus.", "Aarhus is led by Jacob."]))
    100
    """
    return CHRF(word_order=2).sentence_score(text, list(references)).score


def coverage(text, facts):
    """The share of the facts that a text mentions, 0 to 1, lowered by what is only copied or said again.

    A fact is mentioned where all words of its subject and of its object occur in the text. Its own line, copied from the
    prompt, and a sentence that was said before do not count; the share is multiplied by the share of the text's words that
    do. The property is not looked for, since it is said in many ways.

    Parameters
    ----------
    text : str
    facts : list of list of str
        Subject, property, object.

    Examples
    --------
    >>> facts = [["Aarhus", "leader", "Jacob Bundsgaard"], ["Aarhus", "country", "Denmark"]]
    >>> coverage("Jacob Bundsgaard leads Aarhus.", facts)
    0.5
    >>> coverage("Jacob Bundsgaard leads Aarhus. Jacob Bundsgaard leads Aarhus.", facts)
    0.25
    >>> coverage("Aarhus | leader | Jacob Bundsgaard\\nAarhus | country | Denmark", facts)
    0.0
    """
    sentences = [sentence.strip() for sentence in SENTENCE_ENDS.split(text) if sentence.strip()]
    copied = {fact_line(fact) for fact in facts}
    own = [sentence for sentence in dict.fromkeys(sentences) if sentence not in copied]
    said, everything = _words(" ".join(own)), _words(" ".join(sentences))
    if not said:
        return 0.0
    known = set(said)
    mentioned = [known.issuperset(_words(fact[0]) + _words(fact[2])) for fact in facts]
    return sum(mentioned) / len(facts) * len(said) / len(everything)


def _words(text):
    """The words of a text, without case and punctuation.

    >>> _words("St. Mary's (album)")
    ['st', 'mary', 's', 'album']
    """
    return [word for word in NOT_A_WORD.split(text.replace("_", " ").casefold()) if word]
