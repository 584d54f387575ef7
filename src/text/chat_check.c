/* chat_check.c - does the template do its job with this vocabulary?  Asked once, at load.
 *
 * An error is a template that does not parse, or that refuses an ordinary conversation (others
 * may still render).  A warning names what will disappoint: contents that are lost or changed, a
 * turn that no token ends, a generation prompt that is missing, BOS twice.  Broken templates are
 * common in model files; silence about them is what costs people days. */
#include <stdarg.h>
#include <stdio.h>

#include "base/os.h"
#include "text/chat_internal.h"

enum { CHECK_BYTES_MAX = 8 << 20 };

#define SAID_SYSTEM "You answer in Gantrian."
#define SAID_USER   "How deep is the lake?"
#define SAID_REPLY  "Deeper than it looks: 31 m."
#define SAID_AGAIN  "And {{ how }} <cold> is \\\"it\\\" & why?" /* as JSON spells it */
#define SEEN_AGAIN  "And {{ how }} <cold> is \"it\" & why?"

typedef struct warnings {
    char text[CHAT_CHECK_BYTES];
    uint32_t count;
} warnings;

__attribute__((format(printf, 2, 3))) static void warn(warnings *w, const char *fmt, ...) {
    size_t at = strlen(w->text);
    if (w->count++ > 0) at += (size_t)snprintf(w->text + at, sizeof w->text - at, "; ");
    if (at >= sizeof w->text) return;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(w->text + at, sizeof w->text - at, fmt, ap);
    va_end(ap);
}

static chat_request conversation(str messages, bool generation_prompt) {
    return (chat_request){.messages = messages, .add_generation_prompt = generation_prompt};
}

/* Wherever the template puts them: some write system text into the last message. */
static void check_contents(const buf *text, warnings *w) {
    static const char *const said[] = {SAID_SYSTEM, SAID_USER, SAID_REPLY, SEEN_AGAIN};
    static const char *const names[] = {"system message", "first user message", "assistant's reply",
                                        "last user message"};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (!chat_has(text, said[i])) warn(w, "the %s does not come out as it is", names[i]);
}

static void check_bos(const chat_template *t, const buf *text, warnings *w) {
    str bos = str_of(t->bos), s = buf_view(text);
    if (bos.n > 0 && str_starts(s, bos) && str_starts(str_skip(s, bos.n), bos))
        warn(w, "the prompt begins with '%.20s' twice", t->bos);
}

/* Is one of the tokens behind the reply an end of generation? */
static bool ends_turn(const tokenizer *tok, str behind) {
    tok_options o = {.parse_special = true, .tokens_max = UINT32_MAX};
    bool ends = false;
    buf ids;
    buf_init(&ids, CHECK_BYTES_MAX);
    if (tok_encode(tok, behind, &o, &ids, NULL) == OK) {
        for (size_t i = 0; i < ids.n; i += sizeof(int32_t)) {
            int32_t id = 0;
            memcpy(&id, ids.p + i, sizeof id);
            ends = ends || tok_is_eog(tok, id);
        }
    }
    buf_deinit(&ids);
    return ends;
}

static bool is_blank(str s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != ' ' && s.p[i] != '\t' && s.p[i] != '\r' && s.p[i] != '\n') return false;
    return true;
}

/* Does the prompt lead right up to where a reply stands in a history?  Templates of the "[INST]"
 * kind do without a generation prompt. */
static bool leads_to_reply(const chat_template *t, str before_reply) {
    chat_prompt p;
    chat_request r = conversation(S("[{\"role\":\"user\",\"content\":\"" SAID_USER "\"}]"), true);
    chat_prompt_init(&p, CHECK_BYTES_MAX);
    bool leads = chat_render(t, &r, &p, NULL) == OK;
    str prompt = buf_view(&p.text);
    while (prompt.n > 0 && is_blank((str){prompt.p + prompt.n - 1, 1})) prompt.n--;
    leads = leads && str_starts(before_reply, prompt) && is_blank(str_skip(before_reply, prompt.n));
    chat_prompt_deinit(&p);
    return leads;
}

/* The first characters of what stands behind a reply, as far as they can be shown in a line. */
static str shown(str behind) {
    size_t n = 0;
    while (n < behind.n && n < 24 && (unsigned char)behind.p[n] >= 0x20) n++;
    while (n > 0 && n < behind.n && ((unsigned char)behind.p[n] & 0xC0) == 0x80) n--;
    return (str){behind.p, n};
}

