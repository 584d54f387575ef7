# make            optimised binary in build/release/
# make check      unit, kernel and simulation tests + fuzz corpus replay  (no GPU, no network)
#                 T=kv runs only the tests whose name contains kv
# make check-sim  kernels, driver and CUDA backend on a GPU made of software (tests/cudasim)
# make check-gpu  the same kernels and models on a real card; make bench-gpu measures it (tests/gpu)
# make check-ptxas   registers and spills of every kernel on every card (needs nvcc)
# make check-api  black-box tests: the real binary over HTTP and on the command line
# make lint       layers, headers, house rules, clang-format, clang-tidy
# make format     clang-format in place
# make docs       regenerate docs/config.md, docs/metrics.md and gantry.example.yaml
# make docs-models   measure docs/models.md anew (needs the reference data in ../shared)
# make bench      speed of the CPU kernels and of a synthetic model
# make fuzz       libFuzzer binaries (clang);  make fuzz-run SECONDS=60 runs each
# make cover      lines and branches of the parsers that unit tests and fuzz corpora reach (clang)
# make MODE=asan check | MODE=tsan | MODE=debug          other flavours, other folders
# make install    PREFIX=/usr/local
# make V=1        show whole commands;  make help: this list
NAME    := gantry
VERSION := 0.1.0
MODE    ?= release
B       := build/$(MODE)$(if $(filter clang%,$(CC)),-clang)
PREFIX  ?= /usr/local
SECONDS ?= 60
Q       := $(if $(V),,@)

# --- libraries: pkg-config name = Debian/Ubuntu package ---------------------
LIBS    := libmicrohttpd=libmicrohttpd-dev jansson=libjansson-dev yaml-0.1=libyaml-dev \
           libedit=libedit-dev libsodium=libsodium-dev libutf8proc=libutf8proc-dev \
           libpcre2-8=libpcre2-dev
ifeq ($(filter help clean format lint-layers lint-house,$(MAKECMDGOALS)),)
ifeq ($(shell command -v pkg-config),)
$(error pkg-config is missing: apt-get install pkg-config)
endif
MISSING := $(foreach l,$(LIBS),$(if $(shell pkg-config --exists $(word 1,$(subst =, ,$l)) && echo y),,$(word 2,$(subst =, ,$l))))
ifneq ($(strip $(MISSING)),)
$(error missing libraries: apt-get install $(strip $(MISSING)))
endif
PKGS       := $(foreach l,$(LIBS),$(word 1,$(subst =, ,$l)))
LIB_CFLAGS := $(shell pkg-config --cflags $(PKGS))
LIB_LDLIBS := $(shell pkg-config --libs $(PKGS))
endif

WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Werror
STD     := -std=c17 -D_GNU_SOURCE
FLAGS_release := -O3 -g -DNDEBUG -fno-omit-frame-pointer
FLAGS_debug   := -O0 -g3 -DEXPENSIVE_ASSERTS
# What a sanitizer reports needs lines, and where variables live costs a third of the time to compile.
FLAGS_asan    := -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -DEXPENSIVE_ASSERTS
FLAGS_tsan    := -O1 -g1 -fsanitize=thread
FLAGS_fuzz    := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -DEXPENSIVE_ASSERTS
FLAGS_cover   := -O0 -g -fprofile-instr-generate -fcoverage-mapping -DEXPENSIVE_ASSERTS
ifeq ($(FLAGS_$(MODE)),)
$(error MODE=$(MODE) is not one of release debug asan tsan fuzz cover)
endif
ifeq ($(MODE),fuzz)
CC      := clang
B       := build/fuzz
endif
# No contraction behind our back: the order and rounding of every float operation is
# the one in the source, which the `exact` numerics mode relies on.
FLOAT   := -ffp-contract=off
ALL_CFLAGS  := $(STD) $(WARN) $(FLAGS_$(MODE)) $(FLOAT) -Isrc -Icuda $(LIB_CFLAGS) \
               -DGANTRY_VERSION='"$(VERSION)"' $(CPPFLAGS) $(CFLAGS)
ALL_LDFLAGS := $(filter -fsanitize=%,$(filter-out -fsanitize=fuzzer%,$(FLAGS_$(MODE)))) $(LDFLAGS)
ifeq ($(MODE),cover)
ALL_LDFLAGS += -fprofile-instr-generate
endif
ifeq ($(MODE),fuzz)
ALL_LDFLAGS += -fsanitize=address,undefined
endif
LDLIBS      += $(LIB_LDLIBS) -lm -ldl -pthread

SRC     := $(sort $(shell find src -name '*.c'))
LIBSRC  := $(filter-out src/main.c,$(SRC))
TESTS   := $(sort $(shell find tests/unit tests/kernels tests/sim -name '*.c' 2>/dev/null))
FUZZ    := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
LIBOBJ  := $(LIBSRC:%.c=$(B)/%.o) $(B)/gen/cuda_blobs.o

all: $(B)/$(NAME)
	@echo "built $(B)/$(NAME)  (device code: $(CU_WHAT))"

