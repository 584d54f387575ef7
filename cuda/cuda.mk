# cuda.mk - device code: machine code by nvcc, PTX by nvcc or clang; included by the Makefile.
#   make check-ptxas   no kernel spills; registers within cuda/registers.txt (with nvcc)
#   make ptx-count     PTX instructions per weight in the inner loops of the products
#
# What is built for a card:  cc 7.5 to 12.0   machine code in build/cuda/FILE.fatbin, for drivers as new
#                                             as the toolkit (580 for nvcc 13)
#                            anything else    build/cuda/FILE.ptx: the code path of cc 7.5 as PTX, marked
#                                             as of a version that drivers from 470 on compile
# Without nvcc there is the PTX only, by clang; with neither the binary has no kernels and says so.
NVCC     ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
PTXAS    := $(if $(NVCC),$(dir $(NVCC))ptxas)
CU_CLANG ?= $(firstword $(shell command -v clang clang-18 clang-17 clang-16 clang-15 clang-14 2>/dev/null))
SM       ?= 75 80 86 89 90a 100 120
PTX_ISA  := 7.4
# clang's own choice for cc 7.5 is too old for its tensor cores.
CU_CLANG_ISA := -Xclang -target-feature -Xclang +ptx65
CU_FLAGS := -std=c++17 -O3 -Icuda -Isrc

CU_NAMES := $(sort $(patsubst cuda/%.cu,%,$(wildcard cuda/*.cu)))
CU_DEPS  := $(wildcard cuda/*.h) src/tensor/formula.h src/tensor/sample.h cuda/cuda.mk
CU_BUILD := build/cuda$(if $(NVCC),,-clang)
CU_PTX   := $(if $(NVCC)$(CU_CLANG),$(CU_NAMES:%=$(CU_BUILD)/%.ptx))
CU_FAT   := $(if $(NVCC),$(CU_NAMES:%=$(CU_BUILD)/%.fatbin))
CU_WHAT  := $(if $(NVCC),machine code and PTX,$(if $(CU_CLANG),PTX by clang,none: neither nvcc nor clang was found))

build/cuda/%.fatbin: cuda/%.cu $(CU_DEPS)
	@mkdir -p $(@D)
	@echo "  nvcc  $<"
	$(Q)$(NVCC) -fatbin $(CU_FLAGS) --compress-mode=size -Xptxas -v \
	    $(foreach s,$(SM),-gencode arch=compute_$(s),code=sm_$(s)) \
	    -gencode arch=compute_$(lastword $(SM)),code=compute_$(lastword $(SM)) \
	    -o $@ $< 2> $(@:.fatbin=.log) || { cat $(@:.fatbin=.log) >&2; rm -f $@; exit 1; }

# The version of nvcc's PTX is the toolkit's, but the kernels use nothing that new, hints left out:
# ptxas has to agree.
build/cuda/%.ptx: cuda/%.cu $(CU_DEPS)
	@mkdir -p $(@D)
	$(Q)$(NVCC) -ptx $(CU_FLAGS) -arch=compute_75 -o $@.tmp $<
	$(Q)sed 's/^\.version .*/.version $(PTX_ISA)/; /\.pragma "used_bytes_mask /d' $@.tmp > $@.new && rm $@.tmp
	$(Q)$(PTXAS) -arch=sm_75 -o /dev/null $@.new && mv $@.new $@

build/cuda-clang/%.ptx: cuda/%.cu $(CU_DEPS)
	@mkdir -p $(@D)
	@echo "  clang  $< (PTX)"
	$(Q)$(CU_CLANG) -x cuda --cuda-gpu-arch=sm_75 --cuda-device-only -nocudainc -nocudalib \
	    -Wno-unknown-cuda-version -Wno-pass-failed -fdeclspec $(CU_CLANG_ISA) $(CU_FLAGS) -S -o $@ $<

$(B)/gen/cuda_blobs.c: $(CU_FAT) $(CU_PTX) tools/gen_blobs.sh
	@mkdir -p $(@D)
	$(Q)sh tools/gen_blobs.sh $(CU_BUILD) $(if $(CU_PTX),$(CU_NAMES)) > $@.tmp && mv $@.tmp $@

# Both compilers stay able to build every kernel, whichever of them made the binary.
check-ptxas: $(CU_FAT) $(if $(CU_CLANG),$(CU_NAMES:%=build/cuda-clang/%.ptx))
ifneq ($(NVCC),)
	$(Q)for f in $(if $(CU_CLANG),$(CU_NAMES)); do $(PTXAS) -arch=sm_75 -o /dev/null build/cuda-clang/$$f.ptx || exit 1; done
	$(Q)awk -f tools/ptxas_gate.awk cuda/registers.txt $(CU_NAMES:%=build/cuda/%.log)
	$(Q)$(MAKE) --no-print-directory ptx-count
else
	@echo "check-ptxas: skipped, nvcc is not installed"
endif

ptx-count: $(filter build/cuda/gemv_%,$(CU_PTX))
	$(Q)$(if $(NVCC),python3 -B tools/ptx_count.py --ptx build/cuda $(wildcard cuda/gemv_*.cu),echo "ptx-count: skipped, nvcc is not installed")

.PHONY: check-ptxas ptx-count
