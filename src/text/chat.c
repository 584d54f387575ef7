/* chat.c - a chat template's life, and a request's way through it; see chat.h. */
#include "text/chat.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/os.h"
#include "text/chat_internal.h"

/* --- life cycle ----------------------------------------------------------------------------- */

/* The text of a token as it stands in a prompt, terminated; NULL without memory. */
static char *token_text(const tokenizer *tok, int32_t id) {
    char bytes[TOK_PIECE_BYTES_MAX];
    size_t n = tok != NULL && id != TOK_ID_NONE ? tok_piece_bytes(tok, id, true, bytes) : 0;
    char *text = mem_try_calloc(n + 1, 1);
    if (text != NULL) memcpy(text, bytes, n);
    return text;
}

/* A template that does not parse is remembered, not reported: only memory is a reason to fail. */
static status parse(chat_template *t, str source, jinja_template **out, error *err) {
    jinja_options options = jinja_chat_options();
    error why = {0};
    status st = jinja_parse(out, source, &options, &why);
    if (st == ERR_NOMEM) return error_set(err, st, "%s", why.msg);
    if (st != OK && t->broken.code == OK) t->broken = why;
    return OK;
}

static status fill(chat_template *t, const chat_source *s, error *err) {
    t->bos = token_text(s->tok, s->tok != NULL ? tok_bos(s->tok) : TOK_ID_NONE);
    t->eos = token_text(s->tok, s->tok != NULL ? tok_eos(s->tok) : TOK_ID_NONE);
    if (t->bos == NULL || t->eos == NULL) return error_set(err, ERR_NOMEM, "chat: no memory");
    if (s->kind == CHAT_KIND_PLAIN) {
        t->caps = (chat_caps){.system = true, .strings = true, .parts = true};
        t->caps.generation_prompt = t->caps.null_content = true;
        str_copy_c(t->check, sizeof t->check, S("ok"));
        return OK;
    }
    TRY(chat_guard_init(&t->guard, s->tok, err));
    TRY(parse(t, s->text, &t->main, err));
    if (s->tool_text.n > 0) TRY(parse(t, s->tool_text, &t->tools, err));
    t->check_until_ns = os_now_ns() + (uint64_t)CHAT_CHECK_MS_MAX * 1000000;
    if (t->main != NULL) chat_probe(t, s->text);
    if (t->caps.tools) t->caps.calls = tool_family_of(s->tool_text.n > 0 ? s->tool_text : s->text);
    chat_self_check(t, s->tok);
    t->check_until_ns = 0;
    return OK;
}

status chat_template_create(chat_template **out, const chat_source *source, error *err) {
    chat_template *t = mem_try_calloc(1, sizeof *t);
    if (t == NULL) return error_set(err, ERR_NOMEM, "chat: no memory");
    t->kind = source->kind;
    status st = fill(t, source, err);
    if (st != OK) {
        chat_template_destroy(t);
        return st;
    }
    *out = t;
    return OK;
}

void chat_template_destroy(chat_template *t) {
    if (t == NULL) return;
    jinja_destroy(t->main);
    jinja_destroy(t->tools);
    chat_guard_deinit(&t->guard);
    mem_free(t->bos);
    mem_free(t->eos);
    mem_free(t);
}

/* --- what it is ----------------------------------------------------------------------------- */

status chat_template_usable(const chat_template *t, error *err) {
    if (t->broken.code == OK) return OK;
    return error_set(err, t->broken.code, "%s", t->broken.msg);
}

const char *chat_template_check(const chat_template *t) { return t->check; }
const chat_caps *chat_template_caps(const chat_template *t) { return &t->caps; }
chat_kind chat_template_kind(const chat_template *t) { return t->kind; }

void chat_caps_text(const chat_caps *caps, char out[CHAT_CAPS_BYTES]) {
    size_t n = 0;
    out[0] = '\0';
#define CHAT_CAP_NAME(field, name)          \
    if (caps->field && n < CHAT_CAPS_BYTES) \
        n += (size_t)snprintf(out + n, CHAT_CAPS_BYTES - n, "%s%s", n > 0 ? ", " : "", name);
    CHAT_CAPS(CHAT_CAP_NAME)
#undef CHAT_CAP_NAME
    const tool_format *calls = tool_format_of(caps->calls);
    if (calls != NULL && n < CHAT_CAPS_BYTES)
        (void)snprintf(out + n, CHAT_CAPS_BYTES - n, "%s%s", n > 0 ? ", " : "", calls->capability);
}

jinja_template *chat_pick(const chat_template *t, bool with_tools) {
    return with_tools && t->tools != NULL ? t->tools : t->main;
}

/* All renders of the check share one stretch of time: a hostile template may not delay a load. */
jinja_limits chat_limits(const chat_template *t) {
    jinja_limits l = jinja_default_limits();
    if (t->check_until_ns == 0) return l;
    uint64_t now = os_now_ns();
    l.steps_max /= 10;
    l.memory_bytes_max /= 4;
    l.output_bytes_max /= 16;
    l.time_ns_max = now < t->check_until_ns ? t->check_until_ns - now : 1;
    return l;
}

