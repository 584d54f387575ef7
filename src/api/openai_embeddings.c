/* openai_embeddings.c - POST /v1/embeddings: texts or token ids to vectors of length 1.
 *
 * Source of the fields: the OpenAI OpenAPI description, "embeddings". */
#include "api/front_internal.h"
#include "api/openai.h"
#include "api/vector.h"

/* --- body ------------------------------------------------------------------------------ */

static status read_format(openai_body *b, error *err) {
    static const char *const names[] = {"float", "base64"};
    json_node n = json_field(&b->f, "encoding_format");
    uint32_t which = 0;
    TRY(json_node_choice(&n, names, 2, &which, err));
    b->spec->form.base64 = which == 1;
    return OK;
}

static status read_embedding(openai_body *b, error *err) {
    gen_request *r = &b->spec->request;
    r->kind = GEN_KIND_EMBED;
    r->choices = 1;
    r->add_special = r->parse_special = true;
    TRY(read_format(b, err));
    TRY(json_get_u32(&b->f, "dimensions", 1, WIRE_EMBEDDING_VALUES_MAX, &b->spec->form.dimensions,
                     err));
    json_node user = json_field(&b->f, "user"); /* whose request it is changes nothing */
    (void)user;
    return openai_read_inputs(b, "input", GEN_INPUTS_MAX, err);
}

bool openai_embeddings_parse(str body, arena *a, gen_spec *out, api_fault *fault) {
    return openai_parse_plain(body, a, out, fault, read_embedding);
}

/* --- answer ---------------------------------------------------------------------------- */

static void on_done(gen_call *g) {
    buf *out = front_scratch(g->front);
    json_writer w;
    json_writer_init(&w, out);
    json_begin_object(&w);
    json_kv_str(&w, "object", S("list"));
    json_kv_array(&w, "data");
    for (uint32_t i = 0; i < g->choices_count; i++) {
        json_begin_object(&w);
        json_kv_str(&w, "object", S("embedding"));
        json_kv_uint(&w, "index", i);
        json_key(&w, S("embedding"));
        vector_write(&w, g, i);
        json_end_object(&w);
    }
    json_end_array(&w);
    json_kv_str(&w, "model", str_of(g->name));
    vector_usage(&w, g);
    json_end_object(&w);
    gen_respond(g, 200, out);
}

static const dialect_ops EMBEDDINGS = {
    .endpoint = "/v1/embeddings",
    .metrics = METRICS_ENDPOINT_EMBEDDINGS,
    .id_prefix = "embd-",
    .parse = openai_embeddings_parse,
    .on_accepted = vector_on_accepted,
    .on_text = vector_on_text,
    .on_finish = vector_on_finish,
    .on_done = on_done,
    .on_error = openai_on_error,
};

void openai_embeddings_handle(front *f, http_call *c, str tail) {
    (void)tail;
    gen_start(f, c, &EMBEDDINGS);
}
