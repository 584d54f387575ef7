/* text_prompt.c - see text_prompt.h. */
#include "worker/text_prompt.h"

#include <time.h>

#include "base/num.h"
#include "base/os.h"

enum {
    PROMPT_BYTES_MAX = 64 << 20,  /* rendered text, and ids, of one prompt */
    PROMPT_COUNTED_MAX = 1 << 20, /* an over-long prompt is counted this far */
    KEPT_BYTES_MAX = 1 << 20,     /* by text_prompt_trim() */
};

void text_prompt_init(text_prompt *p) {
    *p = (text_prompt){0};
    chat_prompt_init(&p->rendered, PROMPT_BYTES_MAX);
    buf_init(&p->ids, PROMPT_BYTES_MAX);
}

void text_prompt_deinit(text_prompt *p) {
    chat_prompt_deinit(&p->rendered);
    buf_deinit(&p->ids);
}

void text_prompt_trim(text_prompt *p) {
    buf *all[] = {&p->rendered.text, &p->rendered.breaks, &p->ids};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        buf_clear(all[i]);
        buf_trim(all[i], KEPT_BYTES_MAX);
    }
}

wire_array text_prompt_ids(const text_prompt *p) {
    return (wire_array){p->ids.p, (uint32_t)(p->ids.n / sizeof(int32_t))};
}

static uint32_t counted_max(const text_worker_options *o) {
    return num_max_u32(PROMPT_COUNTED_MAX, o->desc.ctx_max);
}

static status encode_text(text_prompt *p, const text_worker_options *o, const gen_request *r,
                          error *err) {
    tok_options opt = {
        .add_special = r->add_special,
        .parse_special = r->parse_special,
        .tokens_max = counted_max(o),
    };
    return tok_encode(o->tok, r->text, &opt, &p->ids, err);
}

/* Templates that ask for the time get that of the server's zone, as transformers' do. */
static int32_t utc_offset_s(int64_t unix_s) {
    time_t t = (time_t)unix_s;
    struct tm tm;
    return localtime_r(&t, &tm) != NULL ? (int32_t)tm.tm_gmtoff : 0;
}

static status encode_chat(text_prompt *p, const text_worker_options *o, const chat_template *t,
                          const gen_request *r, gen_fault *fault, error *err) {
    int64_t now_s = (int64_t)(os_wall_ms() / 1000);
    chat_request q = {.messages = r->text,
                      .tools = r->chat.tools,
                      .documents = r->chat.documents,
                      .variables = r->chat.variables,
                      .add_generation_prompt = r->chat.add_generation_prompt,
                      .continue_final = r->chat.continue_final,
                      .trusted = o->trust_content,
                      .now_unix_s = now_s,
                      .utc_offset_s = utc_offset_s(now_s)};
    p->plain_chat = chat_template_kind(t) == CHAT_KIND_PLAIN;
    if (r->chat.tools.n > 0) p->calls = chat_template_caps(t)->calls;
    status st = chat_render(t, &q, &p->rendered, err);
    if (st == ERR_UNSUPPORTED) *fault = GEN_FAULT_NONE; /* a field that has no place here */
    if (st != OK && p->rendered.in_template) *fault = GEN_FAULT_TEMPLATE;
    if (st == OK) st = chat_encode(t, o->tok, &p->rendered, counted_max(o), &p->ids, err);
    return st;
}

/* With the template that the request brought along. */
static status encode_with_own(text_prompt *p, const text_worker_options *o, const gen_request *r,
                              gen_fault *fault, error *err) {
    chat_source s = {.kind = CHAT_KIND_JINJA, .text = r->chat.chat_template, .tok = o->tok};
    chat_template *t = NULL;
    *fault = GEN_FAULT_TEMPLATE;
    if (!o->request_templates)
        return error_set(err, ERR_UNSUPPORTED, "chat_template: requests may not bring their own");
    TRY(chat_template_create(&t, &s, err));
    *fault = GEN_FAULT_PROMPT;
    status st = encode_chat(p, o, t, r, fault, err);
    chat_template_destroy(t);
    return st;
}

gen_fault text_prompt_too_long(gen_kind kind) {
    return kind == GEN_KIND_GENERATE ? GEN_FAULT_CONTEXT_LENGTH : GEN_FAULT_INPUT_LENGTH;
}

/* What a prompt that does not encode is to blame for. */
static gen_fault fault_of(status st, gen_kind kind) {
    if (st == ERR_LIMIT) return text_prompt_too_long(kind);
    return st == ERR_NOMEM ? GEN_FAULT_NONE : GEN_FAULT_PROMPT;
}

static status make(text_prompt *p, const text_worker_options *o, const gen_request *r,
                   gen_fault *fault, error *err) {
    switch (r->prompt) {
    case GEN_PROMPT_TEXT:
        return encode_text(p, o, r, err);
    case GEN_PROMPT_IDS:
        buf_put(&p->ids, r->ids.p, (size_t)r->ids.count * sizeof(int32_t));
        return buf_status(&p->ids, "prompt", err);
    case GEN_PROMPT_PAIR:
        return tok_encode_pair(o->tok, r->text, r->pair, counted_max(o), &p->ids, err);
    default:
        break;
    }
    if (r->chat.chat_template.n > 0) return encode_with_own(p, o, r, fault, err);
    return encode_chat(p, o, o->chat, r, fault, err);
}

status text_prompt_make(text_prompt *p, const text_worker_options *o, const gen_request *r,
                        gen_fault *fault, error *err) {
    buf_clear(&p->ids);
    p->plain_chat = false;
    p->calls = TOOL_FAMILY_NONE;
    *fault = GEN_FAULT_PROMPT;
    status st = make(p, o, r, fault, err);
    if (st != OK && *fault == GEN_FAULT_PROMPT) *fault = fault_of(st, r->kind);
    return st;
}
