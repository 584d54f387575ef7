/* tok_pair.c - two texts in one prompt; see tok_encode_pair(). */
#include <string.h>

#include "text/tok_internal.h"
#include "text/tokenizer.h"

/* The second text begins at byte `at` with BOS: that becomes the second separator, or goes. */
static void join(const tokenizer *t, buf *ids, size_t at) {
    int32_t bos = tok_bos(t), eos = tok_eos(t);
    int32_t *second = (int32_t *)(void *)(ids->p + at);
    if (ids->n <= at || bos == TOK_ID_NONE || *second != bos) return;
    if (t->vocab.kind != TOK_KIND_WORDPIECE && eos != TOK_ID_NONE) {
        *second = eos;
        return;
    }
    memmove(second, second + 1, ids->n - at - sizeof *second);
    ids->n -= sizeof *second;
}

status tok_encode_pair(const tokenizer *t, str first, str second, uint32_t tokens_max, buf *ids,
                       error *err) {
    tok_options opt = {.add_special = true, .tokens_max = tokens_max};
    TRY(tok_encode(t, first, &opt, ids, err));
    size_t at = ids->n;
    TRY(tok_encode(t, second, &opt, ids, err));
    join(t, ids, at);
    return OK;
}
