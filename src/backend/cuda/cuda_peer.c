/* cuda_peer.c - rows on their way from one GPU to the next: straight, or by the host's memory.
 *
 * Whether GPUs can reach each other's memory is not for the driver to say alone: there are machines
 * where it promises that and bytes arrive wrong (an IOMMU between them, PCIe access control).  So
 * rows go straight only where patterns that were sent this way came back right, and else through
 * pinned memory that both can read. */
#include <stdio.h>
#include <string.h>

#include "backend/cuda/cuda_device_internal.h"
#include "backend/cuda/cuda_internal.h"
#include "base/assert.h"
#include "base/log.h"

enum { WHY_BYTES = 192, ROUNDS = 3 };

static cu_ptr input_at(const backend *b) {
    return cuda_at(b, b->p->values[b->p->ops[0].out].offset * sizeof(float));
}

/* Bytes of so many rows on their way. */
static size_t hidden_bytes(const backend *b, uint32_t rows) {
    return (size_t)rows * b->p->values[b->p->hidden].cols * sizeof(float);
}
static size_t input_bytes(const backend *b, uint32_t rows) {
    return (size_t)rows * b->p->values[b->p->ops[0].out].cols * sizeof(float);
}

/* Of all rows of a step, `bytes` behind the first so many. */
static cu_result copy_from_source(backend *b, size_t before, size_t bytes) {
    const backend *from = b->source;
    return b->dev.driver->copy_peer(input_at(b), b->dev.context,
                                    cuda_at(from, from->layout.given_at) + before,
                                    from->dev.context, bytes, b->dev.compute);
}

/* --- is there a way? -------------------- */

/* Does the driver promise one, and open it?  Else why not. */
static bool open_way(backend *b, char why[WHY_BYTES]) {
    const cu_driver *d = b->dev.driver;
    const cuda_device *from = &b->source->dev;
    int can = 0;
    if (b->no_peers) {
        (void)snprintf(why, WHY_BYTES, "as asked");
        return false;
    }
    if (d->can_access_peer == NULL || d->enable_peer == NULL || d->copy_peer == NULL) {
        (void)snprintf(why, WHY_BYTES, "this driver has no copies between GPUs");
        return false;
    }
    cu_result code = d->can_access_peer(&can, b->dev.handle, from->handle);
    if (code == CU_SUCCESS && !can) {
        (void)snprintf(why, WHY_BYTES, "the driver allows no access of one to the other");
        return false;
    }
    if (code == CU_SUCCESS) code = d->enable_peer(from->context, 0);
    if (code == CU_SUCCESS || code == CU_PEER_ACCESS_ALREADY_ENABLED) return true;
    (void)snprintf(why, WHY_BYTES, "access of one to the other: %s", cu_result_name(d, code));
    return false;
}

/* --- does it carry? -------------------- */

/* Words that differ from round to round in about half of their bits. */
static void fill_pattern(void *out, size_t bytes, uint32_t round) {
    uint32_t *words = out, x = 0x9e3779b9u * (round + 1);
    for (size_t i = 0; i < bytes / sizeof *words; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        words[i] = x;
    }
}

static status write_pattern(backend *from, size_t bytes, uint32_t round, error *err) {
    TRY(cuda_device_enter(&from->dev, err));
    fill_pattern(from->hidden.host, bytes, round);
    (void)cuda_copy_in(&from->dev, from->dev.compute, cuda_at(from, from->layout.given_at),
                       from->hidden.host, bytes);
    return cuda_sync(&from->dev, err);
}

/* A refusal of the copy is a reason; what breaks the GPU is an error. */
static status carry(backend *b, size_t bytes, char why[WHY_BYTES], error *err) {
    TRY(cuda_device_enter(&b->dev, err));
    (void)cuda_fill(&b->dev, b->dev.compute, input_at(b), 0, bytes);
    const cu_result code = copy_from_source(b, 0, bytes);
    if (cu_is_sticky(code)) return cuda_check(&b->dev, code, "cuMemcpyPeerAsync", err);
    if (code != CU_SUCCESS)
        (void)snprintf(why, WHY_BYTES, "copies from one to the other: %s",
                       cu_result_name(b->dev.driver, code));
    (void)cuda_copy_out(&b->dev, b->dev.compute, b->input.host, input_at(b), bytes);
    return cuda_sync(&b->dev, err);
}

