/* openai_params.c - the fields that both OpenAI bodies share: sampling, limits, stops.
 *
 * Nothing a client asks for is dropped in silence: what would change the answer and is not
 * done here is refused by name, everything else that nobody reads is listed in the answer's
 * X-Ignored-Params. */
#include <float.h>
#include <math.h>
#include <stdio.h>

#include "api/openai.h"
#include "base/os.h"

/* --- helpers ---------------------------------------------------------------------- */

status openai_keep(openai_body *b, str s, str *out, error *err) {
    *out = arena_dup(b->a, s);
    if (out->p == NULL)
        return error_set(err, ERR_NOMEM, "api: no memory for %zu bytes of a request", s.n);
    return OK;
}

status openai_keep_json(openai_body *b, const json_node *n, str *out, error *err) {
    buf text;
    json_writer w;
    buf_init(&text, b->a->bytes_max);
    json_writer_init(&w, &text);
    json_node_write(n, &w);
    status st = text.failed ? error_set(err, ERR_NOMEM, "api: no memory for a part of the body")
                            : openai_keep(b, buf_view(&text), out, err);
    buf_deinit(&text);
    return st;
}

bool openai_asks(const json_node *n) {
    if (!json_node_is_set(n) || json_is_false(n->value)) return false;
    if (json_is_array(n->value)) return json_array_size(n->value) > 0;
    if (json_is_object(n->value)) return json_object_size(n->value) > 0;
    if (json_is_string(n->value)) return json_string_length(n->value) > 0;
    return true;
}

status openai_refuse(openai_body *b, const char *key, const char *why, error *err) {
    json_node n = json_field(&b->f, key);
    if (!openai_asks(&n)) return OK;
    return error_set(err, ERR_UNSUPPORTED, "%s: %s", key, why);
}

/* --- sampling ----------------------------------------------------------------------- */

/* The ranges are those of wire.h: wider than OpenAI's where others are. */
static status read_numbers(openai_body *b, error *err) {
    gen_sampling *s = &b->spec->request.sampling;
    json_fields *f = &b->f;
    TRY(json_get_f32(f, "temperature", 0.0f, 100.0f, &s->temperature, err));
    TRY(json_get_f32(f, "top_p", 0.0f, 1.0f, &s->top_p, err));
    TRY(json_get_f32(f, "min_p", 0.0f, 1.0f, &s->min_p, err));
    TRY(json_get_f32(f, "repeat_penalty", 0.001f, 100.0f, &s->repetition_penalty, err));
    TRY(json_get_f32(f, "repetition_penalty", 0.001f, 100.0f, &s->repetition_penalty, err));
    TRY(json_get_f32(f, "presence_penalty", -100.0f, 100.0f, &s->presence_penalty, err));
    TRY(json_get_f32(f, "frequency_penalty", -100.0f, 100.0f, &s->frequency_penalty, err));
    TRY(json_get_u32(f, "min_tokens", 0, UINT32_MAX - 1, &s->tokens_min, err));
    TRY(json_get_bool(f, "ignore_eos", &s->ignore_eos, err));
    int32_t top_k = 0, last_n = -1; /* -1: off, and the whole context */
    TRY(json_get_i32(f, "top_k", -1, INT32_MAX, &top_k, err));
    TRY(json_get_i32(f, "repeat_last_n", -1, INT32_MAX, &last_n, err));
    s->top_k = top_k > 0 ? (uint32_t)top_k : 0;
    s->penalty_tokens = last_n < 0 ? UINT32_MAX : (uint32_t)last_n;
    return OK;
}

/* Any integer from -2^63 to 2^64-1; without one, chance decides. */
static status read_seed(openai_body *b, error *err) {
    gen_sampling *s = &b->spec->request.sampling;
    json_node n = json_field(&b->f, "seed");
    os_random(&s->seed, sizeof s->seed);
    if (!json_is_number(n.value) || json_number_value(n.value) >= 0)
        return json_node_u64(&n, 0, UINT64_MAX, &s->seed, err);
    int64_t negative = 0;
    TRY(json_node_i64(&n, INT64_MIN, -1, &negative, err));
    s->seed = (uint64_t)negative;
    return OK;
}

static status add_stop(openai_body *b, const json_node *n, error *err) {
    gen_request *r = &b->spec->request;
    str text = {0};
    if (!json_is_string(n->value)) return json_node_wrong_type(n, "string", err);
    TRY(json_node_str(n, WIRE_STOP_BYTES_MAX, &text, err));
    char path[JSON_PATH_BYTES];
    json_node_path(n, path);
    if (text.n == 0) return error_set(err, ERR_INVALID, "%s: a stop string may not be empty", path);
    return openai_keep(b, text, &r->stops[r->stops_count++], err);
}

