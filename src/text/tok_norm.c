/* tok_norm.c - the normalizing steps in their order, and those that work on bytes. */
#include "text/tok_norm.h"

#include "base/alloc.h"
#include "base/num.h"
#include "text/tok_norm_internal.h"
#include "text/tok_split_internal.h"

typedef struct norm_step {
    const tok_norm *rule;  /* borrowed */
    charsmap map;          /* TOK_NORM_CHARSMAP, TOK_NORM_SENTENCEPIECE */
    split_matcher matcher; /* TOK_NORM_REPLACE_REGEX */
} norm_step;

struct tok_normalizer {
    const tok_trie *kept; /* borrowed, or NULL: TOK_NORM_SENTENCEPIECE */
    uint32_t count;
    norm_step steps[]; /* [count] */
};

/* --- creating ------------------------------------------------------------------------------ */

static status init_step(norm_step *s, const tok_norm *rule, error *err) {
    *s = (norm_step){.rule = rule};
    if (rule->kind == TOK_NORM_CHARSMAP || rule->kind == TOK_NORM_SENTENCEPIECE)
        return charsmap_open(&s->map, rule->a, err);
    if (rule->kind == TOK_NORM_REPLACE_REGEX) return split_matcher_init(&s->matcher, rule->a, err);
    return OK;
}

status tok_normalizer_create(tok_normalizer **out, const tok_norm *steps, uint32_t count,
                             error *err) {
    size_t bytes = 0;
    bool fits = num_mul_size(&bytes, count, sizeof(norm_step)) &&
                num_add_size(&bytes, bytes, sizeof(tok_normalizer));
    tok_normalizer *n = fits ? mem_try_calloc(1, bytes) : NULL;
    if (n == NULL)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for %u normalizing steps", count);
    for (; n->count < count; n->count++) {
        status st = init_step(&n->steps[n->count], &steps[n->count], err);
        if (st == OK) continue;
        tok_normalizer_destroy(n);
        return st;
    }
    *out = n;
    return OK;
}

void tok_normalizer_keep(tok_normalizer *n, const tok_trie *kept) { n->kept = kept; }

void tok_normalizer_destroy(tok_normalizer *n) {
    if (n == NULL) return;
    for (uint32_t i = 0; i < n->count; i++) split_matcher_deinit(&n->steps[i].matcher);
    mem_free(n);
}

static bool is_identity(const tok_norm *rule) {
    switch (rule->kind) {
    case TOK_NORM_STRIP:
        return !rule->left && !rule->right;
    case TOK_NORM_REPLACE:
        return rule->a.n == 0 || str_eq(rule->a, rule->b);
    case TOK_NORM_PREPEND:
    case TOK_NORM_CHARSMAP:
        return rule->a.n == 0;
    default:
        return false;
    }
}

bool tok_normalizer_is_identity(const tok_normalizer *n) {
    for (uint32_t i = 0; i < n->count; i++)
        if (!is_identity(n->steps[i].rule)) return false;
    return true;
}

/* --- steps on bytes ------------------------------------------------------------------------ */

static void replace(const tok_norm *rule, str text, buf *out) {
    for (;;) {
        const char *at = memmem(text.p, text.n, rule->a.p, rule->a.n);
        if (at == NULL || out->failed) break;
        buf_put(out, text.p, (size_t)(at - text.p));
        buf_put_str(out, rule->b);
        text = str_skip(text, (size_t)(at - text.p) + rule->a.n);
    }
    buf_put_str(out, text);
}

static status replace_matches(const norm_step *s, str text, buf *out, error *err) {
    split_search search = {0};
    size_t covered = 0, begin = 0, end = 0;
    bool found = false;
    status st = split_search_init(&search, &s->matcher, text.n, err);
    if (st == OK) st = split_search_text(&search, text, err);
    if (st == OK) st = split_search_next(&search, &found, &begin, &end, err);
    while (st == OK && found && !out->failed) {
        buf_put(out, text.p + covered, begin - covered);
        buf_put_str(out, s->rule->b);
        covered = end;
        st = split_search_next(&search, &found, &begin, &end, err);
    }
    if (st == OK) buf_put_str(out, str_skip(text, covered));
    split_search_deinit(&search);
    return st;
}