static size_t first_difference(const void *a, const void *b, size_t bytes) {
    const unsigned char *x = a, *y = b;
    size_t i = 0;
    while (i < bytes && x[i] == y[i]) i++;
    return i;
}

/* As many bytes as a step can have, some times; *why stays empty where all of them arrive.  Copies
 * that never end would be found here: then this is the last line of the log. */
static status test_way(backend *b, char why[WHY_BYTES], error *err) {
    const size_t bytes = (size_t)b->layout.input_bytes;
    log_info("cuda", "test of copies from GPU %d to GPU %d (--no-gpu-peers does without them)",
             b->source->dev.ordinal, b->dev.ordinal);
    ASSERT(b->source->layout.hidden_bytes == bytes);
    for (uint32_t round = 0; round < ROUNDS && why[0] == '\0'; round++) {
        TRY(write_pattern(b->source, bytes, round, err));
        TRY(carry(b, bytes, why, err));
        const size_t right = first_difference(b->source->hidden.host, b->input.host, bytes);
        if (right < bytes && why[0] == '\0')
            (void)snprintf(why, WHY_BYTES,
                           "byte %zu of %zu that were sent as a test arrived wrong: an IOMMU or "
                           "PCIe access control may be between them",
                           right, bytes);
    }
    return OK;
}

status cuda_link(backend *b, backend *from, error *err) {
    char why[WHY_BYTES] = "";
    ASSERT(b->p->ops[0].kind == OP_INPUT && b->source == NULL && !b->loaded && !from->loaded);
    ASSERT(from->p->goes_on);
    b->source = from;
    TRY(cuda_device_enter(&b->dev, err));
    bool promised = open_way(b, why);
    if (promised) TRY(test_way(b, why, err));
    b->is_direct = from->keeps_hidden = why[0] == '\0';
    if (b->is_direct)
        log_info("cuda", "rows go straight from GPU %d to GPU %d", from->dev.ordinal,
                 b->dev.ordinal);
    else
        log_write(promised ? LOG_WARN : LOG_INFO, "cuda",
                  "rows go from GPU %d to GPU %d by host memory: %s", from->dev.ordinal,
                  b->dev.ordinal, why);
    return OK;
}

/* --- in a step -------------------- */

/* The rows were there before this was called.  Each micro-batch has a place of its own for them,
 * wherever they are on their way: that of the one before it may still be read. */
void cuda_take_input(backend *b, const batch *in) {
    cuda_device *dev = &b->dev;
    const size_t before = input_bytes(b, in->before.rows), bytes = input_bytes(b, in->rows);
    if (b->is_direct) {
        if (dev->fault == CU_SUCCESS)
            (void)cuda_note(dev, copy_from_source(b, before, bytes), "cuMemcpyPeerAsync");
        return;
    }
    const void *rows = in->input; /* another GPU's are in pinned memory, where they stay so long */
    if (b->source == NULL) rows = memcpy((char *)b->input.host + before, in->input, bytes);
    (void)cuda_copy_in(dev, dev->compute, input_at(b), rows, bytes);
}

/* The next micro-batch writes its hidden states where these are. */
void cuda_give_hidden(backend *b, const batch *in) {
    const cu_ptr hidden = cuda_at(b, b->p->values[b->p->hidden].offset * sizeof(float));
    const cu_ptr given = cuda_at(b, b->layout.given_at);
    (void)cuda_copy(&b->dev, b->dev.compute, given + hidden_bytes(b, in->before.taken), hidden,
                    hidden_bytes(b, in->taken_rows));
}
