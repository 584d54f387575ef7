/* words.c - see words.h. */
#include "train/words.h"

enum { WORDS_FIRST = 1 << 12, WORDS_MAX = 1 << 26 };
#define WORDS_BYTES_MAX ((size_t)4 << 30)

status words_init(words *w, str pre, error *err) {
    *w = (words){0};
    arena_init(&w->memory, WORDS_BYTES_MAX);
    buf_init(&w->list, WORDS_MAX * sizeof(word_count));
    buf_init(&w->cut, WORDS_BYTES_MAX);
    buf_init(&w->spare, WORDS_BYTES_MAX);
    const tok_family *family = tok_family_find(pre);
    if (family == NULL)
        return error_set(err, ERR_NOT_FOUND, "bpe: no pre-tokenizer is called '%.*s'", STR(pre));
    w->cap = WORDS_FIRST;
    TRY(map_init(&w->index, w->cap, err));
    return tok_splitter_create(&w->splitter, family->splits, family->splits_count, err);
}

void words_deinit(words *w) {
    tok_splitter_destroy(w->splitter);
    map_deinit(&w->index);
    buf_deinit(&w->list);
    buf_deinit(&w->cut);
    buf_deinit(&w->spare);
    arena_deinit(&w->memory);
    *w = (words){0};
}

/* The map has a fixed number of places: a larger one takes over. */
static status grow(words *w, error *err) {
    map larger;
    if (w->cap > WORDS_MAX / 2)
        return error_set(err, ERR_LIMIT, "bpe: more than %u different words", w->cap);
    TRY(map_init(&larger, w->cap * 2, err));
    for (uint32_t i = 0; i < words_count(w); i++) (void)map_add(&larger, words_list(w)[i].text, i);
    map_deinit(&w->index);
    w->index = larger;
    w->cap *= 2;
    return OK;
}

static status add_word(words *w, str text, error *err) {
    uint32_t i = 0;
    if (map_get(&w->index, text, &i)) {
        ((word_count *)(void *)w->list.p)[i].count++;
        return OK;
    }
    if (words_count(w) == w->cap) TRY(grow(w, err));
    const word_count fresh = {.text = arena_dup(&w->memory, text), .count = 1};
    if (fresh.text.p == NULL) return error_set(err, ERR_NOMEM, "bpe: no memory for the words");
    (void)map_add(&w->index, fresh.text, words_count(w));
    buf_put(&w->list, &fresh, sizeof fresh);
    return buf_status(&w->list, "words", err);
}

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static bool has_sign_in_front(str word) {
    return word.n > 1 && (unsigned char)word.p[0] < 0x80 && !is_letter(word.p[0]) &&
           is_letter(word.p[1]);
}

status words_add(words *w, str text, error *err) {
    TRY(tok_split_text(w->splitter, text, &w->cut, &w->spare, err));
    const tok_word *cut = (const tok_word *)(const void *)w->cut.p;
    for (size_t i = 0; i < w->cut.n / sizeof *cut; i++) {
        str word = {text.p + cut[i].begin, cut[i].end - cut[i].begin};
        if (w->letters_apart && has_sign_in_front(word)) {
            TRY(add_word(w, (str){word.p, 1}, err));
            word = str_skip(word, 1);
        }
        TRY(add_word(w, word, err));
    }
    return OK;
}
