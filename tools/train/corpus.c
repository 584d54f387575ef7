/* corpus.c - see corpus.h. */
#include "train/corpus.h"

#include "base/os.h"
#include "train/files.h"
#include "json/read.h"

/* --- lines ------------------------------------------------------------------------------- */

status corpus_open(corpus *c, const char *path, error *err) {
    *c = (corpus){0};
    buf_init(&c->text, CORPUS_BYTES_MAX);
    return file_read(path, &c->text, err);
}

void corpus_close(corpus *c) { buf_deinit(&c->text); }

void corpus_rewind(corpus *c) {
    c->at = 0;
    c->line = 0;
}

bool corpus_next(corpus *c, str *line) {
    while (c->at < c->text.n) {
        const char *begin = c->text.p + c->at;
        const char *end = memchr(begin, '\n', c->text.n - c->at);
        *line = (str){begin, end != NULL ? (size_t)(end - begin) : c->text.n - c->at};
        c->at += line->n + (end != NULL);
        c->line++;
        if (line->n > 0) return true;
    }
    return false;
}

status corpus_blame(const corpus *c, error *err) {
    if (err == NULL) return ERR_INVALID;
    return error_set(err, err->code, "corpus: line %u: %.280s", c->line, err->msg);
}

/* --- conversations ----------------------------------------------------------------------- */

enum { PROMPT_BYTES_MAX = 16 << 20 };

void conversation_init(conversation *c) {
    *c = (conversation){0};
    chat_prompt_init(&c->whole, PROMPT_BYTES_MAX);
    chat_prompt_init(&c->before, PROMPT_BYTES_MAX);
    buf_init(&c->answers, PROMPT_BYTES_MAX);
    buf_init(&c->messages, PROMPT_BYTES_MAX);
    buf_init(&c->tools, PROMPT_BYTES_MAX);
    buf_init(&c->ends, PROMPT_BYTES_MAX);
}

void conversation_deinit(conversation *c) {
    buf *bufs[] = {&c->answers, &c->messages, &c->tools, &c->ends};
    chat_prompt_deinit(&c->whole);
    chat_prompt_deinit(&c->before);
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) buf_deinit(bufs[i]);
}

/* Fills c->messages with "[first, second, ..." and c->ends with where each of them ends, so that
 * the first i + 1 messages are the text up to ends[i] and a bracket. */
static status write_messages(conversation *c, const json_node *messages, error *err) {
    buf_clear(&c->messages);
    buf_clear(&c->ends);
    for (size_t i = 0; i < json_node_count(messages); i++) {
        const json_node m = json_node_element(messages, i);
        json_writer w;
        buf_put_char(&c->messages, i == 0 ? '[' : ',');
        json_writer_init(&w, &c->messages);
        json_node_write(&m, &w);
        buf_put(&c->ends, &c->messages.n, sizeof c->messages.n);
    }
    TRY(buf_status(&c->ends, "messages", err));
    return buf_status(&c->messages, "messages", err);
}

/* The first `count` messages as text. */
static status render(conversation *c, const chat_template *t, size_t count, bool generation_prompt,
                     chat_prompt *out, error *err) {
    const size_t end = count > 0 ? ((const size_t *)(const void *)c->ends.p)[count - 1] : 1;
    char *text = c->messages.p;
    const char kept = text[end]; /* there is always one byte more */
    text[end] = ']';
    const chat_request q = {.messages = {text, end + 1},
                            .tools = buf_view(&c->tools),
                            .add_generation_prompt = generation_prompt};
    const status st = chat_render(t, &q, out, err);
    text[end] = kept;
    return st;
}

/* Does `longer` go on where `shorter` ends? */
static status check_goes_on(const chat_prompt *shorter, const chat_prompt *longer, size_t message,
                            error *err) {
    if (str_starts(buf_view(&longer->text), buf_view(&shorter->text))) return OK;
    return error_set(err, ERR_INVALID,
                     "messages[%zu]: the template writes the %zu bytes before it differently once "
                     "it is there",
                     message, shorter->text.n);
}

static status add_answer(conversation *c, const chat_template *t, size_t message, error *err) {
    TRY(render(c, t, message, true, &c->before, err));
    if (c->answers.n > 0) TRY(check_goes_on(&c->whole, &c->before, message, err));
    TRY(render(c, t, message + 1, false, &c->whole, err));
    TRY(check_goes_on(&c->before, &c->whole, message, err));
    const span s = {(uint32_t)c->before.text.n, (uint32_t)c->whole.text.n};
    buf_put(&c->answers, &s, sizeof s);
    return buf_status(&c->answers, "answers", err);
}

static status is_answer(const json_node *messages, size_t i, bool *out, error *err) {
    const json_node m = json_node_element(messages, i);
    json_fields f;
    str role = S("");
    TRY(json_fields_open(&f, &m, err));
    TRY(json_get_str(&f, "role", 32, &role, err));
    *out = str_eq_c(role, "assistant");
    return OK;
}

static status read_tools(conversation *c, json_fields *f, error *err) {
    json_node tools;
    json_writer w;
    buf_clear(&c->tools);
    TRY(json_get_array(f, "tools", CHAT_MESSAGES_MAX, &tools, err));
    if (tools.value == NULL || json_node_count(&tools) == 0) return OK;
    json_writer_init(&w, &c->tools);
    json_node_write(&tools, &w);
    return buf_status(&c->tools, "tools", err);
}

static status read_document(conversation *c, const chat_template *t, const json_doc *doc,
                            error *err) {
    const json_node root = json_root(doc);
    json_fields f;
    json_node messages;
    TRY(json_fields_open(&f, &root, err));
    TRY(read_tools(c, &f, err));
    TRY(json_get_array(&f, "messages", CHAT_MESSAGES_MAX, &messages, err));
    if (json_node_count(&messages) == 0)
        return error_set(err, ERR_INVALID, "messages: an array of one or more is wanted");
    TRY(write_messages(c, &messages, err));
    buf_put_char(&c->messages, ']');
    buf_clear(&c->answers);
    for (size_t i = 0; i < json_node_count(&messages); i++) {
        bool answer = false;
        TRY(is_answer(&messages, i, &answer, err));
        if (answer) TRY(add_answer(c, t, i, err));
    }
    if (c->answers.n > 0) return OK;
    return error_set(err, ERR_INVALID, "messages: %zu of them and none is the assistant's",
                     json_node_count(&messages));
}

status conversation_read(conversation *c, const chat_template *t, str line, error *err) {
    json_doc doc;
    if (line.n > CORPUS_LINE_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "%zu bytes, at most %d", line.n, CORPUS_LINE_BYTES_MAX);
    TRY(json_parse(line, &doc, err));
    const status st = read_document(c, t, &doc, err);
    json_doc_deinit(&doc);
    return st;
}
