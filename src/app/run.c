/* run.c - `gantry run`: one completion, or a chat on the terminal. */
#include <editline/readline.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "app/client.h"
#include "app/commands.h"
#include "app/lora_args.h"
#include "app/stack.h"
#include "base/alloc.h"
#include "base/os.h"
#include "model/model.h"
#include "store/embedded.h"
#include "json/write.h"

enum { CHAT_BYTES_MAX = 64 << 20, LINE_BYTES_MAX = 1 << 20 };

typedef struct chat {
    const config *c;
    client client;
    buf messages; /* JSON objects so far, comma-separated */
    buf reply;    /* text of the running answer */
    lora_use loras;
} chat;

static volatile sig_atomic_t interrupted;
static volatile bool stop_asked;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
    stop_asked = true;
}

/* --- one request -------------------- */

static gen_request request_from(const chat *h) {
    const config *c = h->c;
    gen_request r = {.choices = 1, .sampling = gen_sampling_default()};
    r.adapters = (wire_array){h->loras.adapters, h->loras.count};
    r.adapter_scales = (wire_array){h->loras.scales, h->loras.count};
    r.chat.add_generation_prompt = true;
    r.sampling.temperature = c->temperature;
    r.sampling.top_k = c->top_k;
    r.sampling.top_p = c->top_p;
    r.sampling.min_p = c->min_p;
    r.sampling.repetition_penalty = c->repeat_penalty;
    r.sampling.seed = c->seed;
    if (c->tokens_max != 0) r.sampling.tokens_max = c->tokens_max;
    if (!config_is_given(c, "seed")) os_random(&r.sampling.seed, sizeof r.sampling.seed);
    r.stops_count = c->stop.count;
    for (uint32_t i = 0; i < r.stops_count; i++) r.stops[i] = c->stop.items[i];
    return r;
}

static status print_piece(void *ctx, str piece, error *err) {
    chat *h = ctx;
    buf_put_str(&h->reply, piece);
    return command_write_stdout(piece.p, piece.n, err);
}

static void put_message(buf *out, str role, str content) {
    json_writer w;
    json_writer_init(&w, out);
    json_begin_object(&w);
    json_kv_str(&w, "role", role);
    json_kv_str(&w, "content", content);
    json_end_object(&w);
}

static status generate(chat *h, gen_request *r, error *err) {
    client_result result = {0};
    buf_clear(&h->reply);
    stop_asked = false;
    return client_generate(&h->client, r, print_piece, h, &stop_asked, &result, err);
}

static status complete_once(chat *h, error *err) {
    gen_request r = request_from(h);
    if (h->c->raw) {
        r.prompt = GEN_PROMPT_TEXT;
        r.add_special = r.parse_special = true;
        r.text = h->c->prompt;
        return generate(h, &r, err);
    }
    buf_put_char(&h->messages, '[');
    put_message(&h->messages, S("user"), h->c->prompt);
    buf_put_char(&h->messages, ']');
    TRY(buf_status(&h->messages, "messages", err));
    r.prompt = GEN_PROMPT_CHAT;
    r.text = buf_view(&h->messages);
    return generate(h, &r, err);
}

/* --- the chat -------------------- */

/* Next line of the user, without its end; false at the end of input. */
static bool read_line(bool terminal, buf *out) {
    buf_clear(out);
    if (terminal) {
        char *line = readline("> ");
        if (line == NULL) return false;
        buf_put_str(out, str_of(line));
        if (line[0] != '\0') (void)add_history(line);
        mem_free(line); /* libedit hands out malloc memory, and that is what it gives back */
        return true;
    }
    char byte = 0;
    size_t got = 0;
    while (os_read_some(0, &byte, 1, &got, NULL) == OK && got == 1) {
        if (byte == '\n') return true;
        buf_put_char(out, byte);
    }
    return out->n > 0;
}

/* One turn: the user's line goes in, the answer comes out and is remembered.  A turn that
 * fails is forgotten, so that the conversation can go on. */
static status chat_turn(chat *h, str line, error *err) {
    size_t before = h->messages.n;
    if (before > 0) buf_put_char(&h->messages, ',');
    put_message(&h->messages, S("user"), line);
    size_t asked = h->messages.n;
    buf text;
    buf_init(&text, CHAT_BYTES_MAX);
    buf_put_char(&text, '[');
    buf_put_str(&text, buf_view(&h->messages));
    buf_put_char(&text, ']');
    status st = buf_status(&text, "conversation", err);
    gen_request r = request_from(h);
    r.prompt = GEN_PROMPT_CHAT;
    r.text = buf_view(&text);
    if (st == OK) st = generate(h, &r, err);
    buf_deinit(&text);
    if (st != OK) {
        h->messages.n = before;
        h->messages.failed = h->messages.no_memory = false;
        return st;
    }
    h->messages.n = asked;
    buf_put_char(&h->messages, ',');
    put_message(&h->messages, S("assistant"), buf_view(&h->reply));
    return command_write_stdout("\n", 1, err);
}

