/* main.c - gantry-train: a tokenizer and a small model from a file of conversations.
 *
 *   gantry-train bpe   learns a vocabulary            docs/train.md
 *   gantry-train run   trains a model and writes it as GGUF
 *
 * Exit status: 0, 1 for an error, 2 for wrong usage, 3 when it was stopped and can go on. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "text/tok_vocab.h"
#include "train/corpus.h"
#include "train/files.h"
#include "train/learn.h"
#include "train/options.h"
#include "train/vocab_file.h"
#include "train/words.h"

#define ROWS(table) ((uint32_t)(sizeof(table) / sizeof *(table)))

/* --- bpe --------------------------------------------------------------------------------- */

typedef struct bpe_settings {
    const char *corpus, *chat_template, *specials, *user_defined, *pre, *bos, *eos, *eot, *out;
    uint32_t vocab;
    bool letters_apart;
} bpe_settings;

#define TEXT(field)   OPTION_TEXT, offsetof(bpe_settings, field), 0, 0
#define COUNT(field)  OPTION_COUNT, offsetof(bpe_settings, field)
#define SWITCH(field) OPTION_SWITCH, offsetof(bpe_settings, field), 0, 0
static const option_row bpe_rows[] = {
    {"corpus", TEXT(corpus), NULL, "conversations, JSON Lines"},
    {"chat-template", TEXT(chat_template), NULL, "the model's Jinja template, a file"},
    {"vocab", COUNT(vocab), 257, BPE_TOKENS_MAX, "2048", "tokens in all, special ones included"},
    {"special", TEXT(specials), NULL, "control tokens, A,B,C; they get the last ids"},
    {"user-defined", TEXT(user_defined), "", "tokens that are text, A,B,C; the ids after those"},
    {"pre", TEXT(pre), "qwen2", "how text is split into words: tokenizer.ggml.pre"},
    {"letters-apart", SWITCH(letters_apart), "false",
     "no token has a blank or sign in front of letters"},
    {"bos", TEXT(bos), "", "the special token that begins a text"},
    {"eos", TEXT(eos), NULL, "the special token that ends a text"},
    {"eot", TEXT(eot), "", "the special token that ends a turn"},
    {"out", TEXT(out), NULL, "the vocabulary, a GGUF file without tensors; also -o"},
};
#undef TEXT
#undef COUNT
#undef SWITCH

/* Where the first special token of `text` stands, and which it is. */
static const char *find_special(const vocab_plan *plan, str text, str *which) {
    const char *first = NULL;
    for (uint32_t i = 0; i < plan->specials_count; i++) {
        const char *at = memmem(text.p, text.n, plan->specials[i].p, plan->specials[i].n);
        if (at == NULL || (first != NULL && at >= first)) continue;
        first = at;
        *which = plan->specials[i];
    }
    return first;
}

static status count_text(words *w, const vocab_plan *plan, str text, error *err) {
    while (text.n > 0) {
        str special = {0};
        const char *at = find_special(plan, text, &special);
        const size_t before = at != NULL ? (size_t)(at - text.p) : text.n;
        TRY(words_add(w, (str){text.p, before}, err));
        text = str_skip(text, before + special.n);
    }
    return OK;
}

static status count_corpus(words *w, const vocab_plan *plan, corpus *c, error *err) {
    const chat_source source = {.kind = CHAT_KIND_JINJA, .text = plan->chat_template};
    chat_template *t = NULL;
    conversation talk;
    TRY(chat_template_create(&t, &source, err));
    status st = chat_template_usable(t, err);
    conversation_init(&talk);
    for (str line; st == OK && corpus_next(c, &line);) {
        st = conversation_read(&talk, t, line, err);
        if (st == OK) st = count_text(w, plan, buf_view(&talk.whole.text), err);
        if (st != OK) st = corpus_blame(c, err);
    }
    conversation_deinit(&talk);
    chat_template_destroy(t);
    return st;
}

static status learn_vocab(const bpe_settings *s, const vocab_plan *plan, corpus *c, error *err) {
    words w;
    bpe b = {0};
    status st = words_init(&w, plan->pre, err);
    w.letters_apart = s->letters_apart;
    if (st == OK && s->vocab < BPE_BYTES + plan->specials_count)
        st = error_set(err, ERR_INVALID, "usage: --vocab %u does not hold %d bytes and %u specials",
                       s->vocab, BPE_BYTES, plan->specials_count);
    if (st == OK) st = count_corpus(&w, plan, c, err);
    if (st == OK) st = bpe_train(&b, &w, s->vocab - plan->specials_count, err);
    if (st == OK) st = vocab_file_write(s->out, plan, &b, err);
    if (st == OK)
        printf("%s: %u tokens, %u merges, %u special, from %u different words\n", s->out,
               b.tokens_count + plan->specials_count, b.merges_count, plan->specials_count,
               words_count(&w));
    bpe_deinit(&b);
    words_deinit(&w);
    return st;
}

