/* cpu_decode_avx512.c - rows of activations times a packed group without a panel in between.
 *
 * For one row a panel is written and read once, nearly half of the time, and while the products
 * run nothing is asked of memory.  Here codes go from their planes to the products in
 * registers, and the group is fetched early all along. */
#if defined(__x86_64__)
#include "backend/cpu/cpu_dots_avx512.h"
#include "backend/cpu/cpu_unpack_avx512.h"

enum { RUN_BLOCKS = 8 /* a superblock, or eight of one block */ };

typedef struct run {
    const pack_format *f;
    const uint8_t *in; /* the first superblock */
    uint32_t blocks;
    const act_block *x;
    float *acc;
} run;

/* Sums of part s of the block at `in`. */
INLINE sums part_sums(const uint8_t *in, planes p, __m512i table, const act_block *x, shape f,
                      uint32_t s) {
    const uint32_t vectors = PACK_VECTORS / f.subs;
    sums n = sums_zero();
#pragma GCC unroll 8
    for (uint32_t v = s * vectors; v < (s + 1) * vectors; v++) {
        const __m512i codes = unpack(in, p, table, v);
        n.hi = _mm512_dpbusd_epi32(n.hi, codes, everywhere(x->hi, v));
        if (!f.fast) n.lo = _mm512_dpbusd_epi32(n.lo, codes, everywhere(x->lo, v));
    }
    return n;
}

/* `supers` superblocks, at most RUN_BLOCKS blocks. */
INLINE __m512 add_supers(__m512 sum, const run *r, uint32_t supers, planes p, shape f) {
    float scales[2 * RUN_BLOCKS * PACK_ROWS], offsets[2 * RUN_BLOCKS * PACK_ROWS];
    const pack_panel out = {.scales = scales, .offsets = offsets, .subs = f.subs};
    cpu_expand_scales_avx512(r->f, r->in, supers, &out);
    const __m512i table = table_load(r->f);
    const act_block *x = r->x;
    size_t at = 0;
    for (uint32_t i = 0; i < supers; i++) {
        const uint8_t *in = r->in + i * r->f->super_bytes;
        for (uint32_t b = 0; b < r->f->super_blocks; b++, in += r->f->codes_bytes, x++) {
            fetch(in, r->f->codes_bytes);
#pragma GCC unroll 2
            for (uint32_t s = 0; s < f.subs; s++, at += PACK_ROWS) {
                part w;
                w.scale = _mm512_loadu_ps(scales + at);
                w.offset = _mm512_loadu_ps(offsets + at);
                sum = settle(sum, &w, x, part_sums(in, p, table, x, f, s), f, s);
            }
        }
    }
    return sum;
}

INLINE void run_all(run r, planes p, shape f) {
    const uint32_t supers_max = RUN_BLOCKS / r.f->super_blocks;
    __m512 sum = _mm512_load_ps(r.acc);
    for (uint32_t left = r.blocks / r.f->super_blocks; left > 0;) {
        const uint32_t supers = left < supers_max ? left : supers_max;
        sum = add_supers(sum, &r, supers, p, f);
        r.in += supers * r.f->super_bytes;
        r.x += (size_t)supers * r.f->super_blocks;
        left -= supers;
    }
    _mm512_store_ps(r.acc, sum);
}

/* --- one function for every way of storing codes -------------------- */

typedef void run_fn(const run *r, bool fast);

INLINE void run_planes(const run *r, bool fast, planes p) {
    if (r->f->subs == 1) {
        if (fast)
            run_all(*r, p, (shape){true, 1});
        else
            run_all(*r, p, (shape){false, 1});
    } else {
        if (fast)
            run_all(*r, p, (shape){true, 2});
        else
            run_all(*r, p, (shape){false, 2});
    }
}

static void run_nibbles(const run *r, bool fast) { run_planes(r, fast, (planes){.nibbles = true}); }
static void run_table(const run *r, bool fast) {
    run_planes(r, fast, (planes){.nibbles = true, .table = true});
}
static void run_nibbles_ones(const run *r, bool fast) {
    run_planes(r, fast, (planes){.nibbles = true, .ones = true});
}
static void run_nibbles_twos(const run *r, bool fast) {
    run_planes(r, fast, (planes){.nibbles = true, .twos = true});
}
static void run_twos(const run *r, bool fast) { run_planes(r, fast, (planes){.twos = true}); }
static void run_twos_ones(const run *r, bool fast) {
    run_planes(r, fast, (planes){.twos = true, .ones = true});
}
static void run_ones(const run *r, bool fast) { run_planes(r, fast, (planes){.ones = true}); }
static void run_bytes(const run *r, bool fast) { run_planes(r, fast, (planes){.bytes = true}); }

static run_fn *run_of(const pack_format *f) {
    if (f->bytes) return run_bytes;
    if (f->table != NULL) return run_table;
    if (f->nibbles) return f->twos ? run_nibbles_twos : f->ones ? run_nibbles_ones : run_nibbles;
    if (f->twos) return f->ones ? run_twos_ones : run_twos;
    return run_ones;
}

void cpu_dots_packed_avx512(const pack_format *f, const uint8_t *group, uint32_t first,
                            const dots_args *a) {
    run_fn *const fn = run_of(f);
    for (uint32_t r = 0; r < a->rows; r++) {
        const run one = {.f = f,
                         .in = group + first / f->super_blocks * f->super_bytes,
                         .blocks = a->blocks,
                         .x = a->x + r * a->row_blocks,
                         .acc = a->acc + (size_t)r * PACK_ROWS};
        fn(&one, a->fast);
    }
}

#endif