static status read_stops(openai_body *b, error *err) {
    json_node stop = json_field(&b->f, "stop");
    if (!json_node_is_set(&stop)) return OK;
    if (json_is_string(stop.value)) return add_stop(b, &stop, err);
    if (!json_is_array(stop.value)) return json_node_wrong_type(&stop, "string or array", err);
    size_t count = json_node_count(&stop);
    if (count > WIRE_STOPS_MAX)
        return error_set(err, ERR_INVALID, "stop: has %zu strings, at most %d", count,
                         WIRE_STOPS_MAX);
    for (size_t i = 0; i < count; i++) {
        json_node n = json_node_element(&stop, i);
        TRY(add_stop(b, &n, err));
    }
    return OK;
}

/* An array of token ids, at most so many; *is_set: it is there. */
static status read_ids(openai_body *b, const char *key, uint32_t count_max, wire_array *ids,
                       bool *is_set, error *err) {
    json_node list = {0};
    TRY(json_get_array(&b->f, key, count_max, &list, err));
    *is_set = list.value != NULL;
    const uint32_t count = (uint32_t)json_node_count(&list);
    if (count == 0) return OK;
    int32_t *out = arena_take(b->a, count * sizeof *out);
    if (out == NULL) return error_set(err, ERR_NOMEM, "api: no memory for %u token ids", count);
    for (uint32_t i = 0; i < count; i++) {
        json_node n = json_node_element(&list, i);
        if (!json_node_is_set(&n)) return json_node_wrong_type(&n, "number", err);
        TRY(json_node_i32(&n, 0, INT32_MAX, &out[i], err));
    }
    *ids = (wire_array){out, count};
    return OK;
}

static status read_stop_ids(openai_body *b, error *err) {
    bool is_set = false;
    return read_ids(b, "stop_token_ids", WIRE_STOP_IDS_MAX, &b->spec->request.sampling.stop_ids,
                    &is_set, err);
}

/* vLLM's; an empty list would leave nothing that could come out. */
static status read_allowed(openai_body *b, error *err) {
    wire_array *ids = &b->spec->request.sampling.allowed_ids;
    bool is_set = false;
    TRY(read_ids(b, "allowed_token_ids", WIRE_ALLOWED_IDS_MAX, ids, &is_set, err));
    if (!is_set || ids->count > 0) return OK;
    return error_set(err, ERR_INVALID, "allowed_token_ids: has 0 tokens, at least 1 must be");
}

typedef struct bias_reader {
    int32_t *ids;  /* borrowed */
    float *biases; /* borrowed */
    uint32_t count;
    status st;
    error *err;
} bias_reader;

static void read_bias(void *arg, const json_node *member) {
    bias_reader *r = arg;
    uint64_t id = 0;
    if (r->st != OK) return;
    if (!str_to_u64(member->key, &id) || id > INT32_MAX)
        r->st = error_set(r->err, ERR_INVALID, "logit_bias.%.*s: the key is no token id",
                          STR(member->key));
    else if (!json_node_is_set(member))
        r->st = json_node_wrong_type(member, "number", r->err);
    else
        r->st = json_node_f32(member, -100.0f, 100.0f, &r->biases[r->count], r->err);
    r->ids[r->count++] = (int32_t)id;
}

static status read_biases(openai_body *b, error *err) {
    json_node map = {0};
    TRY(json_get_object(&b->f, "logit_bias", &map, err));
    size_t count = map.value != NULL ? json_object_size(map.value) : 0;
    if (count == 0) return OK;
    if (count > WIRE_BIASES_MAX)
        return error_set(err, ERR_INVALID, "logit_bias: has %zu entries, at most %d", count,
                         WIRE_BIASES_MAX);
    bias_reader r = {.st = OK, .err = err};
    r.ids = arena_take(b->a, count * sizeof *r.ids);
    r.biases = arena_take(b->a, count * sizeof *r.biases);
    if (r.ids == NULL || r.biases == NULL)
        return error_set(err, ERR_NOMEM, "api: no memory for %zu biases", count);
    json_node_each(&map, read_bias, &r);
    b->spec->request.sampling.bias_ids = (wire_array){r.ids, r.count};
    b->spec->request.sampling.biases = (wire_array){r.biases, r.count};
    return r.st;
}

/* --- the answer's shape ----------------------------------------------------------------- */

static void ignore_stream_option(void *arg, str key) {
    char name[64];
    (void)snprintf(name, sizeof name, "stream_options.%.*s", STR(key));
    openai_ignore(arg, str_of(name));
}

static status read_stream(openai_body *b, error *err) {
    json_node options = {0};
    TRY(json_get_bool(&b->f, "stream", &b->spec->stream, err));
    TRY(json_get_object(&b->f, "stream_options", &options, err));
    if (options.value == NULL) return OK;
    json_fields f;
    TRY(json_fields_open(&f, &options, err));
    TRY(json_get_bool(&f, "include_usage", &b->spec->include_usage, err));
    (void)json_fields_unused(&f, ignore_stream_option, b->spec);
    return OK;
}

static status read_choices(openai_body *b, error *err) {
    uint32_t n = 1;
    TRY(json_get_u32(&b->f, "n", 1, WIRE_CHOICES_MAX, &n, err));
    b->spec->request.choices = (uint16_t)n;
    return OK;
}