static void collapse_spaces(str text, buf *out) {
    bool spaces = false; /* seen and not yet written */
    for (size_t i = 0; i < text.n;) {
        const char *space = memchr(text.p + i, ' ', text.n - i);
        size_t word_end = space != NULL ? (size_t)(space - text.p) : text.n;
        if (word_end > i) {
            if (spaces && out->n > 0) buf_put_char(out, ' ');
            buf_put(out, text.p + i, word_end - i);
            spaces = false;
        }
        spaces = spaces || space != NULL;
        i = word_end + 1;
    }
}

/* --- normalizing --------------------------------------------------------------------------- */

/* Does the step leave this text as it is? */
static bool leaves(const tok_norm *rule, str text, bool first) {
    if (text.n == 0 || is_identity(rule)) return true;
    switch (rule->kind) {
    case TOK_NORM_NFC:
    case TOK_NORM_NFD:
    case TOK_NORM_NFKC:
    case TOK_NORM_NFKD:
        return norm_form_is_plain(rule->kind, text);
    case TOK_NORM_PREPEND:
        return (rule->first_only && !first) || (rule->unless_there && str_starts(text, rule->a));
    default:
        return false;
    }
}

static status run_step(const tok_normalizer *n, uint32_t i, str text, buf *out, error *err) {
    const norm_step *s = &n->steps[i];
    const tok_norm *rule = s->rule;
    switch (rule->kind) {
    case TOK_NORM_NFC:
    case TOK_NORM_NFD:
    case TOK_NORM_NFKC:
    case TOK_NORM_NFKD:
        TRY(norm_form(rule->kind, text, out, err));
        break;
    case TOK_NORM_STRIP:
        buf_put_str(out, norm_strip(text, rule->left, rule->right));
        break;
    case TOK_NORM_REPLACE:
        replace(rule, text, out);
        break;
    case TOK_NORM_REPLACE_REGEX:
        TRY(replace_matches(s, text, out, err));
        break;
    case TOK_NORM_PREPEND:
        buf_put_str(out, rule->a);
        buf_put_str(out, text);
        break;
    case TOK_NORM_COLLAPSE_SPACES:
        collapse_spaces(text, out);
        break;
    case TOK_NORM_CHARSMAP:
        charsmap_apply(&s->map, text, out);
        break;
    case TOK_NORM_SENTENCEPIECE:
        norm_sentencepiece(rule, &s->map, n->kept, text, out);
        break;
    case TOK_NORM_LOWERCASE:
    case TOK_NORM_BASE_LETTERS:
    case TOK_NORM_STRIP_ACCENTS:
    case TOK_NORM_NMT:
    case TOK_NORM_BERT_CLEAN:
    case TOK_NORM_BERT_CHINESE:
        norm_chars(rule->kind, text, out);
        break;
    }
    return buf_status(out, "tokenizer: normalized text", err);
}

/* The content changes places; limits stay where they are. */
static void swap_content(buf *a, buf *b) {
    buf old = *a;
    a->p = b->p;
    a->n = b->n;
    a->cap = b->cap;
    b->p = old.p;
    b->n = old.n;
    b->cap = old.cap;
}

status tok_normalize(const tok_normalizer *n, str text, bool first, buf *out, buf *spare,
                     error *err) {
    buf *from = NULL; /* where `text` lies, NULL: with the caller */
    size_t spare_max = spare->bytes_max;
    status st = OK;
    spare->bytes_max = out->bytes_max; /* the text is as limited on its way as at its end */
    buf_clear(out);
    for (uint32_t i = 0; i < n->count && st == OK; i++) {
        if (leaves(n->steps[i].rule, text, first)) continue;
        buf *to = from == out ? spare : out;
        buf_clear(to);
        st = run_step(n, i, text, to, err);
        from = to;
        text = buf_view(to);
    }
    spare->bytes_max = spare_max;
    if (st == OK && from == spare) swap_content(out, spare);
    if (st != OK || from != NULL) return st;
    buf_put_str(out, text);
    return buf_status(out, "tokenizer: normalized text", err);
}
