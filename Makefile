# make help lists the targets; every test target makes its own virtual environment.
PYTHON ?= python3
THREADS = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

help:            ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

demo: .venv-demo/done       ## attribute the embedded network, write its report
	mkdir -p out
	.venv-demo/bin/refspec attribute --plot out/spectrum.png
	.venv-demo/bin/refspec report -o out/report.html

test: .venv-test/done       ## lint the layers and run the tests
	.venv-test/bin/lint-imports
	$(THREADS) .venv-test/bin/python -m pytest -n 2

coverage: .venv-test/done   ## lines and branches of refspec that the tests reach
	$(THREADS) .venv-test/bin/python -m pytest -n 2 --cov --cov-report=term

quick: .venv-test/done      ## the tests that take under a second
	$(THREADS) .venv-test/bin/python -m pytest -n 2 -m "not slow"

test-frameworks: .venv-frameworks/done  ## the tests against real deep-learning libraries
	$(THREADS) .venv-frameworks/bin/python -m pytest -n 2 tests/frameworks refspec/exporters refspec/jax.py refspec/torch.py \
		tests/fuzz/test_fuzz_exporters.py docs/howto/export.md \
		-o addopts="-ra --import-mode=importlib --strict-markers --doctest-modules --doctest-glob=docs/howto/*.md"

mutants: .venv-frameworks/done  ## wrong versions of one line, each killed by its package's tests, half an hour
	$(THREADS) .venv-frameworks/bin/python tests/mutants/run.py --write $(MUTANTS)

mutants-changed: .venv-frameworks/done  ## those of packages changed from BASE, and others, WITHIN seconds
	$(THREADS) .venv-frameworks/bin/python tests/mutants/run.py --since $(BASE) --seconds $(WITHIN)

mutate: .venv-mutants/done  ## a library's mutants of the kernels, a random sample, a quarter of an hour
	cd tests && $(THREADS) ../.venv-mutants/bin/python -m mutants.library $(MUTATE)

fuzz: .venv-test/done       ## spoil 100,000 archives and 20,000 stores, 10 minutes each at most
	$(THREADS) REFSPEC_FUZZ=$(FUZZ) REFSPEC_FUZZ_SEED=$(SEED) \
		.venv-test/bin/python -m pytest tests/fuzz -q -s

adversarial: .venv-test/done  ## 10,000 hard spectra against 400-bit arithmetic, write the table
	$(THREADS) REFSPEC_ADVERSARIAL=10000 .venv-test/bin/python -m pytest tests/adversarial -q -s

fresh: .venv-test/done      ## the property tests on new examples, once for each of SEEDS, half a minute each
	for seed in $(SEEDS); do $(THREADS) HYPOTHESIS_PROFILE=fresh .venv-test/bin/python -m pytest -n 2 -q \
		--hypothesis-seed=$$seed tests/core/test_structure.py tests/attribution tests/theorems || exit 1; done

deep: .venv-test/done       ## 5,000 random examples a property test, hours
	$(THREADS) HYPOTHESIS_PROFILE=deep .venv-test/bin/python -m pytest -n 2 -m "not slow"

gallery: .venv-test/done   ## run the demos and build a page of their pictures
	.venv-test/bin/python demos/gallery.py out/gallery $(GALLERY)

docs: .venv-docs/done       ## build the documentation site, out/docs/index.html, and follow its links
	$(THREADS) .venv-docs/bin/sphinx-build -W -n -c docs . out/docs
	.venv-docs/bin/python -m pytest tests/docs/test_links.py -o addopts="-ra" -q

test-docs: docs             ## the site in a real browser, wide and narrow, and by axe-core
	.venv-docs/bin/python -m pytest tests/docs/test_browser.py -o addopts="-ra" -q

test-browser: .venv-browser/done  ## the report in a real browser (Debian: chromium, chromium-driver)
	$(THREADS) .venv-browser/bin/python -m pytest tests/browser -o addopts="-ra --strict-markers"

conformance: .venv-peers/done  ## run the curvature libraries against the oracle, write the table
	REFSPEC_WRITE=1 .venv-peers/bin/python -m pytest tests/conformance -o addopts="-ra" -o filterwarnings=ignore -q

conformance-main: .venv-peers-main/done  ## the same with the libraries' main branches
	REFSPEC_WRITE=1 .venv-peers-main/bin/python -m pytest tests/conformance -o addopts="-ra" -o filterwarnings=ignore -q

conformance-kfac-jax: .venv-kfac-jax/done  ## the same with kfac-jax, which needs an older JAX
	REFSPEC_WRITE=1 .venv-kfac-jax/bin/python -m pytest tests/conformance \
		tests/frameworks/test_kfac_jax.py -o addopts="-ra" -o filterwarnings=ignore -q

oracle: .venv-test/done     ## every mistake that the oracle names, 1,000 right answers, write the table
	$(THREADS) .venv-test/bin/python tests/testing/oracle_table.py > tests/testing/oracle.md

exports: .venv-frameworks/done  ## networks through the PyTorch exporter, write the table
	$(THREADS) .venv-frameworks/bin/python tests/frameworks/exports_table.py > tests/frameworks/exports.md