/* Only "text" is done; anything else would promise a form that nobody enforces. */
static status read_response_format(openai_body *b, error *err) {
    json_node format = {0};
    TRY(json_get_object(&b->f, "response_format", &format, err));
    if (format.value == NULL) return OK;
    json_fields f;
    str type = S("");
    json_node node;
    TRY(json_fields_open(&f, &format, err));
    TRY(json_field_need(&f, "type", &node, err));
    TRY(json_node_str(&node, 64, &type, err));
    if (str_eq(type, S("text"))) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "response_format.type: '%.*s' is not supported, only 'text' is", STR(type));
}

/* What would change the answer and is not done here. */
static status refuse_constraints(openai_body *b, error *err) {
    static const char *const keys[] = {"grammar",
                                       "json_schema",
                                       "structured_outputs",
                                       "guided_json",
                                       "guided_regex",
                                       "guided_choice",
                                       "guided_grammar",
                                       "bad_words",
                                       "prompt_logprobs",
                                       "truncate_prompt_tokens",
                                       "logits_processors"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        TRY(openai_refuse(b, keys[i], "is not supported", err));
    return OK;
}

/* --- the whole body ------------------------------------------------------------------------ */

/* RFC 9110 token characters, so that a name can stand in a header field. */
static bool is_token_char(char c) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

void openai_ignore(void *arg, str key) {
    gen_spec *spec = arg;
    char name[64];
    str_copy_c(name, sizeof name, key.n > 0 ? key : S("_"));
    for (char *c = name; *c != '\0'; c++)
        if (!is_token_char(*c)) *c = '_';
    size_t at = strlen(spec->ignored), room = sizeof spec->ignored - at;
    spec->ignored_count++;
    if (strlen(name) + sizeof ", ..." < room)
        (void)snprintf(spec->ignored + at, room, "%s%s", at > 0 ? ", " : "", name);
    else if (room > sizeof ", ..." && !str_ends(str_of(spec->ignored), S("...")))
        (void)snprintf(spec->ignored + at, room, ", ...");
}

static status read_model(openai_body *b, error *err) {
    str model = S("");
    TRY(json_get_str(&b->f, "model", 1024, &model, err));
    return openai_keep(b, model, &b->spec->model, err);
}

/* What says how to generate. */
static status read_generation(openai_body *b, error *err) {
    TRY(read_numbers(b, err));
    TRY(read_seed(b, err));
    TRY(read_stops(b, err));
    TRY(read_stop_ids(b, err));
    TRY(read_biases(b, err));
    TRY(read_allowed(b, err));
    TRY(read_choices(b, err));
    TRY(read_stream(b, err));
    TRY(read_response_format(b, err));
    return refuse_constraints(b, err);
}

typedef status openai_own(openai_body *b, error *err);

static status read_body(openai_body *b, openai_own *shared, openai_own *own, error *err) {
    TRY(read_model(b, err));
    TRY(openai_read_loras(b, err));
    if (shared != NULL) TRY(shared(b, err));
    TRY(own(b, err));
    (void)json_fields_unused(&b->f, openai_ignore, b->spec);
    return OK;
}

/* "PATH: what is wrong" is how json/read.h and this room word an error of a field. */
static void fault_from(api_fault *fault, const error *err) {
    api_kind kind = API_INVALID;
    if (err->code == ERR_UNSUPPORTED) kind = API_UNSUPPORTED;
    if (err->code == ERR_NOMEM) kind = API_NOMEM;
    char path[sizeof fault->param] = "";
    const char *colon = strstr(err->msg, ": ");
    if (kind != API_NOMEM && colon != NULL)
        str_copy_c(path, sizeof path, (str){err->msg, (size_t)(colon - err->msg)});
    bool is_field = path[0] != '\0' && strcmp(path, "the document") != 0;
    (void)api_fault_set(fault, kind, is_field ? path : NULL, "%s", err->msg);
}

static bool parse(str body, arena *a, gen_spec *out, api_fault *fault, openai_own *shared,
                  openai_own *own) {
    error err;
    json_doc doc;
    memset(out, 0, sizeof *out);
    out->request.sampling = gen_sampling_default();
    if (json_parse(body, &doc, &err) != OK) {
        api_kind kind = err.code == ERR_NOMEM ? API_NOMEM : API_INVALID;
        return api_fault_set(fault, kind, NULL, "the body is not JSON: %s", err.msg);
    }
    openai_body b = {.a = a, .spec = out};
    json_node root = json_root(&doc);
    status st = json_fields_open(&b.f, &root, &err);
    if (st == OK) st = read_body(&b, shared, own, &err);
    if (st != OK) fault_from(fault, &err);
    json_doc_deinit(&doc);
    return st == OK;
}

bool openai_parse(str body, arena *a, gen_spec *out, api_fault *fault, openai_own *own) {
    return parse(body, a, out, fault, read_generation, own);
}

bool openai_parse_plain(str body, arena *a, gen_spec *out, api_fault *fault, openai_own *own) {
    return parse(body, a, out, fault, NULL, own);
}