static status command_bpe(const void *settings, error *err) {
    const bpe_settings *s = settings;
    vocab_plan plan = {
        .pre = str_of(s->pre), .bos = str_of(s->bos), .eos = str_of(s->eos), .eot = str_of(s->eot)};
    corpus c = {0};
    buf text;
    buf_init(&text, CORPUS_LINE_BYTES_MAX);
    status st = vocab_plan_specials(&plan, str_of(s->specials), TOK_TYPE_CONTROL, err);
    if (st == OK)
        st = vocab_plan_specials(&plan, str_of(s->user_defined), TOK_TYPE_USER_DEFINED, err);
    if (st == OK) st = file_read(s->chat_template, &text, err);
    plan.chat_template = buf_view(&text);
    if (st == OK) st = corpus_open(&c, s->corpus, err);
    if (st == OK) st = learn_vocab(s, &plan, &c, err);
    corpus_close(&c);
    buf_deinit(&text);
    return st;
}

/* --- run --------------------------------------------------------------------------------- */

#define TEXT(field)   OPTION_TEXT, offsetof(learn_settings, field), 0, 0
#define COUNT(field)  OPTION_COUNT, offsetof(learn_settings, field)
#define NUMBER(field) OPTION_NUMBER, offsetof(learn_settings, field)
#define SWITCH(field) OPTION_SWITCH, offsetof(learn_settings, field), 0, 0
static const option_row run_rows[] = {
    {"corpus", TEXT(corpus), NULL, "conversations, JSON Lines"},
    {"tok", TEXT(vocab), NULL, "the vocabulary that `gantry-train bpe` has made"},
    {"out", TEXT(out), NULL, "the model, a GGUF file; also -o"},
    {"name", TEXT(name), "", "general.name"},
    {"description", TEXT(description), "", "general.description"},
    {"license", TEXT(license), "", "general.license"},
    {"embd", COUNT(shape.embd), 1, SHAPE_EMBD_MAX, "192", "width of the residual stream"},
    {"layers", COUNT(shape.layers), 1, SHAPE_LAYERS_MAX, "6", "blocks"},
    {"heads", COUNT(shape.heads), 1, SHAPE_EMBD_MAX, "6", "of queries"},
    {"kv-heads", COUNT(shape.kv_heads), 1, SHAPE_EMBD_MAX, "2", "of keys and values"},
    {"head-dim", COUNT(shape.head_dim), 2, 256, "32", "elements of a head"},
    {"ff", COUNT(shape.ff), 1, SHAPE_FF_MAX, "512", "width of the feed-forward block"},
    {"ctx", COUNT(shape.ctx), 2, SHAPE_CTX_MAX, "512", "tokens of the longest document"},
    {"rope-base", NUMBER(shape.rope_base), 1, 1e9, "10000", "of the rotary angles"},
    {"norm-eps", NUMBER(shape.norm_eps), 1e-12, 1, "1e-5", "epsilon of RMSNorm"},
    {"batch-tokens", COUNT(batch_tokens), 2, 1 << 20, "2048", "tokens of a batch at most"},
    {"accumulate", COUNT(accumulate), 1, 64, "4", "batches of a step"},
    {"prompt-weight", NUMBER(prompt_weight), 0, 1, "0", "of tokens outside of answers, 0 to 1"},
    {"epochs", NUMBER(epochs), 0.001, 1e6, "1", "times through the corpus"},
    {"steps", COUNT(steps), 0, 1e9, "0", "instead of epochs"},
    {"rate", NUMBER(rate), 0, 1, "2e-3", "learning rate after the warmup"},
    {"rate-end", NUMBER(rate_end), 0, 1, "0.1", "of the last step, as a part of --rate"},
    {"warmup", COUNT(warmup), 0, 1e9, "100", "steps in which the rate rises"},
    {"optimizer", TEXT(method), "adamw", "adamw, or muon for the matrices of the blocks"},
    {"momentum", NUMBER(optimizer.momentum), 0, 0.9999, "0.95", "of Muon"},
    {"beta1", NUMBER(optimizer.beta1), 0, 0.9999, "0.9", "of AdamW"},
    {"beta2", NUMBER(optimizer.beta2), 0, 0.99999, "0.95", "of AdamW"},
    {"eps", NUMBER(optimizer.eps), 1e-12, 1, "1e-8", "of AdamW"},
    {"decay", NUMBER(optimizer.decay), 0, 10, "0.1", "weight decay of matrices"},
    {"clip", NUMBER(optimizer.clip), 0, 1e6, "1", "longest gradient; 0: no limit"},
    {"init-std", NUMBER(init_std), 0, 1, "0.02", "of the first weights"},
    {"seed", OPTION_SEED, offsetof(learn_settings, seed), 0, 1.8e19, "1", "of all that is random"},
    {"held-out", COUNT(held_out), 0, 1e9, "0", "documents for validation"},
    {"validate-every", COUNT(validate_every), 0, 1e9, "200", "steps; 0: at the end only"},
    {"checkpoint", TEXT(checkpoint), "", "a file to go on from"},
    {"checkpoint-every", COUNT(checkpoint_every), 0, 1e9, "500", "steps; 0: at the end only"},
    {"resume", SWITCH(resume), "false", "go on from --checkpoint"},
    {"stop-after", COUNT(stop_after), 0, 1e9, "0", "stop after so many steps; 0: at the end"},
    {"threads", COUNT(threads), 0, POOL_THREADS_MAX, "0", "0: as many as there are cores"},
    {"kernels", TEXT(kernels), "", "avx512, avx2 or plain instead of the best; same results"},
    {"log-every", COUNT(log_every), 1, 1e9, "50", "steps from one line to the next"},
    {"quiet", SWITCH(quiet), "false", "nothing but errors"},
};
#undef TEXT
#undef COUNT
#undef NUMBER
#undef SWITCH