moments-large: .venv-frameworks/done  ## torchvision's networks by differentiation, ten minutes, write the table
	$(THREADS) .venv-frameworks/bin/python tests/frameworks/large_table.py > tests/frameworks/large.md

laws: .venv-frameworks/done  ## laws of layers against trained networks, two hours, write the table
	$(THREADS) .venv-frameworks/bin/python tests/networks/laws.py

moments: .venv-frameworks/done  ## networks that differentiation is tried on, write the table
	$(THREADS) .venv-frameworks/bin/python tests/frameworks/moments_table.py > tests/frameworks/moments.md

release: .venv-release/done ## build, check and try what is to be published, links made absolute by URL=https://... (DOCS_URL=); EXTRAS="torch jax" tries those too
	rm -rf build dist out/release
	.venv-release/bin/python tests/release/addressed.py out/release $(URL) $(DOCS_URL)
	.venv-release/bin/cffconvert --validate -i out/release/CITATION.cff
	.venv-release/bin/python -m build --outdir dist out/release
	.venv-release/bin/twine check --strict dist/*
	.venv-release/bin/python tests/release/try_release.py dist $(EXTRAS)

extras: .venv-release/done  ## resolve every extra on every Python, install what is light, PYTHONS="python3.11 ..."
	rm -rf build dist
	.venv-release/bin/python -m build
	cd tests && ../.venv-release/bin/python -m release.extras ../dist $(PYTHONS) > release/extras.md

bench: .venv-bench/done     ## time refspec against its peers on the same work
	.venv-bench/bin/python -m pytest tests/benchmarks -o addopts= -o filterwarnings= \
		--benchmark-columns=median,min,rounds --benchmark-sort=fullname -q $(BENCH)

sizes: .venv-bench/done     ## time and memory of large work and of the peers beside it, an hour or two (SIZES="--only Fisher")
	.venv-bench/bin/python -W ignore tests/benchmarks/sizes.py $(SIZES)

hundred: .venv-test/done    ## 100 workers and 10^9 parameters on paper, from bytes counted and a pace measured here, write the page
	$(THREADS) .venv-test/bin/python -W ignore tests/benchmarks/hundred.py > tests/benchmarks/hundred.md

growth: .venv-test/done     ## slopes of time and memory in N, C, P, T for each way, five minutes, write page and picture
	$(THREADS) .venv-test/bin/python -W ignore tests/benchmarks/growth.py > tests/benchmarks/growth.md

seeds: .venv-test/done      ## largest eigenvalues and densities against all eigenvalues, 1,000 seeds, ten minutes, write the table
	$(THREADS) .venv-test/bin/python -W ignore tests/benchmarks/seeds.py > tests/benchmarks/seeds.md

lint: .venv-test/done       ## ruff, mypy and the import contracts
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy
	.venv-test/bin/lint-imports

# An environment has the extra of its name, but for these.
WITH = $*
.venv-demo/done: WITH = all
.venv-test/done: WITH = test,lint
.venv-kfac-jax/done: WITH = peers-kfac-jax

.venv-%/done: setup.cfg
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet -e ".[$(WITH)]"
	touch $@

# Main branches over the releases; what cannot be installed is noted, and tried again.
MAIN = curvlinops-for-pytorch=f-dangel/curvlinops backpack-for-pytorch=f-dangel/backpack \
	vivit-for-pytorch=f-dangel/vivit nngeometry=tfjgeorge/nngeometry \
	hessian-eigenthings=noahgolmant/pytorch-hessian-eigenthings \
	laplace-torch=aleximmer/Laplace pyhessian=amirgholami/PyHessian matfree=pnkraemer/matfree
SITE = import site; print(site.getsitepackages()[0])
.venv-peers-main/done: .venv-peers/done
	$(PYTHON) -m venv .venv-peers-main
	echo "import site; site.addsitedir('$$(.venv-peers/bin/python -c "$(SITE)")')" \
		> "$$(.venv-peers-main/bin/python -c "$(SITE)")/releases.pth"
	: > .venv-peers-main/not-installed
	for each in $(MAIN); do \
		.venv-peers-main/bin/pip install --quiet --force-reinstall --no-deps \
			"git+https://github.com/$${each#*=}" 2> .venv-peers-main/log \
			|| echo "$${each%%=*}: $$(grep -am1 fatal .venv-peers-main/log || grep -aim1 error .venv-peers-main/log)" \
				>> .venv-peers-main/not-installed; \
	done
	test -s .venv-peers-main/not-installed || touch $@

FUZZ ?= 100000
PYTHONS ?= $(PYTHON)
# The release before, or what there is of the last twenty commits of a shallow clone.
BASE ?= $(shell git describe --tags --abbrev=0 2>/dev/null || git rev-list -n 20 HEAD | tail -n 1)
WITHIN ?= 150
SEEDS ?= $(shell seq 1 20)
SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')

.PHONY: help demo docs release extras test test-docs adversarial coverage quick test-frameworks test-browser gallery conformance conformance-main \
	conformance-kfac-jax oracle exports laws moments \
	moments-large bench growth hundred seeds sizes lint fuzz fresh deep mutants mutants-changed mutate