#define TURN                                                                                 \
    "{\"role\":\"user\",\"content\":\"" SAID_USER "\"},{\"role\":\"assistant\",\"content\":" \
    "\"" SAID_REPLY "\"}"

/* The text behind the reply in these messages, up to `end` where that comes; n == 0 when the
 * reply is not there. */
static str behind_reply(const chat_template *t, str messages, const char *end, chat_prompt *p) {
    chat_request r = conversation(messages, false);
    if (chat_render(t, &r, p, NULL) != OK) return (str){"", 0};
    str text = buf_view(&p->text);
    const char *at = memmem(text.p, text.n, SAID_REPLY, sizeof SAID_REPLY - 1);
    if (at == NULL) return (str){"", 0};
    str behind = str_skip(text, (size_t)(at - text.p) + sizeof SAID_REPLY - 1);
    const char *stop = memmem(behind.p, behind.n, end, strlen(end));
    if (stop != NULL) behind.n = (size_t)(stop - behind.p);
    return behind;
}

/* A turn is ended by a token of its own, or by the one that begins the next user's turn. */
static void check_end(const chat_template *t, const tokenizer *tok, chat_prompt *p, warnings *w) {
    str again = S("[" TURN ",{\"role\":\"user\",\"content\":\"" SAID_AGAIN "\"}]");
    if (tok == NULL || ends_turn(tok, behind_reply(t, again, SEEN_AGAIN, p))) return;
    str behind = behind_reply(t, S("[" TURN "]"), SEEN_AGAIN, p);
    if (ends_turn(tok, behind)) return;
    str seen = shown(behind);
    warn(w, "no end-of-generation token ends a turn (%s%.*s%s): answers may run on",
         seen.n > 0 ? "'" : "nothing", STR(seen), seen.n > 0 ? "' does" : " does");
}

/* What stands before and behind a reply. */
static void check_turn(const chat_template *t, const tokenizer *tok, chat_prompt *p, warnings *w) {
    check_end(t, tok, p, w);
    chat_request r = conversation(S("[" TURN "]"), false);
    if (t->caps.generation_prompt || chat_render(t, &r, p, NULL) != OK) return;
    str text = buf_view(&p->text);
    const char *at = memmem(text.p, text.n, SAID_REPLY, sizeof SAID_REPLY - 1);
    if (at != NULL && !leads_to_reply(t, (str){text.p, (size_t)(at - text.p)}))
        warn(w, "add_generation_prompt changes nothing");
}

static status check_conversation(const chat_template *t, const tokenizer *tok, chat_prompt *p,
                                 warnings *w, error *err) {
    chat_request r = conversation(S("[{\"role\":\"system\",\"content\":\"" SAID_SYSTEM
                                    "\"},{\"role\":\"user\",\"content\":\"" SAID_USER
                                    "\"},{\"role\":\"assistant\",\"content\":\"" SAID_REPLY
                                    "\"},{\"role\":\"user\",\"content\":\"" SAID_AGAIN "\"}]"),
                                  true);
    TRY(chat_render(t, &r, p, err));
    check_contents(&p->text, w);
    check_bos(t, &p->text, w);
    check_turn(t, tok, p, w);
    if (!t->caps.system) warn(w, "no system role: its text goes in front of the user's");
    return OK;
}

void chat_self_check(chat_template *t, const tokenizer *tok) {
    warnings w = {0};
    chat_prompt p;
    error why = {0};
    chat_prompt_init(&p, CHECK_BYTES_MAX);
    if (t->broken.code != OK) why = t->broken;
    if (why.code == OK) (void)check_conversation(t, tok, &p, &w, &why);
    chat_prompt_deinit(&p);
    if (os_now_ns() >= t->check_until_ns && t->broken.code == OK)
        (void)snprintf(t->check, sizeof t->check, "error: the check takes more than %d ms",
                       CHAT_CHECK_MS_MAX);
    else if (why.code != OK)
        (void)snprintf(t->check, sizeof t->check, "error: %.200s", why.msg);
    else if (w.count > 0)
        (void)snprintf(t->check, sizeof t->check, "%u warning%s: %.200s", w.count,
                       w.count == 1 ? "" : "s", w.text);
    else
        str_copy_c(t->check, sizeof t->check, S("ok"));
}
