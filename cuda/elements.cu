/* elements.cu - element by element: activations and gates, sums and products, the sum of experts.
 *
 * A thread is one element.  A result may stand where the first operand stands: the element is read
 * before it is written, by the same thread. */
#include "act.h"
#include "quantize.h"

/* --- kernels -------------------- */

/* This thread's element of a [rows, cols] matrix; false behind its end. */
CK_DEV bool element(uint64_t count, uint32_t cols, uint64_t *at) {
    uint32_t row = ck_bid_y, c = ck_bid_x * 256 + ck_tid;
    *at = (uint64_t)row * cols + c;
    return c < cols && row < ck_ld((const uint32_t *)count);
}

/* Where it goes, and as what.  With codes whole warps are inside of a row or behind it. */
CK_DEV void put(uint64_t out, uint64_t codes, uint64_t sums, uint64_t at, float y) {
    if (out != 0) ck_st((float *)out + at, y);
    if (codes == 0) return;
    uint64_t first = at - ck_lane();
    quantize_store(y, (int8_t *)codes + first, (ck_sums *)sums + first / 32);
}

CK_KERNEL(k_act, 256) {
    uint64_t at;
    if (!element(a.count, a.cols, &at)) return;
    float x = ck_ld((const float *)a.x + at);
    put(a.out, a.codes, a.sums, at, activate(a.kind, a.a, a.b, x));
}

CK_KERNEL(k_act_mul, 256) {
    uint64_t at;
    if (!element(a.count, a.cols, &at)) return;
    float gate = ck_ld((const float *)a.gate + at), up = ck_ld((const float *)a.up + at);
    put(a.out, a.codes, a.sums, at, gated(a.kind, a.a, a.b, gate, up));
}

CK_KERNEL(k_binary, 256) {
    uint64_t at;
    if (!element(a.count, a.cols, &at)) return;
    bool by_row = a.kind == CK_ADD_ROW || a.kind == CK_MUL_ROW;
    uint64_t at_y = a.kind == CK_MUL_COL ? ck_bid_y
                    : by_row             ? at - (uint64_t)ck_bid_y * a.cols
                                         : at;
    float x = ck_ld((const float *)a.x + at), y = ck_ld((const float *)a.y + at_y);
    bool add = a.kind == CK_ADD || a.kind == CK_ADD_ROW;
    ck_st((float *)a.out + at, add ? x + y : x * y);
}

CK_KERNEL(k_experts_sum, 256) {
    uint64_t at;
    if (!element(a.count, a.cols, &at)) return;
    const float *share = (const float *)a.routed + (uint64_t)ck_bid_y * 2 * a.used + a.used;
    const float *x = (const float *)a.x + at + (uint64_t)ck_bid_y * a.cols * (a.used - 1);
    float sum = 0;
    for (uint32_t u = 0; u < a.used; u++)
        sum = ck_fma(ck_ld(share + u), ck_ld(x + (uint64_t)u * a.cols), sum);
    ck_st((float *)a.out + at, sum);
}
