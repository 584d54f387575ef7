# train.mk - gantry-train and its tests; included by the Makefile after LIBOBJ and TESTS are known.
#   make build/release/gantry-train
TRAIN_SRC  := $(sort $(wildcard tools/train/*.c))
TRAIN_OBJ  := $(patsubst %.c,$(B)/%.o,$(filter-out tools/train/main.c,$(TRAIN_SRC)))
# The rooms it stands on: no server, no engine.
TRAIN_LIB  := $(filter $(addprefix $(B)/src/,$(addsuffix /%,base json obs net tensor store text model)),$(LIBOBJ))

$(B)/gantry-train: $(B)/tools/train/main.o $(TRAIN_OBJ) $(TRAIN_LIB)
	@echo "  ld  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS)

# -Wno-psabi: vectors of 64 bytes never cross a file, so how they would be passed is no matter.
$(B)/tools/train/%.o: ALL_CFLAGS += -Itools -Wno-psabi
ifeq ($(shell uname -m),x86_64)
$(B)/tools/train/%_avx2.o: ALL_CFLAGS += -mavx2 -mfma
$(B)/tools/train/%_avx512.o: ALL_CFLAGS += -mavx512f
endif

# Its unit tests are part of `make check`.
$(B)/tests/unit/train/%.o: ALL_CFLAGS += -Itools
$(B)/tests/run: $(TRAIN_OBJ)

train: $(B)/gantry-train
.PHONY: train
