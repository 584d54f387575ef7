/* card_kernels.cu - the kernels that only tests launch on a card, as one module. */
#include "../cudasim/kernels_test.cu"
#include "bench_fill.cu"
