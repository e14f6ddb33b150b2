# PYTHON makes .venv; everything else runs in there.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check
SETUP := .venv/.setup-done
# One thread a test process: two processes share the cores.
PYTEST := env -u HF_HUB_OFFLINE OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2


.PHONY: help setup assets quickstart demo docs test compare-smoke bench bench-gpu bench-smoke test-slow lint release-check \
	format clean

help:  ## print this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

setup: $(SETUP)  ## install the pinned versions and this package into .venv

# --no-compile: modules are compiled when they are first imported, which halves the time of the installation.
$(SETUP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: $(PYTHON) is missing or older than Python 3.11; name another one by make PYTHON=..." >&2; exit 2; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(PIP) --no-compile -r requirements.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

assets: $(SETUP)  ## fetch SQuAD 1.1 and MiniLM-L6 (160 MB) into assets/
	$(BIN)/python scripts/fetch_offline_assets.py --assets squad minilm-l6 --output_dir assets

quickstart: $(SETUP)  ## fetch the assets, fine-tune a small teacher on SQuAD and distil a 3-layer student from it
	$(BIN)/itrd-nlp quickstart

demo: quickstart  ## what comes after: push the student to a Hub on this machine, download it, answer, export, report
	$(BIN)/python tests/hub/server.py $(BIN)/python tests/hub/demo.py runs/quickstart/student assets/squad/dev-v1.1.json

docs: $(SETUP)  ## build the site into build/site; a link that leads nowhere is an error
	$(BIN)/mkdocs build --strict

test: lint  ## lint, then every test that is not slow
	$(PYTEST) -m "not slow and not gpu"

compare-smoke: $(SETUP)  ## a tiny comparison of two methods, as make test runs it, too
	$(PYTEST) tests/compare/test_compare_smoke.py

bench: assets  ## all benchmarks, half an hour: benchmarks/results.json and the tables of docs/performance.md
	$(BIN)/python benchmarks/bench.py

bench-gpu: assets  ## the benchmarks of one GPU, about eight minutes: its column of docs/performance.md
	$(BIN)/python benchmarks/bench.py --only train_step_bert matmul_share_bert losses --rounds 2

bench-smoke: $(SETUP)  ## their ratios at a small size against the recorded ones, as make test-slow does it, too
	$(PYTEST) tests/benchmarks

test-slow: $(SETUP)  ## the slow tests
	$(PYTEST) -m "slow and not gpu"

lint: $(SETUP)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict itrd_nlp

# A clean environment: what pip installs with the wheel, and nothing of .venv. twine sees what an index would refuse.
release-check:  ## build wheel and source archive, check them, install the wheel into a clean environment and test it there
	rm -rf build dist
	$(PYTHON) -m venv build/release
	build/release/bin/python -m pip install --disable-pip-version-check build twine pytest filelock packaging
	build/release/bin/python -m build --outdir dist .
	build/release/bin/python -m twine check --strict dist/*
	build/release/bin/python -m pip install --disable-pip-version-check dist/*.whl
	build/release/bin/python -m pip check
	RELEASE_PYTHON=build/release/bin/python OMP_NUM_THREADS=1 build/release/bin/python -m pytest -q tests/release
	@! grep -rl --include=*.toml --include=*.md --include=*.cff 'github.com/OWNER/' . || \
		echo "The files are good. Before an upload write the owner of the repository in place of OWNER in the files above."

format: $(SETUP)  ## rewrite the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove caches and build outputs; .venv, assets and runs stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