static volatile sig_atomic_t stop_asked;

static void on_stop(int signal_number) {
    (void)signal_number;
    stop_asked = 1;
}

static status command_run(const void *settings, error *err) {
    const learn_settings *s = settings;
    const struct sigaction act = {.sa_handler = on_stop};
    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGTERM, &act, NULL);
    TRY(learn_run(s, &stop_asked, err));
    printf("%s\n", s->out);
    return OK;
}

/* --- commands ---------------------------------------------------------------------------- */

typedef struct command {
    const char *name;
    const option_row *rows;
    uint32_t count;
    status (*run)(const void *settings, error *err);
    const char *help;
} command;

static const command commands[] = {
    {"bpe", bpe_rows, ROWS(bpe_rows), command_bpe, "learn a vocabulary from conversations"},
    {"run", run_rows, ROWS(run_rows), command_run, "train a model and write it as GGUF"},
};

static int usage(FILE *to, int exit_status) {
    (void)fprintf(to, "usage: gantry-train COMMAND [options]\n\n");
    for (size_t i = 0; i < ROWS(commands); i++)
        (void)fprintf(to, "  %-5s %s\n", commands[i].name, commands[i].help);
    (void)fprintf(to, "\ngantry-train COMMAND --help tells its options\n");
    return exit_status;
}

static int exit_status_of(status st, const error *err) {
    if (st == OK) return 0;
    if (st == ERR_CANCELED) return 3;
    return st == ERR_INVALID && strncmp(err->msg, "usage: ", 7) == 0 ? 2 : 1;
}

static int run_command(const command *c, int argc, char **argv) {
    union {
        bpe_settings bpe;
        learn_settings learn;
    } settings;
    option_set o;
    error err = {0};
    options_init(&o, c->rows, c->count, &settings);
    status st = options_parse(&o, argc, argv, &err);
    if (st == OK && o.help)
        options_help(&o, c->name);
    else if (st == OK)
        st = c->run(&settings, &err);
    if (st != OK) (void)fprintf(stderr, "gantry-train %s: %s\n", c->name, err.msg);
    options_deinit(&o);
    return exit_status_of(st, &err);
}

int main(int argc, char **argv) {
    log_set_level(LOG_WARN);
    if (argc < 2) return usage(stderr, 2);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) return usage(stdout, 0);
    for (size_t i = 0; i < ROWS(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return run_command(&commands[i], argc - 2, argv + 2);
    (void)fprintf(stderr, "gantry-train: no command '%s'\n\n", argv[1]);
    return usage(stderr, 2);
}
