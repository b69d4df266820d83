"""The rated data sets that are known by name: their place on the hub, revision and licence."""

from dataclasses import dataclass

from huggingface_hub import hf_hub_download

from pdsel.checks import DataError

GZIPPED = {"train": ["train.jsonl.gz"], "validation": ["validation.jsonl.gz"]}


def fetch(repository, files, revision, remedy):
    """The paths of files of a data set on the hub, downloaded unless they are in the local cache.

    Raises
    ------
    ValueError
        With the remedy, if the hub cannot be reached or does not grant access to the files.
    """
    try:
        return [hf_hub_download(repository, file, repo_type="dataset", revision=revision) for file in files]
    except (OSError, ValueError) as error:  # every error of the hub is one of the two
        named = ", ".join(files)
        raise DataError(f"{repository}: no access to {named} ({type(error).__name__}). Remedy: {remedy}") from error


@dataclass(frozen=True)
class Source:
    """A data set on the hub.

    Attributes
    ----------
    repository, revision : str
        The revision is a commit, so that the data behind a result cannot change.
    files : dict
        Split to file names.
    licence : str
        As it is written on the hub's cards.
    citation : str
        BibTeX.
    """

    repository: str
    revision: str
    files: dict
    licence: str
    citation: str

    @property
    def homepage(self):
        """The page of the data set on the hub."""
        return f"https://huggingface.co/datasets/{self.repository}"

    def fetch(self, split, revision=None):
        """The paths of the files of a split, from the hub or its local cache.

        Raises
        ------
        ValueError
            For an unknown split, or if the hub cannot be reached; the message says what to download.
        """
        if split not in self.files:
            raise DataError(f"split={split!r}: {self.repository} has {list(self.files)}")
        revision = revision or self.revision
        remedy = f"download {self.homepage}/tree/{revision} (these files only) into a folder and give its path with clean=True"
        return fetch(self.repository, self.files[split], revision, remedy)


def find_source(name):
    """The data set that is known by this name or is in this repository; None for any other name.

    >>> find_source("openbmb/UltraFeedback") is find_source("ultrafeedback") is not None
    True
    """
    repositories = {source.repository: source for source in SOURCES.values()}
    return SOURCES.get(str(name)) or repositories.get(str(name))


SOURCES = {
    "ultrafeedback": Source(
        repository="openbmb/UltraFeedback",
        revision="40b436560ca83a8dba36114c22ab3c66e43f6d5e",  # overall_score corrected (2023-12-29): 1 was stored as 10
        files={
            "train": [  # TruthfulQA comes first, since its prompts are removed from the others
                "truthful_qa.jsonl",
                "evol_instruct.jsonl",
                "false_qa.jsonl",
                "flan.jsonl",
                "sharegpt.jsonl",
                "ultrachat.jsonl",
            ]
        },
        licence="mit",
        citation="@article{cui2023ultrafeedback, title={UltraFeedback: Boosting Language Models with Scaled AI Feedback}, "
        "author={Cui, Ganqu and others}, journal={arXiv:2310.01377}, year={2023}}",
    ),
    "helpsteer": Source(
        repository="nvidia/HelpSteer",
        revision="3ca5d59c1bc1080af195b4254e7407db60b6f450",
        files=GZIPPED,
        licence="cc-by-4.0",
        citation="@article{wang2023helpsteer, title={HelpSteer: Multi-attribute Helpfulness Dataset for SteerLM}, "
        "author={Wang, Zhilin and others}, journal={arXiv:2311.09528}, year={2023}}",
    ),
    "helpsteer2": Source(
        repository="nvidia/HelpSteer2",
        revision="990b2711a36180dd19d9c94b8627844866f8982a",
        files=GZIPPED,
        licence="cc-by-4.0",
        citation="@article{wang2024helpsteer2, title={HelpSteer2: Open-source dataset for training top-performing reward "
        "models}, author={Wang, Zhilin and others}, journal={arXiv:2406.08673}, year={2024}}",
    ),
}
