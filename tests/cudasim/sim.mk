# sim.mk - the software GPU: an executor of kernels, libcuda.so.1 and libnvidia-ml.so.1 on top of it, and
# the tests that run on them; included by the Makefile.
#   make check-sim           these and the program on the software GPU (a part of check-api)
#   make check-sim-kernels   every kernel on every code path in three thread orders, and the driver
#                            T=sim runs only the tests whose name contains sim
#   make sim                 the two libraries alone, in $(B)/cudasim/lib:
#                            CUDASIM=t4 LD_LIBRARY_PATH=build/release/cudasim/lib build/release/gantry ...
# Kernels are C++ here, once for each code path.  MODE and CC are as for the rest: a library that is
# instrumented needs the very runtime of the program that loads it.
SIM_B     := $(B)/cudasim
SIM_DIR   := tests/cudasim
SIM_ARCHS := 750 800 900

# clang's C++ beside clang; it may be missing, and g++ does where no sanitizer is asked for.
SIM_CLANG := $(if $(filter clang%,$(notdir $(CC))),$(subst clang,clang++,$(CC)))
SIM_CXX   := $(or $(if $(SIM_CLANG),$(shell command -v $(SIM_CLANG))),g++)

# One set of objects for the libraries and the test binary.  -O2, not more: without a vectorizer's
# rearrangements; no contraction, so that a sum is what the source says.
SIM_FLAGS := $(filter-out -O3,$(FLAGS_$(MODE))) $(if $(filter -O3,$(FLAGS_$(MODE))),-O2) $(FLOAT) \
             -fPIC -fvisibility=hidden
SIM_CXXFLAGS := -std=c++17 -x c++ -Wall -Wextra -Wno-unknown-pragmas -Werror \
                -fno-strict-aliasing -fno-exceptions -fno-rtti $(SIM_FLAGS) \
                $(if $(filter -fsanitize=%undefined,$(FLAGS_$(MODE))),$(if $(SIM_CLANG),-fno-sanitize=function)) \
                -DCK_HOST -Icuda -Isrc -Itests
# The executor switches stacks below ThreadSanitizer: it tells it what it does, and is not watched.
SIM_EXEC_FLAGS := $(filter-out -fsanitize=thread,$(SIM_FLAGS)) $(if $(filter tsan,$(MODE)),-DSIM_TSAN=1) \
                  -Itests
SIM_LIB_FLAGS  := $(filter-out -fvisibility=hidden,$(SIM_FLAGS)) -Isrc -Icuda -Itests $(LIB_CFLAGS)