$(B)/$(NAME): $(B)/src/main.o $(LIBOBJ)
	@echo "  ld  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  cc  $<"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# One instruction set per file, by what its name ends in; cpu_dispatch.c chooses at run time, never
# -march=native.
ISA_FLAGS_avx2   := -mavx2 -mfma -mf16c
ISA_FLAGS_avx512 := $(ISA_FLAGS_avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
ISA_FLAGS_avx512bf16 := $(ISA_FLAGS_avx512) -mavx512bf16
ISA_FLAGS_amx    := $(ISA_FLAGS_avx512) -mamx-tile -mamx-bf16
ifeq ($(shell uname -m),x86_64)
$(B)/src/backend/cpu/%_amx.o: ALL_CFLAGS += $(ISA_FLAGS_amx)
$(B)/tests/kernels/%_avx512.o: ALL_CFLAGS += $(ISA_FLAGS_avx512)
$(B)/src/backend/cpu/%_avx2.o: ALL_CFLAGS += $(ISA_FLAGS_avx2)
$(B)/src/backend/cpu/%_avx512.o: ALL_CFLAGS += $(ISA_FLAGS_avx512)
$(B)/src/backend/cpu/%_avx512bf16.o: ALL_CFLAGS += $(ISA_FLAGS_avx512bf16)
else ifeq ($(shell uname -m),aarch64)
$(B)/src/backend/cpu/%_neon.o: ALL_CFLAGS += -march=armv8.2-a+dotprod
endif

include cuda/cuda.mk

$(B)/gen/%.o: $(B)/gen/%.c
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# The demonstration model is part of every binary (src/store/embedded.c).
EMBEDDED := models/gantry-mini/gantry-mini.gguf
$(B)/src/store/embedded.o: $(or $(wildcard $(EMBEDDED)),no-embedded-model)
no-embedded-model:
	@echo "$(EMBEDDED) is missing, which goes into the binary: git checkout -- $(EMBEDDED)" >&2; exit 1
.PHONY: no-embedded-model

include tools/train/train.mk
include tests/cross/neon.mk
include tests/cudasim/sim.mk
include tests/gpu/gpu.mk
include models/gantry-mini/model.mk

# --- tests -----------------------------------------------------------------
check: $(B)/tests/run $(FUZZ:%=$(B)/replay_%)
	$(Q)$(ENV_$(MODE)) $(B)/tests/run $(T)
	@set -e; for f in $(if $(T),,$(FUZZ)); do $(ENV_$(MODE)) $(B)/replay_$$f $$(find tests/fuzz/corpus/$$f -type f); done
check-api: $(B)/$(NAME) $(API_GPU)
	GANTRY_TEST_GPU=$(API_GPU_B)/cudasim/lib sh tests/api/run.sh $(B)/$(NAME) $(T)
# Tests ask for impossible sizes on purpose; TSan needs a plain address-space layout.
ENV_asan := env ASAN_OPTIONS=allocator_may_return_null=1
ENV_tsan := setarch -R env TSAN_OPTIONS="suppressions=tests/tsan.supp halt_on_error=1 allocator_may_return_null=1"

$(B)/tests/run: $(TESTS:%.c=$(B)/%.o) $(LIBOBJ)
	@echo "  ld  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/tests/%.o: ALL_CFLAGS += -Itests/unit -Itests -UNDEBUG -DEXPENSIVE_ASSERTS
$(B)/tests/fuzz/%.o: ALL_CFLAGS += -Itests/fuzz -UNDEBUG
$(B)/replay_%: $(B)/tests/fuzz/fuzz_%.o $(B)/tests/fuzz/replay.o $(LIBOBJ)
	@echo "  ld  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS)

fuzz:
	$(MAKE) MODE=fuzz $(FUZZ:%=build/fuzz/fuzz_%)
build/fuzz/fuzz_%: build/fuzz/tests/fuzz/fuzz_%.o $(LIBOBJ)
	$(CC) -fsanitize=fuzzer,address,undefined -o $@ $^ $(LDLIBS)
fuzz-run: fuzz
	@set -e; for f in $(FUZZ); do mkdir -p build/fuzz/found/$$f; echo "fuzzing $$f for $(SECONDS) s"; \
	  build/fuzz/fuzz_$$f -max_total_time=$(SECONDS) -rss_limit_mb=2048 -timeout=10 -verbosity=0 \
	    -artifact_prefix=build/fuzz/found/$$f- build/fuzz/found/$$f tests/fuzz/corpus/$$f; done

# FOUND=DIR adds corpora that are not in the tree: DIR/c_TARGET or DIR/TARGET.
COVER_FUZZ  := gguf tokenizer_json spm json_stream jinja
COVER_FILES := $(wildcard src/model/gguf*.c src/model/vocab_*.c src/json/stream.c src/text/jinja_lex.c src/text/jinja_parse*.c)
LLVM_TOOL    = $(firstword $(shell command -v llvm-$(1) llvm-$(1)-14))
cover:
	$(Q)$(MAKE) --no-print-directory MODE=cover CC=clang cover-report
cover-report: $(B)/tests/run $(COVER_FUZZ:%=$(B)/replay_%)
	$(Q)rm -rf $(B)/profiles && mkdir -p $(B)/profiles
	$(Q)LLVM_PROFILE_FILE=$(B)/profiles/unit.profraw $(B)/tests/run $(T)
	@set -e; for f in $(COVER_FUZZ); do \
	  find tests/fuzz/corpus/$$f $(if $(FOUND),$$(ls -d $(FOUND)/c_$$f $(FOUND)/$$f 2>/dev/null)) -type f | \
	    LLVM_PROFILE_FILE=$(B)/profiles/$$f-%p.profraw xargs -n 4000 $(B)/replay_$$f; done
	$(Q)$(call LLVM_TOOL,profdata) merge -o $(B)/profiles/all $(B)/profiles/*.profraw
	$(Q)$(call LLVM_TOOL,cov) report $(B)/tests/run $(COVER_FUZZ:%=-object $(B)/replay_%) \
	    -instr-profile=$(B)/profiles/all $(COVER_FILES)

bench: $(B)/$(NAME)
	sh bench/run.sh $(B)/$(NAME)

# --- generated documents ---------------------------------------------------
docs: $(B)/$(NAME)
	$(B)/$(NAME) docs config > docs/config.md
	$(B)/$(NAME) docs example > gantry.example.yaml
	$(B)/$(NAME) docs metrics > docs/metrics.md
docs-models: $(B)/$(NAME)
	python3 -B tools/gen_models_doc.py $(B)/$(NAME) > docs/models.md.tmp && mv docs/models.md.tmp docs/models.md || { rm -f docs/models.md.tmp; exit 1; }

# --- lint ------------------------------------------------------------------
C_FILES := $(sort $(shell find src cuda tests -name '*.[ch]'))
lint: lint-layers lint-headers lint-house lint-format lint-tidy
lint-layers:
	awk -f tools/check_layers.awk tools/layers.txt $$(find src -name '*.[ch]')
lint-headers:
	@set -e; for h in cuda/abi.h $$(find src -name '*.h'); do $(CC) $(STD) $(WARN) -Isrc -Icuda $(LIB_CFLAGS) -fsyntax-only -x c $$h; done
lint-house:
	LC_ALL=C awk -f tools/tidy.awk $$(find src cuda tests -name '*.[ch]' -o -name '*.cu')
	sh tools/check_words.sh
	sh tools/check_models_doc.sh
# clang-format's output differs between major versions; the tree is formatted with 14.
lint-format:
	@if clang-format --version 2>/dev/null | grep -q 'version 14'; then \
	  clang-format --dry-run -Werror $(C_FILES); \
	else echo "lint-format: skipped, clang-format 14 is not installed"; fi
# One stamp per file, so an edit re-checks what it touched.
lint-tidy:
	@command -v clang-tidy >/dev/null || { echo "lint-tidy: skipped, clang-tidy is not installed"; exit 0; }; \
	$(MAKE) --no-print-directory -j$$(nproc) lint-tidy-files
lint-tidy-files: $(SRC:%.c=build/tidy/%.ok)
build/tidy/%.ok: %.c .clang-tidy $(wildcard src/*/*.h src/*/*/*.h)
	@mkdir -p $(@D)
	@clang-tidy --quiet $< -- $(STD) -Isrc -Icuda $(LIB_CFLAGS) -DGANTRY_VERSION='"0"' \
	    $(if $(findstring _avx2,$<),$(ISA_FLAGS_avx2)) $(if $(findstring _avx512,$<),$(ISA_FLAGS_avx512)) $(if $(findstring _avx512bf16,$<),$(ISA_FLAGS_avx512bf16)) $(if $(findstring _amx,$<),$(ISA_FLAGS_amx)) 2>build/tidy/err.$$$$ >build/tidy/out.$$$$ \
	  && rm -f build/tidy/err.$$$$ build/tidy/out.$$$$ && touch $@ \
	  || { cat build/tidy/out.$$$$ build/tidy/err.$$$$; rm -f build/tidy/err.$$$$ build/tidy/out.$$$$; exit 1; }
format:
	clang-format -i $(C_FILES)

compile_commands.json: Makefile $(SRC)
	@{ sep='['; for f in $(SRC) $(TESTS); do \
	  printf '%s\n{"directory":"%s","file":"%s","command":"%s"}' "$$sep" "$(CURDIR)" "$$f" \
	    '$(CC) $(subst ",\",$(ALL_CFLAGS)) -Itests/unit -c '"$$f"; sep=','; done; printf '\n]\n'; } > $@

install: all
	install -Dm755 $(B)/$(NAME) $(DESTDIR)$(PREFIX)/bin/$(NAME)
clean:
	rm -rf build compile_commands.json
help:
	@sed -n '1,/^NAME/{/^#/p}' Makefile

.PHONY: all check check-api fuzz fuzz-run cover cover-report bench docs docs-models lint lint-layers lint-headers lint-house lint-format \
        lint-tidy lint-tidy-files format install clean help
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
