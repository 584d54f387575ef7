/* amx_model.h - the tile registers of Intel AMX in plain C, for machines without them.
 *
 * To be included before a file written with the intrinsics, instead of which it then uses these.
 * A configured tile has rows x bytes; loads and stores outside of them do not happen, as on the
 * processor.  TDPBF16PS (Intel SDM vol. 2A): dst[m][n] += a[m][2k] * b[k][2n], then the odd ones,
 * each product and sum rounded to f32 here, which real tiles may do in another order. */
#ifndef KERNELS_AMX_MODEL_H
#define KERNELS_AMX_MODEL_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { AMX_TILES = 8, AMX_ROWS = 16, AMX_BYTES = 64 };

static struct {
    uint16_t bytes[AMX_TILES];
    uint8_t rows[AMX_TILES];
    uint8_t data[AMX_TILES][AMX_ROWS][AMX_BYTES];
    unsigned faults; /* what a processor would have refused: #UD, #GP */
} amx;

static void amx_config(const void *p) {
    const uint8_t *c = p;
    memset(&amx.data, 0, sizeof amx.data);
    amx.faults += c[0] != 1; /* palette */
    for (int t = 0; t < AMX_TILES; t++) {
        memcpy(&amx.bytes[t], c + 16 + 2 * t, sizeof amx.bytes[t]);
        amx.rows[t] = c[48 + t];
        amx.faults += amx.rows[t] > AMX_ROWS || amx.bytes[t] > AMX_BYTES;
        amx.faults += (amx.rows[t] == 0) != (amx.bytes[t] == 0); /* both or neither */
    }
}

static void amx_load(int t, const void *base, size_t stride) {
    amx.faults += amx.rows[t] == 0;
    for (int r = 0; r < amx.rows[t]; r++)
        memcpy(amx.data[t][r], (const char *)base + (size_t)r * stride, amx.bytes[t]);
}

static void amx_store(int t, void *base, size_t stride) {
    amx.faults += amx.rows[t] == 0;
    for (int r = 0; r < amx.rows[t]; r++)
        memcpy((char *)base + (size_t)r * stride, amx.data[t][r], amx.bytes[t]);
}

static void amx_zero(int t) {
    amx.faults += amx.rows[t] == 0;
    memset(amx.data[t], 0, sizeof amx.data[t]);
}

static float amx_bf16(const uint8_t *p) {
    uint16_t h;
    uint32_t bits;
    float v;
    memcpy(&h, p, sizeof h);
    bits = (uint32_t)h << 16;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static void amx_dpbf16ps(int dst, int a, int b) {
    /* shapes must agree: rows of dst and a, columns of dst and b, depth of a and b */
    amx.faults += amx.rows[dst] != amx.rows[a] || amx.bytes[dst] != amx.bytes[b] ||
                  amx.bytes[a] != amx.rows[b] * 4;
    for (int m = 0; m < amx.rows[dst]; m++) {
        for (int n = 0; n < amx.bytes[dst] / 4; n++) {
            float sum;
            memcpy(&sum, &amx.data[dst][m][4 * n], sizeof sum);
            for (int k = 0; k < amx.rows[b]; k++)
                for (int i = 0; i < 2; i++)
                    sum += amx_bf16(&amx.data[a][m][4 * k + 2 * i]) *
                           amx_bf16(&amx.data[b][k][4 * n + 2 * i]);
            memcpy(&amx.data[dst][m][4 * n], &sum, sizeof sum);
        }
    }
}

#undef _tile_loadconfig
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#undef _tile_release
#define _tile_loadconfig(p)           amx_config(p)
#define _tile_loadd(t, base, stride)  amx_load(t, base, stride)
#define _tile_stored(t, base, stride) amx_store(t, base, stride)
#define _tile_zero(t)                 amx_zero(t)
#define _tile_dpbf16ps(dst, a, b)     amx_dpbf16ps(dst, a, b)
#define _tile_release()               (void)memset(amx.rows, 0, sizeof amx.rows)

#endif