SIM_CU        := $(notdir $(wildcard cuda/*.cu))
SIM_KERNELS   := $(foreach a,$(SIM_ARCHS),$(SIM_CU:%.cu=$(SIM_B)/kernels/%_$(a).o))
SIM_EXEC      := $(filter-out %/table.o,$(patsubst $(SIM_DIR)/exec/%.c,$(SIM_B)/exec/%.o,$(wildcard $(SIM_DIR)/exec/*.c))) \
                 $(SIM_ARCHS:%=$(SIM_B)/exec/table_%.o)
SIM_DRIVER    := $(patsubst $(SIM_DIR)/%.c,$(SIM_B)/lib/%.o,$(wildcard $(SIM_DIR)/driver/*.c) $(SIM_DIR)/topology.c)
SIM_NVML      := $(patsubst $(SIM_DIR)/%.c,$(SIM_B)/lib/%.o,$(wildcard $(SIM_DIR)/nvml/*.c) $(SIM_DIR)/topology.c)
SIM_TESTS     := $(patsubst %.c,$(B)/%.o,$(filter-out %/topology.c,$(wildcard $(SIM_DIR)/*.c)) \
                 tests/kernels/rig.c tests/unit/engine/engine_rig.c)
SIM_TEST_CU   := $(foreach a,$(SIM_ARCHS),$(SIM_B)/kernels/kernels_test_$(a).o $(SIM_B)/kernels/bench_fill_$(a).o)
SIM_LIBS      := $(SIM_B)/lib/libcuda.so.1 $(SIM_B)/lib/libnvidia-ml.so.1

define SIM_ARCH_RULES
$(SIM_B)/kernels/%_$(1).o: cuda/%.cu
	@mkdir -p $$(@D)
	@echo "  c++ $$<  ($(1))"
	$$(Q)$$(SIM_CXX) $$(SIM_CXXFLAGS) -DCK_ARCH=$(1) -MMD -MP -c -o $$@ $$<
$(SIM_B)/kernels/%_$(1).o: $(SIM_DIR)/%.cu
	@mkdir -p $$(@D)
	@echo "  c++ $$<  ($(1))"
	$$(Q)$$(SIM_CXX) $$(SIM_CXXFLAGS) -DCK_ARCH=$(1) -MMD -MP -c -o $$@ $$<
$(SIM_B)/kernels/%_$(1).o: tests/gpu/%.cu
	@mkdir -p $$(@D)
	@echo "  c++ $$<  ($(1))"
	$$(Q)$$(SIM_CXX) $$(SIM_CXXFLAGS) -DCK_ARCH=$(1) -MMD -MP -c -o $$@ $$<
$(SIM_B)/exec/table_$(1).o: $(SIM_DIR)/exec/table.c
	@mkdir -p $$(@D)
	@echo "  cc  $$<  ($(1))"
	$$(Q)$$(CC) $$(STD) $$(WARN) $$(SIM_EXEC_FLAGS) -DCK_ARCH=$(1) -MMD -MP -c -o $$@ $$<
endef
$(foreach a,$(SIM_ARCHS),$(eval $(call SIM_ARCH_RULES,$(a))))

$(SIM_B)/exec/%.o: $(SIM_DIR)/exec/%.c
	@mkdir -p $(@D)
	@echo "  cc  $<"
	$(Q)$(CC) $(STD) $(WARN) $(SIM_EXEC_FLAGS) -MMD -MP -c -o $@ $<
$(SIM_B)/lib/%.o: $(SIM_DIR)/%.c
	@mkdir -p $(@D)
	@echo "  cc  $<"
	$(Q)$(CC) $(STD) $(WARN) $(SIM_LIB_FLAGS) -MMD -MP -c -o $@ $<

# Nothing but the drivers' own names may be seen from outside: a program has an executor, a JSON
# library and much else of its own.
$(SIM_B)/lib/libcuda.so.1: $(SIM_DRIVER) $(SIM_EXEC) $(SIM_KERNELS) $(SIM_TEST_CU) $(SIM_DIR)/exports.map
	@echo "  ld  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,libcuda.so.1 -Wl,--version-script=$(SIM_DIR)/exports.map \
	    -o $@ $(filter %.o,$^) -ljansson -lm -ldl -pthread
$(SIM_B)/lib/libnvidia-ml.so.1: $(SIM_NVML) $(SIM_DIR)/exports.map
	@echo "  ld  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,libnvidia-ml.so.1 -Wl,--version-script=$(SIM_DIR)/exports.map \
	    -o $@ $(filter %.o,$^) -ljansson -lm -ldl -pthread

$(SIM_B)/run: $(SIM_TESTS) $(B)/tests/unit/test_main.o $(SIM_DRIVER) $(SIM_EXEC) $(SIM_KERNELS) $(SIM_TEST_CU) $(LIBOBJ)
	@echo "  ld  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS)

sim: $(SIM_LIBS)
# Below a program with AddressSanitizer API tests put the plain libraries, as a card's driver is plain:
# check-sim-kernels runs the instrumented ones, and a token takes them a second.
API_GPU_B := $(if $(filter asan,$(MODE)),$(B:build/asan%=build/release%),$(B))
API_GPU   := $(if $(filter asan,$(MODE)),sim-of-release,$(SIM_LIBS))
sim-of-release:
	$(Q)$(MAKE) --no-print-directory MODE=release sim
# One process uses one core: all tests are run in parts, beside one another with make -j.
SIM_PARTS := 1/4 2/4 3/4 4/4
SIM_CHECKS := $(if $(T),check-sim-of-1/1,$(SIM_PARTS:%=check-sim-of-%))
check-sim-kernels: $(SIM_CHECKS)
$(SIM_CHECKS): check-sim-of-%: $(SIM_B)/run $(SIM_LIBS)
	@set -e; for t in $(or $(T),$(SIM_ONLY_$(MODE)),''); do \
	    LD_LIBRARY_PATH=$(SIM_B)/lib $(ENV_$(MODE)) $(SIM_B)/run "$$t" $*; done
# ThreadSanitizer is some twenty times slower: it sees every kernel, the executor and the driver, not
# whole models.
SIM_ONLY_tsan := k_ sim_
check-sim: check-sim-kernels
	$(Q)$(MAKE) --no-print-directory check-api T=sim.
.PHONY: sim sim-of-release check-sim check-sim-kernels $(SIM_CHECKS)