static status chat_loop(chat *h, const model_desc *d, error *err) {
    bool terminal = isatty(0) != 0;
    buf line;
    buf_init(&line, LINE_BYTES_MAX);
    if (terminal)
        (void)fprintf(stderr, "%s: /new starts over, /bye or ctrl-d ends, ctrl-c stops an answer\n",
                      d->name);
    status st = OK;
    while (st == OK && read_line(terminal, &line)) {
        str text = buf_view(&line);
        if (text.n == 0) continue;
        if (str_eq(text, S("/bye"))) break;
        if (str_eq(text, S("/new"))) {
            buf_clear(&h->messages);
            continue;
        }
        st = chat_turn(h, text, err);
        if (st == OK || !terminal || st == ERR_IO) continue;
        (void)fprintf(stderr, "gantry run: %s\n", err->msg); /* the next line may do better */
        st = OK;
    }
    buf_deinit(&line);
    return st;
}

/* --- the command -------------------- */

static status run_stack(const config *c, stack *s, error *err) {
    chat h = {.c = c};
    TRY(lora_args_use(c, &h.loras, err));
    TRY(stack_start(s, err));
    client_init(&h.client, stack_link(s));
    buf_init(&h.messages, CHAT_BYTES_MAX);
    buf_init(&h.reply, CHAT_BYTES_MAX);
    struct sigaction act = {.sa_handler = on_interrupt};
    (void)sigaction(SIGINT, &act, NULL);
    status st =
        config_is_given(c, "prompt") ? complete_once(&h, err) : chat_loop(&h, stack_desc(s), err);
    if (st == OK && config_is_given(c, "prompt") && isatty(1))
        st = command_write_stdout("\n", 1, err);
    buf_deinit(&h.messages);
    buf_deinit(&h.reply);
    client_deinit(&h.client);
    if (st == OK && interrupted && config_is_given(c, "prompt"))
        st = error_set(err, ERR_CANCELED, "interrupted");
    return st;
}

/* Answers depend on it, so a person is told unless all is as it should be. */
static void say_template(const config *c, const model_desc *d) {
    bool asked = str_eq(c->chat_template, S("plain"));
    if (d->chat[0] != 'j')
        (void)fprintf(stderr, "chat template: plain (%s)\n",
                      asked ? "as asked" : "the model has none");
    else if (strcmp(d->chat_check, "ok") != 0)
        (void)fprintf(stderr, "chat template: %s\n", d->chat_check);
}

/* Without a MODEL people meet the one in the binary.  A script that pipes its questions in has
 * forgotten something. */
static status model_arg(const config *c, const char **path, error *err) {
    if (c->argc_rest != 0) return command_model_arg(c, path, err);
    if (!config_is_given(c, "prompt") && isatty(0) == 0)
        return error_set(err, ERR_INVALID,
                         "usage: one MODEL is wanted, 0 given: without one, -p or a terminal "
                         "asks " EMBEDDED_NAME);
    *path = EMBEDDED_NAME;
    return OK;
}

/* What answers now is no assistant; nobody should have to find that out. */
static void say_what_it_is(const char *path) {
    if (!model_is_embedded(path)) return;
    (void)fprintf(stderr, EMBEDDED_NAME ": a small demonstration model, trained from scratch by "
                                        "Gantry's repository; not for real work.\n"
                                        "For a real one: gantry run PATH/TO/model.gguf\n");
}

status command_run(const config *c, error *err) {
    const char *path = NULL;
    str name, file;
    stack *s = NULL;
    TRY(model_arg(c, &path, err));
    if (c->raw && !config_is_given(c, "prompt"))
        return error_set(err, ERR_INVALID, "usage: --raw completes a prompt: give one with -p");
    config_model_split(str_of(path), &name, &file);
    if (c->stop.count > WIRE_STOPS_MAX)
        return error_set(err, ERR_INVALID, "usage: %u --stop texts, at most %d", c->stop.count,
                         WIRE_STOPS_MAX);
    say_what_it_is(path);
    TRY(stack_open(&s, c, name, file, err));
    if (!c->raw) say_template(c, stack_desc(s));
    status st = run_stack(c, s, err);
    stack_close(s);
    return st;
}
