/* cuda_kv_host.c - blocks of the KV cache on their way to the host's memory, and back.
 *
 *     step --> compute:  kernels ............ | waits .. kernels of the next step
 *     save --> download:          | down down |
 *     load --> upload:                        | up up |
 *
 * Copies are queued between steps and the host goes on; events keep the order.  A copy starts when
 * what the steps before it wrote is there, and when the copies of the other direction are through,
 * which may be of the same memory.  The next step's kernels start when all copies are through: from
 * then on a block that was saved belongs to whoever has it now.
 *
 * A block is one piece over all layers, and so are neighbours that stay neighbours: as a rule a
 * sequence is a few copies. */
#include "backend/cuda/cuda_internal.h"
#include "base/assert.h"
#include "base/num.h"

status cuda_kv_host(backend *b, size_t block_bytes, uint32_t blocks, error *err) {
    size_t bytes = 0;
    TRY(cuda_device_enter(&b->dev, err));
    cuda_kv_host_close(b);
    if (!num_mul_size(&bytes, block_bytes, blocks))
        return error_set(err, ERR_LIMIT, "cuda: %u blocks of %zu bytes are too many", blocks,
                         block_bytes);
    if (bytes == 0) return OK;
    TRY(cuda_pinned_open_unset(&b->kv_host, &b->dev, bytes, err));
    b->kv_host_bytes = block_bytes;
    return OK;
}

void cuda_kv_host_close(backend *b) {
    if (b->kv_host.host == NULL) return;
    error ignored; /* of a GPU that is lost: nothing is copied there any more */
    (void)!cuda_sync_stream(&b->dev, b->dev.download, &ignored);
    (void)!cuda_sync_stream(&b->dev, b->dev.upload, &ignored);
    cuda_pinned_close(&b->kv_host);
    b->kv_host_bytes = 0;
    b->kv_moved = false;
}

/* --- moving -------------------- */

/* How many of the moves are of neighbours, there and here: one copy. */
static uint32_t neighbours(const kv_move *moves, uint32_t count) {
    uint32_t n = 1;
    while (n < count && moves[n].block == moves[0].block + n &&
           moves[n].host_block == moves[0].host_block + n)
        n++;
    return n;
}

static void *copy_at(const backend *b, const kv_move *move, size_t bytes) {
    const size_t at = move->host_block * b->kv_host_bytes;
    ASSERT(at <= b->kv_host.bytes && bytes <= b->kv_host.bytes - at);
    return (char *)b->kv_host.host + at;
}

static cu_ptr block_at(const backend *b, const kv_move *move, size_t bytes) {
    const size_t at = move->block * b->kv_host_bytes;
    ASSERT(at <= b->kv.bytes && bytes <= b->kv.bytes - at);
    return b->kv.base + at;
}

/* Copies on `stream` come behind the steps, and behind those of the other direction. */
static void begin_moves(backend *b, cu_stream stream, cu_stream other) {
    error noted; /* by the device: the next step tells */
    (void)!cuda_device_enter(&b->dev, &noted);
    (void)cuda_after(&b->dev, stream, b->dev.compute);
    (void)cuda_after(&b->dev, stream, other);
    b->kv_moved = true;
}

void cuda_kv_save(backend *b, const kv_move *moves, uint32_t count) {
    begin_moves(b, b->dev.download, b->dev.upload);
    for (uint32_t i = 0, n = 0; i < count; i += n) {
        n = neighbours(moves + i, count - i);
        const size_t bytes = n * b->kv_host_bytes;
        (void)cuda_copy_out(&b->dev, b->dev.download, copy_at(b, &moves[i], bytes),
                            block_at(b, &moves[i], bytes), bytes);
    }
}

void cuda_kv_load(backend *b, const kv_move *moves, uint32_t count) {
    begin_moves(b, b->dev.upload, b->dev.download);
    for (uint32_t i = 0, n = 0; i < count; i += n) {
        n = neighbours(moves + i, count - i);
        const size_t bytes = n * b->kv_host_bytes;
        (void)cuda_copy_in(&b->dev, b->dev.upload, block_at(b, &moves[i], bytes),
                           copy_at(b, &moves[i], bytes), bytes);
    }
}

void cuda_kv_arrive(backend *b) {
    if (!b->kv_moved) return;
    (void)cuda_after(&b->dev, b->dev.compute, b->dev.download);
    (void)cuda_after(&b->dev, b->dev.compute, b->dev.upload);
    b->kv_moved = false;
}
