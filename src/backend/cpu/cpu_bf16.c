/* cpu_bf16.c - is there a unit for bf16, and may it be used?  See cpu_bf16.h. */
#include "backend/cpu/cpu_bf16.h"

#include "base/os.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* Intel SDM vol. 2A, CPUID leaf 7: AMX-BF16 and AMX-TILE. */
static bool has_amx_bf16(void) {
    const unsigned bf16 = 1u << 22, tile = 1u << 24;
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & bf16) && (edx & tile);
}

enum { ROWS = 17, GROUPS = 3, COLS = 2 * BF16_COLS, LANES = GROUPS * PACK_ROWS };

/* The first `rows` rows against sums in plain C, which are small integers. */
static bool rows_are_right(const bf16_kernels *k, const float (*x)[COLS], const float (*w)[COLS],
                           bf16_args *a, uint32_t rows) {
    static float out[ROWS][LANES];
    bool right = true;
    a->rows = rows;
    a->out = out[0];
    a->out_stride = LANES;
    k->multiply(a);
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t j = 0; j < LANES; j++) {
            float sum = 0;
            for (uint32_t c = 0; c < COLS; c++) sum += x[r][c] * w[j][c];
            right = right && sum == out[r][j];
        }
    }
    return right;
}

/* Small integers, whose products and sums bf16 and f32 hold exactly: 17 rows and 5 by three groups,
 * so that every kind of tile is used. */
bool cpu_bf16_is_right(const bf16_kernels *k) {
    static float x[ROWS][COLS], w[LANES][COLS];
    static uint16_t x16[ROWS][COLS], w16[LANES][COLS], panel[GROUPS][COLS * PACK_ROWS];
    for (int c = 0; c < COLS; c++) {
        for (int r = 0; r < ROWS; r++) x[r][c] = (float)((r * 7 + c * 3) % 13 - 6);
        for (int j = 0; j < LANES; j++) w[j][c] = (float)((j * 5 + c * 11) % 17 - 8);
    }
    for (size_t r = 0; r < ROWS; r++) k->round(x[r], x16[r], COLS);
    for (size_t j = 0; j < LANES; j++) k->round(w[j], w16[j], COLS);
    for (size_t g = 0; g < GROUPS; g++)
        k->from_rows(DTYPE_BF16, w16[g * PACK_ROWS], PACK_ROWS, COLS, panel[g]);
    bf16_args a = {
        .panel = panel[0], .groups = GROUPS, .cols = COLS, .x = x16[0], .x_stride = COLS};
    return rows_are_right(k, x, w, &a, ROWS) && rows_are_right(k, x, w, &a, 5);
}

const bf16_kernels *cpu_bf16_find_avx512(void) {
    if (!__builtin_cpu_supports("avx512bf16")) return NULL;
    return cpu_bf16_is_right(&cpu_bf16_avx512) ? &cpu_bf16_avx512 : NULL;
}

const bf16_kernels *cpu_bf16_find_amx(void) {
    if (!has_amx_bf16() || !os_tile_registers_ask()) return NULL;
    return cpu_bf16_is_right(&cpu_bf16_amx) ? &cpu_bf16_amx : NULL;
}
#endif
