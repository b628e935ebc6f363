# Two commands on a fresh machine: `make demo` and `make test`. Both make the environment in .venv first.
PYTHON ?= $(shell for name in python3.11 python3.12 python3; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2])' 2>/dev/null && echo $$name && break; done)
CONSTRAINTS ?= constraints.txt
BIN = .venv/bin

.PHONY: env demo test test-slow coverage test-slurm test-gpu bench-gpu browser lint format docs bench verify-paper browser podman dicom-tools slurm-up slurm-down clean

env: .venv/ready

.venv/ready: pyproject.toml $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or later was found; install one or set PYTHON="; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) lacks venv; installing Debian's package for it"; \
		apt-get install --yes --quiet python3-venv || { echo "error: install python3-venv, then again"; exit 1; }; }
	@echo "making the environment in .venv: a minute or two, once"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[dev]'
	touch $@

demo: env
	$(BIN)/python jobs/demo.py

# Which tests: such as TESTS=tests/bccdist/test_files.py
TESTS ?=
# One process for each core; a test file stays in one of them.
PROCESSES ?= auto
AT_ONCE = --numprocesses $(PROCESSES) --dist loadfile

test: env
	$(BIN)/python -m pytest $(AT_ONCE) $(TESTS)

test-slow: env
	$(BIN)/python -m pytest $(AT_ONCE) --run-slow

# How much of the code the quick tests run, lines and branches.
coverage: env
	$(BIN)/python -m pytest $(AT_ONCE) --cov --cov-report=term:skip-covered

# A real Slurm on this machine (Debian, root): two nodes with four pretended GPUs each.
slurm-up:
	slurm/mini-cluster.sh install
	slurm/mini-cluster.sh start
	@echo 'running; in your shell: eval "$$(slurm/mini-cluster.sh env)", then launchers with --site mini'

slurm-down:
	slurm/mini-cluster.sh stop

test-slurm: env
	$(BIN)/python -m pytest --run-slow -m slurm -p no:cacheprovider --durations=5

# Chromium with its driver, and Firefox, for the tests of the review page (Debian, root).
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null && command -v firefox-esr >/dev/null || { \
		echo "installing Debian's Chromium and Firefox for the tests of the review page"; \
		apt-get update --quiet && DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet \
			--no-install-recommends chromium chromium-driver firefox-esr fonts-dejavu-core || { \
		echo "error: Chromium and Firefox could not be installed: run this as root on Debian, or install both yourself"; exit 1; }; }

# Containers, for the test of a stage in one (Debian, root). Images come from no registry.
podman:
	@command -v podman >/dev/null && command -v runc >/dev/null || { \
		echo "installing Debian's podman and runc for the test of a stage in a container"; \
		apt-get update --quiet && DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet \
			--no-install-recommends podman runc || { \
		echo "error: podman could not be installed: run this as root on Debian, or install podman and runc yourself"; exit 1; }; }

# A checker of DICOM files and an archive, for the tests of analysis/dicom.py (Debian, root).
dicom-tools:
	@command -v dciodvfy >/dev/null && command -v Orthanc >/dev/null || { \
		echo "installing Debian's dicom3tools and Orthanc for the tests of DICOM files"; \
		apt-get update --quiet && DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet \
			--no-install-recommends dicom3tools orthanc || { \
		echo "error: they could not be installed: run this as root on Debian, or install dciodvfy and Orthanc yourself"; \
		exit 1; }; }

# Acceptance on a machine with one or more GPUs, some minutes. Where there is none both say so and fail.
test-gpu: env
	$(BIN)/python -m pytest --run-gpu -m gpu -p no:cacheprovider --durations=10 tests/gpu

# Prints a section for benchmarks/RESULTS.md; such as BENCH='--out gpu.md'.
bench-gpu: env
	$(BIN)/python -m benchmarks.gpu $(BENCH)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The manual as a site: build/site/index.html. A link that leads nowhere is an error.
docs: env
	rm -rf build/site
	$(BIN)/python -m sphinx -W --keep-going -n -q -E -c docs -d build/doctrees . build/site

# From slide to heatmap against other tools; such as BENCH='--width 16 --peers TIAToolbox=/path/to/python'
BENCH ?=

bench: env
	$(BIN)/python -m benchmarks.heatmaps $(BENCH)

# With STUDY=studies/bcc also that study beside the paper.
STUDY ?=

verify-paper: env
	$(BIN)/python jobs/verify_paper.py $(STUDY)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache *.egg-info