/* --- prompts -------------------------------------------------------------------------------- */

void chat_prompt_init(chat_prompt *p, size_t bytes_max) {
    *p = (chat_prompt){0};
    buf_init(&p->text, bytes_max);
    buf_init(&p->breaks, bytes_max);
}

void chat_prompt_deinit(chat_prompt *p) {
    buf_deinit(&p->text);
    buf_deinit(&p->breaks);
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The prompt ends at the mark in the last message.  The blank that was put behind the mark is
 * gone where the template trims: then it would have trimmed the message, too.
 * Source: transformers, continue_final_message of apply_chat_template. */
static status cut_final(buf *text, error *err) {
    str mark = CHAT_MARK_FINAL;
    size_t at = text->n;
    while (at > 0 && !str_starts((str){text->p + at - 1, text->n - at + 1}, mark)) at--;
    if (at == 0)
        return error_set(err, ERR_INVALID,
                         "continue_final_message: the chat template leaves the last message out");
    bool trimmed = at - 1 + mark.n == text->n || text->p[at - 1 + mark.n] != ' ';
    text->n = at - 1;
    while (trimmed && text->n > 0 && is_space(text->p[text->n - 1])) text->n--;
    return OK;
}

static status render_jinja(const chat_template *t, const chat_request *r, const buf *context,
                           chat_prompt *out, error *err) {
    jinja_env env = {.now_unix_s = r->now_unix_s,
                     .utc_offset_s = r->utc_offset_s,
                     .limits = chat_limits(t),
                     .permissive = true};
    out->in_template = true;
    TRY(jinja_render(chat_pick(t, r->tools.n > 0), buf_view(context), &env, &out->text, err));
    if (r->continue_final) TRY(cut_final(&out->text, err));
    chat_guard_unmark(&out->text, 0, &out->breaks);
    TRY(buf_status(&out->breaks, "chat prompt", err));
    out->in_template = false;
    return OK;
}

static status render_plain(const chat_request *r, chat_prompt *out, error *err) {
    chat_plain_options o = {.no_generation_prompt = !r->add_generation_prompt,
                            .continue_final = r->continue_final};
    if (r->tools.n > 0)
        return error_set(err, ERR_UNSUPPORTED,
                         "tools: the plain chat template has no place for "
                         "them, and the model brings no other");
    return chat_render_plain_with(r->messages, &o, &out->text, err);
}

status chat_render(const chat_template *t, const chat_request *r, chat_prompt *out, error *err) {
    buf_clear(&out->text);
    buf_clear(&out->breaks);
    out->in_template = false;
    if (t->kind == CHAT_KIND_PLAIN) return render_plain(r, out, err);
    out->in_template = t->broken.code != OK;
    TRY(chat_template_usable(t, err));
    if (r->tools.n > 0 && !t->caps.tools)
        return error_set(err, ERR_UNSUPPORTED,
                         "tools: the model's chat template has no place for them");
    buf context;
    buf_init(&context, CHAT_CONTEXT_BYTES_MAX);
    status st = chat_put_context(t, r, &context, err);
    if (st == OK) st = render_jinja(t, r, &context, out, err);
    buf_deinit(&context);
    return st;
}

/* --- ids ------------------------------------------------------------------------------------ */

static status put_ids(const chat_template *t, const tokenizer *tok, const chat_prompt *p,
                      uint32_t tokens_max, buf *ids, error *err) {
    bool jinja = t->kind == CHAT_KIND_JINJA;
    int32_t bos = tok_bos(tok);
    str text = buf_view(&p->text);
    bool has_bos = jinja && t->bos[0] != '\0' && str_starts(text, str_of(t->bos));
    if (tok_adds_bos(tok) && bos != TOK_ID_NONE && !has_bos) buf_put(ids, &bos, sizeof bos);
    uint32_t have = (uint32_t)(ids->n / sizeof(int32_t));
    tok_options o = {.parse_special = jinja,
                     .tokens_max = tokens_max == UINT32_MAX ? tokens_max
                                   : have < tokens_max      ? tokens_max - have
                                                            : 0,
                     .breaks = (const uint32_t *)(const void *)p->breaks.p,
                     .breaks_count = (uint32_t)(p->breaks.n / sizeof(uint32_t))};
    TRY(tok_encode(tok, text, &o, ids, err));
    return buf_status(ids, "prompt ids", err);
}

status chat_encode(const chat_template *t, const tokenizer *tok, const chat_prompt *p,
                   uint32_t tokens_max, buf *ids, error *err) {
    size_t before = ids->n;
    status st = put_ids(t, tok, p, tokens_max, ids, err);
    if (st != OK) ids->n = before;
    return st;
}
