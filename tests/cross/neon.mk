# neon.mk - the ARM kernels on a machine that is none: cross-compiled, statically linked, run by an
# emulator that has dot products; included by the Makefile.
#   make check-neon        T=digits runs only the tests whose name contains digits
# Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
NEON_CC   ?= aarch64-linux-gnu-gcc
NEON_QEMU ?= qemu-aarch64 -cpu max
NEON_B    := build/neon
# The rooms the kernels stand on, less what needs a library; every packed layout; their tests.
NEON_SRC  := $(filter-out src/base/map.c,$(wildcard src/base/*.c)) $(wildcard src/tensor/*.c) \
             $(wildcard src/backend/cpu/cpu_pack*.c src/backend/cpu/cpu_*_neon.c) \
             tests/unit/backend/pack_rig.c tests/unit/test_main.c \
             $(wildcard tests/unit/backend/test_cpu_pack*.c)
NEON_OBJ  := $(NEON_SRC:%.c=$(NEON_B)/%.o)
NEON_FLAGS := $(STD) $(WARN) -O2 -g $(FLOAT) -Isrc -Itests/unit -DEXPENSIVE_ASSERTS

check-neon: $(NEON_B)/run
	$(Q)$(NEON_QEMU) $< $(T)
$(NEON_B)/run: $(NEON_OBJ)
	@echo "  ld  $@"
	$(Q)$(NEON_CC) -static -o $@ $^ -lm -pthread
$(NEON_B)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  cc  $<  (arm64)"
	$(Q)$(NEON_CC) $(NEON_FLAGS) -MMD -MP -c -o $@ $<
$(NEON_B)/src/backend/cpu/%_neon.o: NEON_FLAGS += -march=armv8.2-a+dotprod
-include $(NEON_OBJ:.o=.d)
.PHONY: check-neon
