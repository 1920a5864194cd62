# Everything a newcomer types. Needs Python 3.11 or newer, pip and make.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# The session provider that browsers log in through, in tests.
OAUTH2_PROXY_VERSION := v7.15.6
OAUTH2_PROXY := .tools/oauth2-proxy-$(OAUTH2_PROXY_VERSION)/oauth2-proxy

.PHONY: help run test fuzz mutants chaos soak clients pictures lint format lock audit sbom bench steps bench-peers clean schemas image-check docs

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.demo ## Start the local mesh: a real Envoy, three tenants, curl lines to paste
	$(BIN)/extauthz demo $(ARGS)

test: $(VENV)/.test ## Run the whole suite on a real Envoy, with coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

SOAK_MINUTES ?= 10

soak: $(VENV)/.test ## Keep everything changing for SOAK_MINUTES, then the outages in their full length
	$(BIN)/python -m tests.chaos.soak --minutes $(SOAK_MINUTES) $(ARGS)
	$(BIN)/python -m pytest -m soak -s

chaos: $(VENV)/.test ## Break one thing after the other under load, through a real Envoy, and print a table
	$(BIN)/python -m tests.chaos $(ARGS)

clients: $(VENV)-kfp/.ready $(VENV)-jupyter/.ready $(OAUTH2_PROXY) ## Install the real clients that some tests drive (else those are skipped)

pictures: $(VENV)/.test ## Take the docs' pictures of the demo, in a real Chromium; takes four minutes
	$(BIN)/python -m tests.clients.pictures docs/images

lint: $(VENV)/.test $(VENV)-image/.ready ## Check style, types, the direction of imports and the Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(VENV)-image/bin/hadolint Dockerfile

format: $(VENV)/.test ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

FUZZ_SECONDS ?= 60

fuzz: $(VENV)/.test ## Fuzz each target for FUZZ_SECONDS, guided by coverage, and write docs/fuzz.md (Linux on x86-64)
	$(BIN)/pip install --quiet --require-hashes --requirement requirements/fuzz.txt
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) --markdown docs/fuzz.md $(ARGS)

# One at a time: tests wait for real clocks, and a stalled one would count as noticed.
mutants: $(VENV)/.test ## Change what decides in one place at a time, and see which changes the tests notice; takes hours
	$(BIN)/pip install --quiet --require-hashes --requirement requirements/mutation.txt
	$(BIN)/mutmut run --max-children 1 $(MUTANTS)
	$(BIN)/python -m tests.mutation

image-check: ## Run the Dockerfile's steps without Docker, in a folder of their own, and what they build
	$(PYTHON) .ci/image.py $(PYTHON)

bench: $(VENV)/.bench ## Measure everything in under 10 minutes; fails when a limit is missed
	$(BIN)/python -m bench $(ARGS)

steps: $(VENV)/.bench ## Measure each step of a cached check as a ratio to a fixed one
	$(BIN)/python -m pytest -q -s bench/test_steps.py $(ARGS)

# Istio's sample listens on all addresses, so peers run where there is nothing but loopback.
bench-peers: $(VENV)/.bench ## Measure other servers beside ours; OPA_ENVOY= and KUBE_RBAC_PROXY= name built ones
	$(BIN)/python -m bench.build_peers
	unshare --map-root-user --net sh -c 'ip link set lo up && exec $(BIN)/python -m bench --peers $(ARGS)'

audit: $(VENV)/.test $(VENV)-audit/.ready ## Check licences and known vulnerabilities of what is installed and shipped
	$(VENV)-audit/bin/python .ci/audit.py $(BIN)/python requirements/serve.txt

sbom: $(VENV)-audit/.ready ## Write build/sbom.json: what is shipped, in CycloneDX
	mkdir -p build
	$(VENV)-audit/bin/cyclonedx-py requirements requirements/serve.txt --pyproject pyproject.toml --mc-type application \
		--output-reproducible --of JSON --output-file build/sbom.json

docs: $(VENV)/.test ## Write what is generated anew: docs/settings.md and the JSON Schemas
	$(BIN)/extauthz schema settings --markdown > docs/settings.md
	for kind in audit policy settings shadow test; do $(BIN)/extauthz schema $$kind > policies/schema/$$kind.schema.json; done

clean: ## Remove everything that was built
	rm -rf $(VENV) $(VENV)-* .tools mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* build dist

$(VENV)/.python:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml requirements/demo.txt
	$(BIN)/pip install --quiet --require-hashes --requirement requirements/demo.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.test: $(VENV)/.python pyproject.toml requirements/test.txt
	$(BIN)/pip install --quiet --require-hashes --requirement requirements/test.txt
	@# xds-protos lays an older copy over opentelemetry-proto's files.
	sed -n '/^opentelemetry-proto==/,/[^\\]$$/p' requirements/test.txt > $(VENV)/opentelemetry-proto.txt
	$(BIN)/pip install --quiet --force-reinstall --no-deps --require-hashes --requirement $(VENV)/opentelemetry-proto.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@ $(VENV)/.demo

# A stripped build of a pinned version; Go checks its modules against the public checksums.
$(OAUTH2_PROXY):
	@if command -v go >/dev/null; then \
		GOBIN=$(CURDIR)/$(@D) go install -ldflags=-s github.com/oauth2-proxy/oauth2-proxy/v7@$(OAUTH2_PROXY_VERSION); \
	else echo "Go is missing: tests with a real oauth2-proxy are skipped"; fi

$(VENV)/.bench: $(VENV)/.test requirements/bench.txt
	$(BIN)/pip install --quiet --require-hashes --requirement requirements/bench.txt
	touch $@

# Real clients pin what we cannot: each has an environment of its own.
$(VENV)-%/.ready: tests/clients/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --require-hashes --requirement $<
	touch $@

$(VENV)-audit/.ready $(VENV)-image/.ready: $(VENV)-%/.ready: requirements/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --require-hashes --requirement $<
	touch $@

schemas: $(VENV)/.test ## Write the schemas of Istio's kinds anew, which tests hold istio/ against; needs Go
	$(BIN)/python tests/mesh/collect_schemas.py

# Every version with its hashes. What is locked stays as it is until LOCK="--upgrade" or "--upgrade-package NAME".
COMPILE = $(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command 'make lock' $(LOCK)

lock: $(VENV)-lock/.ready ## Lock the dependencies again, after a change in pyproject.toml or an *.in file
	$(COMPILE) pyproject.toml --group build --extra test --output-file requirements/test.txt
	$(COMPILE) pyproject.toml --group build --extra demo --constraint requirements/test.txt --output-file requirements/demo.txt
	$(COMPILE) pyproject.toml --group build --constraint requirements/test.txt --output-file requirements/serve.txt
	$(COMPILE) pyproject.toml --group build --extra bench --constraint requirements/test.txt --output-file requirements/bench.txt
	$(COMPILE) requirements/audit.in --output-file requirements/audit.txt
	$(COMPILE) requirements/tools.in --output-file requirements/tools.txt
	$(COMPILE) requirements/fuzz.in --output-file requirements/fuzz.txt
	$(COMPILE) requirements/mutation.in --constraint requirements/test.txt --output-file requirements/mutation.txt
	$(COMPILE) requirements/image.in --output-file requirements/image.txt
	$(COMPILE) tests/clients/kfp.in --output-file tests/clients/kfp.txt
	$(COMPILE) tests/clients/jupyter.in --output-file tests/clients/jupyter.txt

$(VENV)-lock/.ready:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet uv==0.13.9
	touch $@
