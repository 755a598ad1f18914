# pjfail from a clone. Every target first makes what it needs, and makes nothing twice.

PYTHON ?= python3
VENV ?= .venv
PJPROJECT_DIR ?=
FOR ?=
SANITIZERS ?= address thread
SOAK_SECONDS ?= 1800

tree := $(or $(PJPROJECT_DIR),third_party/pjproject/src)
python := $(VENV)/bin/python
pip := $(python) -m pip --disable-pip-version-check --no-input
done := $(VENV)/done
sources := $(wildcard pjfail/_core/*.c pjfail/_core/*.h pjfail_build.py setup.py pjfail.pth) pyproject.toml
c_files := $(foreach folder,pjfail/_core examples bench tests/fuzz tests/native tests/rig/telephony,$(wildcard $(folder)/*.[ch]))
sources += $(if $(PJPROJECT_DIR),,third_party/pjproject/config_site.h)
extension = $(wildcard pjfail/_native*.so)

ifneq ($(words $(CURDIR)) $(words $(VENV)) $(words $(tree)),1 1 1)
$(error pjproject cannot be built in a folder with a space in its name: $(CURDIR), $(VENV), $(tree))
endif

# The extension lies in the source tree: made for another pjproject tree, it is made again.
built_for := build/pjproject-tree
ifneq ($(abspath $(tree)),$(and $(extension),$(shell cat $(built_for) 2>/dev/null)))
$(done)/pjfail: again
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test sanitize bench lint clean distclean again build-packages test-packages sanitize-packages musl-packages
.PHONY: pjproject fuzz soak docs embed dist test-wheel test-hosts test-musl test-apps sanitize-hosts
.PHONY: unit check format headers wrapper pjsua2 ready-pjsua2 pjsua2-wheel arm64-packages

# One goal's prerequisites are made in parallel; several goals are made one after the other.
jobs := $(or $(shell nproc 2>/dev/null),1)
MAKEFLAGS += --jobs=$(jobs)
unexport MAKEFLAGS
ifneq ($(word 2,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif

help:
	@echo 'make setup      $(VENV) with pjfail and the real pjsua2, from nothing'
	@echo 'make demo       the same program twice, stock pjsip and pjfail, while its SIP server falls silent'
	@echo 'make unit       the tests that take seconds, which need no pjsip'
	@echo 'make check      lint, and make unit'
	@echo 'make test       lint and docs, then all tests'
	@echo 'make test-hosts what works in every kind of host: pjsua2 static, shared, from PyPI, PJPROJECT_DIR, newer Pythons, ARM; a table'
	@echo 'make test-musl  the same in Pythons built with musl, also for ARM, which are made first, some minutes'
	@echo 'make test-apps  programs as people write them, unmodified, while their registrar fails: all combinations'
	@echo 'make sanitize   the tests of the C core, with it and pjsip built with the sanitizers, half an hour'
	@echo 'make sanitize-hosts  the programs of make test-hosts on such a core, in two hosts'
	@echo 'make fuzz       50 000 damaged answers of name servers, 30 000 of SIP servers, some eight minutes'
	@echo 'make soak       requests and calls for $(SOAK_SECONDS) s while servers die and return'
	@echo 'make bench      the figures of the bench, and the fault matrix, as tables, in bench/out and in docs/faults.svg'
	@echo 'make embed      build/embed, a C program with the core and without Python'
	@echo 'make lint       ruff, clang-format, mypy, the order of imports, the layers of the C core'
	@echo 'make format     the formatting that make lint wants, of Python and C'
	@echo 'make docs       the documentation, from docs/ and the docstrings, in build/docs/index.html'
	@echo 'make dist       the sdist and the wheels, glibc and musl, x86-64 and ARM, in dist/'
	@echo 'make pjsua2-wheel  a wheel of pjsua2 for PYTHON, optimised, in build/pjsua2, a minute or two'
	@echo 'make test-wheel the wheel in an empty environment, the pjsua2 wheel beside it, without a compiler'
	@echo 'make clean      removes what was built here; the pjproject tree stays'
	@echo 'make distclean  removes the fetched pjproject tree and its archive too'
	@echo
	@echo 'PJPROJECT_DIR=  a pjproject tree of your own (now: $(tree))'
	@echo 'FOR=            arm64, or arm64-trixie: make pjsua2-wheel makes it for the Python of that Debian for ARM'
	@echo 'VENV=           another folder for the virtual environment (now: $(VENV))'
	@echo 'SANITIZERS=     which of them make sanitize uses (now: $(SANITIZERS))'
	@echo 'SOAK_SECONDS=   how long make soak runs (now: $(SOAK_SECONDS))'
	@echo 'PYTHON=         the Python to make it with, 3.11 or later (now: $(PYTHON))'

setup: $(done)/pjfail pjsua2
	@echo 'setup: pjfail and pjsua2 are ready in $(VENV)'

# A tree of your own is there to be used.
demo: $(done)/pjfail $(done)/demo $(if $(PJPROJECT_DIR),pjsua2,ready-pjsua2)
	@$(python) -m pjfail demo

unit: $(done)/pjfail $(done)/test
	@$(python) -m pytest -q -n logical -m 'not slow' --hypothesis-profile quick tests/unit

check: lint unit

# The longest first, so that nobody waits for a last long one; three at a time for each processor, for most tests wait.
longest := $(patsubst %,tests/%.py,integration/test_dns_faults integration/test_doctor_command integration/test_failover_of_requests \
	e2e/test_churn e2e/test_fault_matrix integration/test_life integration/test_core_regressions e2e/test_examples \
	integration/test_follow integration/test_hosts_in_process)
# Of other Pythons and of a program for ARM, which qemu runs, this has a failover; make test-hosts has all of them.
part := not test_hosts.py or wheel or (polls and not arm64 and not python3) \
	or (python3 and (failover or challenge or installed)) \
	or (arm64 and threads and (challenge or silence or raced or installed))
test: setup test-packages lint docs $(done)/test $(done)/dist
	@tools/hosts.sh '$(python)' '$(tree)' $(if $(PJPROJECT_DIR),own,static) wheel pybind11 python3.14 arm64
	@PYTEST_XDIST_AUTO_NUM_WORKERS=$$((3 * $(jobs))) PJFAIL_TEST_HOSTS=build/hosts/list $(python) -m pytest -n auto \
		--dist loadfile --no-loadscope-reorder -k '$(part)' \
		$(longest) tests/e2e tests/hosts tests/integration tests/unit

# Programs as people have them, in all their combinations: what make test has a part of.
test-apps: setup test-packages $(done)/test
	@PJFAIL_TEST_APPS=all $(python) -m pytest -n auto --dist load tests/apps tests/integration/test_apps.py

# Where a host is not there, the table says so.
test-hosts: setup test-packages $(done)/test $(done)/dist
	@tools/hosts.sh '$(python)' '$(tree)' static shared wheel pybind11 python3.12 python3.13 python3.14 python3.15 own \
		arm64 arm64-trixie
	@PJFAIL_TEST_HOSTS=build/hosts/list $(python) -m pytest tests/hosts

# The hosts of those that take longest to build. Debian has no OpenSSL for musl.
test-musl: setup test-packages musl-packages $(done)/test $(done)/dist
	@tools/hosts.sh '$(python)' '$(tree)' musl musl-arm64
	@PJFAIL_TEST_HOSTS=build/hosts/list $(python) -m pytest tests/hosts -k 'not tls'

# Both have their say, whatever the first one finds. The longest tests first.
sanitized := $(patsubst %,tests/integration/test_%.py,failover_scenarios failover_of_requests life follow health_of_servers failover core_regressions pin \
	pjsip_dns pin_misuse request route_via application_decides other_transports own_stall refresh retry_rules dialogs \
	moved_calls closed_connections standby subscriptions network calls_refreshed contact_port connections_by_servers)
sanitize: setup sanitize-packages $(done)/test
	@failed=; for kind in $(SANITIZERS); do \
	    tools/sanitize.sh '$(python)' '$(tree)' $$kind $(sanitized) || failed="$$failed $$kind"; \
	done; \
	if [ "$$failed" ]; then echo "sanitize: FAILED:$$failed"; exit 1; else echo 'sanitize: passed: $(SANITIZERS)'; fi

sanitize-hosts: setup sanitize-packages $(done)/test
	@tools/hosts.sh '$(python)' '$(tree)' static wheel
	@PJFAIL_TEST_HOSTS=build/hosts/list tools/sanitize.sh '$(python)' '$(tree)' address tests/hosts

fuzz: setup sanitize-packages $(done)/test
	@tools/sanitized_pjsip.sh '$(tree)' address
	@PJPROJECT_DIR='$(abspath $(tree))' $(python) -m pytest tests/fuzz

soak: setup $(done)/test
	@SOAK_SECONDS='$(SOAK_SECONDS)' $(python) -m pytest -s tests/soak

bench: setup test-packages $(done)/test
	@PJPROJECT_DIR='$(abspath $(tree))' $(python) -m bench

embed: pjproject
	@tools/step.sh embed 'building build/embed' $(MAKE) -C examples PJPROJECT_DIR='$(abspath $(tree))'

lint: $(done)/lint $(done)/demo | headers
	@echo 'lint: ruff, clang-format, mypy, the order of imports, the layers of the core'
	@$(python) -m ruff check --quiet --extend-exclude third_party .
	@$(python) -m ruff format --quiet --check --extend-exclude third_party . || { echo 'lint: run make format'; exit 1; }
	@$(VENV)/bin/clang-format --dry-run --Werror $(c_files) || { echo 'lint: run make format'; exit 1; }
	@$(python) -m mypy --no-error-summary
	@$(python) -m mypy --no-error-summary tests/typing
	@$(python) tools/import_order.py
	@PJPROJECT_DIR='$(abspath $(tree))' $(python) tools/check_layers.py

format: $(done)/lint
	@$(python) -m ruff format --extend-exclude third_party .
	@$(VENV)/bin/clang-format -i $(c_files)

dist: pjproject $(done)/dist
	@tools/dist.sh '$(python)' '$(tree)'

# For PYTHON, whatever Python $(VENV) is of; it is left alone. FOR=arm64[-SUITE]: for the Python of that Debian for ARM.
ifneq ($(filter-out arm64 arm64-%,$(FOR)),)
$(error "$(FOR)" is not a machine that pjsua2 is built for here; write FOR=arm64, FOR=arm64-trixie, or nothing for this one)
endif
pjsua2-wheel: pjproject $(if $(FOR),arm64-packages)
	@$(if $(FOR),tools/arm64.sh build/hosts/$(FOR) $(patsubst arm64-%,%,$(filter arm64-%,$(FOR))))
	@tools/pjsua2-wheel.sh '$(PYTHON)' '$(tree)' $(if $(FOR),build/hosts/$(FOR))

test-wheel: dist $(done)/lint
	@tools/test_wheel.sh '$(python)' dist '$(tree)'

docs: $(done)/pjfail $(done)/docs
	@echo 'docs: build/docs/index.html'
	@rm -rf build/docs
	@$(python) -m sphinx -q -E -W --keep-going -d build/doctrees docs build/docs
	@$(python) tools/check_docs.py build/docs

clean:
	@if [ -e '$(VENV)/made-by-pjfail' ]; then echo 'clean: $(VENV)'; rm -rf '$(VENV)'; \
	elif [ -e '$(VENV)' ]; then echo 'clean: $(VENV) was not made here, and stays'; fi
	@echo 'clean: the extension, build/, bench/out/ and caches'
	@rm -rf build dist bench/out *.egg-info pjfail/_native*.so pjfail/_native.c pjfail/_native.o
	@rm -rf .ruff_cache .mypy_cache .pytest_cache .hypothesis
	@find pjfail tests bench examples tools -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean
	@echo 'clean: the fetched pjproject'
	@rm -rf third_party/pjproject/src third_party/pjproject/download third_party/pjproject/*.tar.xz

build-packages:
	@tools/system-packages.sh build '$(PYTHON)'

test-packages: | build-packages
	@tools/system-packages.sh test '$(PYTHON)'

sanitize-packages: | build-packages
	@tools/system-packages.sh sanitize '$(PYTHON)'

arm64-packages: | build-packages
	@tools/system-packages.sh arm64 '$(PYTHON)'

musl-packages: | build-packages
	@tools/system-packages.sh musl '$(PYTHON)'

headers: | build-packages
ifeq ($(PJPROJECT_DIR),)
	@third_party/pjproject/fetch.sh
endif
	@third_party/pjproject/build.sh --configure-only '$(tree)'

pjproject: headers
	@third_party/pjproject/build.sh '$(tree)'

wrapper: headers $(done)/venv
	@third_party/pjproject/pjsua2.sh --compile-only '$(tree)' '$(VENV)'

pjsua2: pjproject wrapper
	@third_party/pjproject/pjsua2.sh '$(tree)' '$(VENV)'

# Any pjsua2 serves the demo: where there is a wheel of it, none is built. (Not $(MAKE), which make runs with -n too.)
again_make := $(MAKE) --no-print-directory PYTHON='$(PYTHON)' VENV='$(VENV)'
ready-pjsua2: headers $(done)/pjfail-needs
	@tools/ready-pjsua2.sh '$(python)' || $(again_make) pjsua2

$(done)/venv: | build-packages
	@tools/step.sh venv 'making $(VENV)' tools/venv.sh '$(VENV)' '$(PYTHON)'
	@mkdir -p $(done)
	@touch $@

$(done)/pjfail-needs: pyproject.toml $(done)/venv
	@mkdir -p build
	@$(python) tools/requirements.py >build/requirements.txt
	@tools/step.sh venv 'installing the Python packages that pjfail needs' $(pip) install -r build/requirements.txt
	@touch $@

$(done)/demo $(done)/test $(done)/lint $(done)/docs $(done)/dist: $(done)/pjfail-needs
	@mkdir -p build
	@$(python) tools/requirements.py $(@F) >build/requirements-$(@F).txt
	@flock $(done) tools/step.sh venv-$(@F) 'installing the Python packages for $(@F)' \
		$(pip) install -r build/requirements-$(@F).txt
	@touch $@

# With the headers of another tree the C compiler must not find its old work good enough.
$(done)/pjfail: $(sources) $(done)/pjfail-needs | headers
	@rm -rf $(extension) build/temp* build/lib*
	@PJPROJECT_DIR='$(abspath $(tree))' tools/step.sh pjfail 'building the extension' \
		$(pip) install --no-build-isolation --no-deps --config-settings editable_mode=compat --editable .
	@echo '$(abspath $(tree))' >$(built_for)
	@touch $@
