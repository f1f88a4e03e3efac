# A thin front: Meson and Ninja build, tools/ does the rest. `make help` lists the words.

BUILD := build/ninja
SECONDS ?= 60
LTO ?= true
PY := build/venv/bin/python
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: all build deps demo test check test-long bench bench-micro fuzz fmt lint check-asan check-ubsan check-tsan docs help clean
all: build ## build lateen, lateend and lateen-proxy into build/

$(BUILD)/build.ninja: meson.build meson_options.txt
	@test -f $@ || meson setup $(BUILD) --buildtype=release -Db_ndebug=false -Dlto=$(LTO) $(if $(CI),-Dwerror=true) >build/meson.log 2>&1 || \
	  { cat build/meson.log; exit 1; }

build: | deps ## (the same)
	@$(MAKE) -s --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet
	@for p in lateen lateend lateen-proxy; do \
	  f=$$(find $(BUILD)/src -maxdepth 2 -name $$p -type f | head -1); [ -z "$$f" ] || cmp -s "$$f" build/$$p || install -m 755 "$$f" build/$$p; done

deps: ## install what is missing (Debian packages, Python packages in build/venv)
	@mkdir -p build
	@tools/deps.sh

demo: build ## bring up examples/bookshop and show what it does (KEEP=1: stays up until Ctrl-C)
	@KEEP=$(KEEP) tools/demo.sh

test: build ## everything that a change must pass
	@$(PY) tools/test.py --build $(BUILD)

check: build ## unit tests and quick scenes, under a minute
	@$(PY) tools/test.py --build $(BUILD) --quick

test-long: build ## all rounds, soaks and conformance
	@$(PY) tools/test.py --build $(BUILD) --long

bench: build ## lateen-proxy beside Envoy, HAProxy and nginx (ARGS="--rows http2": some of it)
	@$(PY) bench/load/run.py $(ARGS)

bench-micro: build ## resources built, parse, route match, RBAC, metrics: nanoseconds each
	@ninja -C $(BUILD) bench/micro/bench_build bench/micro/bench_h1 bench/micro/bench_metric bench/micro/bench_rbac bench/micro/bench_route >build/bench.log || { cat build/bench.log; exit 1; }
	@for name in build h1 metric rbac route; do $(BUILD)/bench/micro/bench_$$name || exit 1; done

fuzz: | deps ## each parser of foreign bytes under libFuzzer, ASan and UBSan, 60 s each (SECONDS=n)
	@tools/fuzz.sh $(SECONDS)

check-asan check-ubsan check-tsan: check-%: | deps ## unit tests under a sanitizer
	@test -f build/$*/build.ninja || meson setup build/$* -Db_sanitize=$(subst asan,address,$(subst ubsan,undefined,$(subst tsan,thread,$*))) \
	  -Db_lundef=false -Dbuildtype=debugoptimized >build/$*.log 2>&1 || { cat build/$*.log; exit 1; }
	@ninja -C build/$* --quiet
	@UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1 \
	  meson test -C build/$* --no-rebuild --print-errorlogs -t 5 --suite unit --suite corpus

fmt: ## clang-format all sources
	@git ls-files 'src/*.c' 'src/*.h' 'src/*.cc' 'tests/*.c' 'tests/*.h' 'bench/*.c' | xargs -r clang-format -i

docs: ## write what docs/compatibility.md has of the table of fields
	@$(PY) tools/fields.py --write

lint: | deps ## who includes whom, sizes, format, scripts, clang-tidy
	@$(PY) tools/lint.py

help: ## this
	@awk -F':.*## ' '/^[a-z].*:.*## /{printf "  make %-36s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

clean: ## remove what was built, but not build/venv
	@find build -mindepth 1 -maxdepth 1 ! -name venv -exec rm -rf {} +
