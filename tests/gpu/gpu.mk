# gpu.mk - tests and measurements on a real card; included by the Makefile.
#   make check-gpu   every kernel on the card, in machine code and as the PTX of cc 7.5; whole models
#                    against recordings and the CPU; compute-sanitizer and nvidia-smi where they are
#   make bench-gpu   kernels against the copy bandwidth of the card; synthetic models
# Each ends with a table, and a JSON file with everything.  GPU_ARGS goes to check.py and bench.py.
# CUDASIM=t4 pretends a card (tests/cudasim), to try the procedure: make bench-gpu CUDASIM=t4 GPU_ARGS=--dry
GPU_B    := $(B)/gpu
GPU_DIR  := tests/gpu
GPU_CU   := $(CU_BUILD)/tests
GPU_CARD := $(B)/$(GPU_DIR)/card.o $(B)/$(GPU_DIR)/line.o $(GPU_B)/card_blobs.o $(LIBOBJ)
GPU_RIG  := $(filter-out %/test_k_math.o,$(patsubst %.c,$(B)/%.o,$(wildcard tests/cudasim/test_k_*.c))) \
            $(foreach f,rig oracle attention_rig packed_weight product_rig quantized sample_rig test_words test_mma,$(B)/tests/cudasim/$(f).o) \
            $(B)/$(GPU_DIR)/rig_card.o
GPU_TOOLS := $(GPU_B)/check $(GPU_B)/bench
GPU_CU_DEPS := $(wildcard $(GPU_DIR)/*.cu $(GPU_DIR)/bench_fill.h tests/cudasim/kernels_test.*) $(CU_DEPS)

build/cuda/tests/%.fatbin: $(GPU_DIR)/%.cu $(GPU_CU_DEPS)
	@mkdir -p $(@D)
	@echo "  nvcc  $<"
	$(Q)$(NVCC) -fatbin $(CU_FLAGS) -Itests --compress-mode=size \
	    $(foreach s,$(SM),-gencode arch=compute_$(s),code=sm_$(s)) \
	    -gencode arch=compute_$(lastword $(SM)),code=compute_$(lastword $(SM)) -o $@ $<
build/cuda/tests/%.ptx: $(GPU_DIR)/%.cu $(GPU_CU_DEPS)
	@mkdir -p $(@D)
	$(Q)$(NVCC) -ptx $(CU_FLAGS) -Itests -arch=compute_75 -o $@.tmp $<
	$(Q)sed 's/^\.version .*/.version $(PTX_ISA)/; /\.pragma "used_bytes_mask /d' $@.tmp > $@ && rm $@.tmp
build/cuda-clang/tests/%.ptx: $(GPU_DIR)/%.cu $(GPU_CU_DEPS)
	@mkdir -p $(@D)
	@echo "  clang  $< (PTX)"
	$(Q)$(CU_CLANG) -x cuda --cuda-gpu-arch=sm_75 --cuda-device-only -nocudainc -nocudalib \
	    -Wno-unknown-cuda-version -fdeclspec $(CU_CLANG_ISA) $(CU_FLAGS) -Itests -S -o $@ $<

$(GPU_B)/card_blobs.c: $(if $(NVCC),$(GPU_CU)/card_kernels.fatbin) $(if $(CU_PTX),$(GPU_CU)/card_kernels.ptx) tools/gen_blobs.sh
	@mkdir -p $(@D)
	$(Q)sh tools/gen_blobs.sh $(GPU_CU) $(if $(CU_PTX),card_kernels) | sed 's/cuda_blobs/card_blobs/' > $@
$(GPU_B)/card_blobs.o: $(GPU_B)/card_blobs.c
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(GPU_B)/check: $(B)/$(GPU_DIR)/check_main.o $(GPU_RIG) $(GPU_CARD)
	@echo "  ld  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS)
$(GPU_B)/bench: $(foreach f,bench_main bench_kernels bench_tokens bench_experts bench_forms bench_prompt bench,$(B)/$(GPU_DIR)/$(f).o) $(GPU_CARD)
	@echo "  ld  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS)

GPU_RUN := $(if $(CUDASIM),CUDASIM='$(CUDASIM)' LD_LIBRARY_PATH=$(SIM_B)/lib) $(ENV_$(MODE)) python3 -B
check-gpu: $(GPU_B)/check $(B)/$(NAME) $(if $(CUDASIM),$(SIM_LIBS))
	$(Q)$(GPU_RUN) $(GPU_DIR)/check.py $(B)/$(NAME) $(GPU_B)/check $(GPU_ARGS)
bench-gpu: $(GPU_B)/bench $(B)/$(NAME) $(if $(CUDASIM),$(SIM_LIBS))
	$(Q)$(GPU_RUN) $(GPU_DIR)/bench.py $(B)/$(NAME) $(GPU_B)/bench $(GPU_ARGS)
# The black-box tests try both of them on the software GPU.
check-api check-sim: $(if $(filter tsan,$(MODE)),,$(GPU_TOOLS))
.PHONY: check-gpu bench-gpu
