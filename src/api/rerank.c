/* rerank.c - POST /v1/rerank: how well each document answers a question, best first.
 *
 * Source of the fields: the rerank APIs of Jina AI and Cohere, which agree on them. */
#include <stdlib.h>

#include "api/front_internal.h"
#include "api/openai.h"
#include "api/vector.h"
#include "base/alloc.h"
#include "base/num.h"

/* --- body ------------------------------------------------------------------------------ */

/* A text, or an object whose "text" is one. */
static status read_document(const json_node *n, str *out, error *err) {
    json_fields f;
    json_node text = *n;
    if (!json_is_string(n->value) && !json_is_object(n->value))
        return json_node_wrong_type(n, "string or object", err);
    if (json_is_object(n->value)) {
        TRY(json_fields_open(&f, n, err));
        TRY(json_field_need(&f, "text", &text, err));
    }
    return json_node_str(&text, SIZE_MAX, out, err);
}

static status read_documents(openai_body *b, str query, error *err) {
    json_node documents = {0};
    TRY(json_field_need(&b->f, "documents", &documents, err));
    if (!json_is_array(documents.value)) return json_node_wrong_type(&documents, "array", err);
    size_t count = json_node_count(&documents);
    if (count == 0 || count > GEN_INPUTS_MAX)
        return error_set(err, ERR_INVALID, "documents: has %zu texts, want 1 to %d", count,
                         GEN_INPUTS_MAX);
    TRY(openai_inputs(b, count, err));
    for (size_t i = 0; i < count; i++) {
        json_node n = json_node_element(&documents, i);
        str text = S("");
        gen_input *in = &b->spec->inputs[b->spec->inputs_count++];
        *in = (gen_input){.kind = GEN_PROMPT_PAIR, .text = query};
        TRY(read_document(&n, &text, err));
        TRY(openai_keep(b, text, &in->pair, err));
    }
    return OK;
}

static status read_rerank(openai_body *b, error *err) {
    json_node query = {0};
    str text = S(""), kept;
    gen_vector_form *form = &b->spec->form;
    b->spec->request.kind = GEN_KIND_RANK;
    b->spec->request.choices = 1;
    form->top_n = UINT32_MAX;
    TRY(json_field_need(&b->f, "query", &query, err));
    TRY(json_node_str(&query, SIZE_MAX, &text, err));
    TRY(openai_keep(b, text, &kept, err));
    TRY(json_get_u32(&b->f, "top_n", 1, UINT32_MAX, &form->top_n, err));
    TRY(json_get_bool(&b->f, "return_documents", &form->return_documents, err));
    return read_documents(b, kept, err);
}

bool rerank_parse(str body, arena *a, gen_spec *out, api_fault *fault) {
    return openai_parse_plain(body, a, out, fault, read_rerank);
}

/* --- answer ---------------------------------------------------------------------------- */

typedef struct rank {
    double score;
    uint32_t index;
} rank;

/* Best first; equal ones in the order they were sent. */
static int by_score(const void *a, const void *b) {
    const rank *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static void write_results(json_writer *w, const gen_call *g, const rank *ranks) {
    json_kv_array(w, "results");
    for (uint32_t i = 0; i < num_min_u32(g->choices_count, g->form.top_n); i++) {
        json_begin_object(w);
        json_kv_uint(w, "index", ranks[i].index);
        json_kv_f64(w, "relevance_score", ranks[i].score);
        if (g->form.return_documents) {
            json_kv_object(w, "document");
            json_kv_str(w, "text", buf_view(&g->choices[ranks[i].index].document));
            json_end_object(w);
        }
        json_end_object(w);
    }
    json_end_array(w);
}

static void on_done(gen_call *g) {
    buf *out = front_scratch(g->front);
    rank *ranks = mem_try_calloc(g->choices_count, sizeof *ranks);
    json_writer w;
    if (ranks == NULL) out->failed = true; /* answered as out of memory */
    for (uint32_t i = 0; ranks != NULL && i < g->choices_count; i++)
        ranks[i] = (rank){vector_score(g, i), i};
    if (ranks != NULL) {
        qsort(ranks, g->choices_count, sizeof *ranks, by_score);
        json_writer_init(&w, out);
        json_begin_object(&w);
        json_kv_str(&w, "object", S("list"));
        json_kv_str(&w, "model", str_of(g->name));
        write_results(&w, g, ranks);
        vector_usage(&w, g);
        json_end_object(&w);
    }
    gen_respond(g, 200, out);
    mem_free(ranks);
}

static const dialect_ops RERANK = {
    .endpoint = "/v1/rerank",
    .metrics = METRICS_ENDPOINT_EMBEDDINGS,
    .id_prefix = "rank-",
    .parse = rerank_parse,
    .on_accepted = vector_on_accepted,
    .on_text = vector_on_text,
    .on_finish = vector_on_finish,
    .on_done = on_done,
    .on_error = openai_on_error,
};

void rerank_handle(front *f, http_call *c, str tail) {
    (void)tail;
    gen_start(f, c, &RERANK);
}
