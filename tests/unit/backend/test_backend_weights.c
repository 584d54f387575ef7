/* test_backend_weights.c - backend.h: what is said about the weights of a mixture of experts and
 * of packed matrices. */
#include "backend/backend.h"
#include "base/log.h"
#include "base/os.h"
#include "test.h"

#include <sys/wait.h>
#include <unistd.h>

enum { COLS = 32, EXPERTS = 3 };

static float data[EXPERTS * COLS * COLS];

static weight plain(uint32_t rows, const float *from) {
    return (weight){.type = DTYPE_F32, .rows = rows, .cols = COLS, .data = from};
}

static weight slice(const packed_matrix *m, uint32_t row0, uint32_t rows) {
    return (weight){.type = DTYPE_F32, .rows = rows, .cols = m->cols, .packed = m, .row0 = row0};
}

/* Two slices of one packed matrix, experts, and an embedding that is the output too. */
static program *record(const packed_matrix *m) {
    program *p = NULL;
    program_limits max = {.rows = 4, .taken = 2, .head = 2, .ctx = 32};
    CHECK_EQ(program_create(&p, &max, NULL), OK);
    value_id x = pg_embed(p, plain(8, data));
    (void)pg_matmul(p, x, slice(m, 0, 8), NULL);
    (void)pg_matmul(p, x, slice(m, 8, 24), NULL);
    value_id logits = pg_matmul(p, x, plain(EXPERTS, data + COLS), NULL);
    value_id routed = pg_route(p, logits, (op_route){.experts = EXPERTS, .used = 2, .scale = 1});
    weight *w = pg_weights(p, EXPERTS);
    for (uint32_t e = 0; e < EXPERTS; e++) w[e] = plain(COLS, data + (size_t)e * COLS * COLS);
    op_experts experts = {.w = w, .experts = EXPERTS, .used = 2, .shared_in = true};
    x = pg_experts_sum(p, pg_experts(p, x, routed, experts), routed, 2);
    x = pg_take_rows(p, x);
    logits = pg_matmul(p, pg_take_rows(p, x), plain(8, data), NULL);
    CHECK_EQ(program_finish(p, x, logits, NULL), OK);
    return p;
}

/* From a child process, since log lines go to standard error. */
static void read_log(const backend_place *places, uint32_t count, char *out, size_t out_bytes) {
    int fds[2];
    size_t n = 0;
    CHECK_EQ(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(fds[1], 2);
        log_set_level(LOG_INFO);
        backend_log_weights(places, count);
        _exit(0);
    }
    os_close(fds[1]);
    CHECK_EQ(os_read_full(fds[0], out, out_bytes - 1, &n, NULL), OK);
    out[n] = '\0';
    os_close(fds[0]);
    (void)waitpid(pid, NULL, 0);
}

TEST(backend_counts_experts_and_packed_matrices) {
    static int8_t quanta[COLS * COLS];
    static float scales[COLS];
    packed_matrix m = {.kind = PACKED_INT8,
                       .rows = COLS,
                       .cols = COLS,
                       .data = quanta,
                       .scales = scales,
                       .scale_type = DTYPE_F32,
                       .group = COLS,
                       .row_group = 1};
    char text[2048], want[128];
    program *p = record(&m);
    read_log(&(backend_place){.ops = &backend_ref, .p = p}, 1, text, sizeof text);
    /* the embedding, the router, the experts */
    (void)snprintf(want, sizeof want, "weights type=F32 tensors=5 bytes=%d path=\"native\"\n",
                   (8 + EXPERTS + EXPERTS * COLS) * COLS * 4);
    CHECK_HAS(text, want);
    (void)snprintf(want, sizeof want, "type=\"%s\" tensors=1 bytes=%d path=\"rows dequantized",
                   packed_name(&m), COLS * COLS + COLS * 4);
    CHECK_HAS(text, want);
    program_destroy(p);
}

TEST(backend_names_the_path_of_each_place) {
    static int8_t quanta[COLS * COLS];
    static float scales[COLS];
    packed_matrix m = {.kind = PACKED_INT8,
                       .rows = COLS,
                       .cols = COLS,
                       .data = quanta,
                       .scales = scales,
                       .scale_type = DTYPE_F32,
                       .group = COLS,
                       .row_group = 1};
    char text[2048];
    program *p = record(&m);
    const backend_place places[] = {{.ops = &backend_ref, .p = p},
                                    {.ops = &backend_cuda, .p = p, .on_device = true}};
    read_log(places, 2, text, sizeof text);
    CHECK_HAS(text, "path=\"native\"");
    CHECK_HAS(text, "path=\"planar rows\"");
    CHECK_HAS(text, "path=\"rows dequantized to f32\"");
    CHECK_HAS(text, "path=\"converted\"");
    program_destroy(p);
}
