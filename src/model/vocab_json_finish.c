/* vocab_json_finish.c - a draft becomes a tok_vocab: every token gets its place, and what the
 * parts say of each other is checked. */
#include <inttypes.h>

#include "base/alloc.h"
#include "base/num.h"
#include "model/vocab_json.h"

static uint32_t entries_count(const vocab_draft *d) {
    return (uint32_t)(d->entries.n / sizeof(vocab_entry));
}

static vocab_entry *entry_at(const vocab_draft *d, uint32_t i) {
    return (vocab_entry *)(void *)d->entries.p + i;
}

static uint32_t added_count(const vocab_draft *d) {
    return (uint32_t)(d->added.n / sizeof(vocab_added));
}

static vocab_added *added_at(const vocab_draft *d, uint32_t i) {
    return (vocab_added *)(void *)d->added.p + i;
}

static int32_t find(const vocab_draft *d, str text) {
    uint32_t id = 0;
    return text.p != NULL && map_get(&d->ids, text, &id) ? (int32_t)id : TOK_ID_NONE;
}

static bool is_hex_digit(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

bool vocab_is_byte_piece(str s) {
    return s.n == 6 && memcmp(s.p, "<0x", 3) == 0 && s.p[5] == '>' && is_hex_digit(s.p[3]) &&
           is_hex_digit(s.p[4]);
}

/* --- ids ------------------------------------------------------------------- */
/* Lists may repeat a text, the first one is found by it; an object has each key once. */
static status index_entries(vocab_draft *d, error *err) {
    bool list = d->v.kind == TOK_KIND_UNIGRAM || d->v.kind == TOK_KIND_SPM;
    for (uint32_t i = 0; i < entries_count(d); i++) {
        const vocab_entry *e = entry_at(d, i);
        if (map_add(&d->ids, e->piece, e->id) || list) continue;
        return error_set(err, ERR_FORMAT, "%s: token '%.*s' has ids %d and %u", d->file,
                         STR(e->piece), find(d, e->piece), e->id);
    }
    return OK;
}

/* An added token whose text the model has is that token, whatever id it states. */
static void index_added(vocab_draft *d, bool wins) {
    for (uint32_t i = 0; i < added_count(d); i++) {
        vocab_added *a = added_at(d, i);
        if (a->wins != wins || map_add(&d->ids, a->content, a->id)) continue;
        a->id = (uint32_t)find(d, a->content);
    }
}

static status count_tokens(vocab_draft *d, error *err) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < entries_count(d); i++)
        count = num_max_u32(count, entry_at(d, i)->id + 1);
    for (uint32_t i = 0; i < added_count(d); i++)
        count = num_max_u32(count, added_at(d, i)->id + 1);
    if (count == 0) return error_set(err, ERR_FORMAT, "%s: the vocabulary has 0 tokens", d->file);
    d->v.count = count;
    return OK;
}

static status take_arrays(vocab_draft *d, error *err) {
    void *pieces = NULL, *scores = NULL, *types = NULL, *flags = NULL;
    TRY(model_take(d->m, d->v.count, sizeof(str), "the tokens", &pieces, err));
    TRY(model_take(d->m, d->v.count, sizeof(float), "the scores", &scores, err));
    TRY(model_take(d->m, d->v.count, sizeof(uint8_t), "the token types", &types, err));
    TRY(model_take(d->m, d->v.count, sizeof(uint8_t), "the token flags", &flags, err));
    d->pieces = pieces;
    d->scores = scores;
    d->types = types;
    d->flags = flags;
    return OK;
}

/* --- places ---------------------------------------------------------------- */
static status place_entries(vocab_draft *d, error *err) {
    for (uint32_t i = 0; i < entries_count(d); i++) {
        const vocab_entry *e = entry_at(d, i);
        if (d->pieces[e->id].p != NULL)
            return error_set(err, ERR_FORMAT, "%s: id %u is given to '%.*s' and to '%.*s'", d->file,
                             e->id, STR(d->pieces[e->id]), STR(e->piece));
        d->pieces[e->id] = e->piece;
        d->scores[e->id] = e->score;
        d->types[e->id] = e->type;
        d->flags[e->id] = e->flags;
    }
    return OK;
}

static status place_added(vocab_draft *d, bool wins, error *err) {
    for (uint32_t i = 0; i < added_count(d); i++) {
        const vocab_added *a = added_at(d, i);
        str *piece = &d->pieces[a->id];
        if (a->wins != wins) continue;
        if (piece->p != NULL && !str_eq(*piece, a->content) && !wins)
            return error_set(err, ERR_FORMAT, "%s: added token '%.*s' has id %u, which is '%.*s'",
                             d->file, STR(a->content), a->id, STR(*piece));
        *piece = a->content;
        d->flags[a->id] = a->flags;
        if (!a->special)
            d->types[a->id] = TOK_TYPE_USER_DEFINED;
        else if (d->types[a->id] != TOK_TYPE_UNKNOWN)
            d->types[a->id] = TOK_TYPE_CONTROL;
    }
    return OK;
}

static void place_names(vocab_draft *d) {
    for (uint32_t i = 0; i < d->config.names_count; i++) {
        int32_t id = find(d, d->config.names[i]);
        if (id != TOK_ID_NONE && d->types[id] != TOK_TYPE_UNKNOWN) d->types[id] = TOK_TYPE_CONTROL;
    }
}

static void place_rest(vocab_draft *d) {
    for (uint32_t id = 0; id < d->v.count; id++) {
        if (d->pieces[id].p == NULL) {
            d->pieces[id] = S("");
            d->types[id] = TOK_TYPE_UNUSED;
        }
        if (d->v.byte_fallback && d->types[id] == TOK_TYPE_NORMAL &&
            vocab_is_byte_piece(d->pieces[id]))
            d->types[id] = TOK_TYPE_BYTE;
    }
}

static status place_tokens(vocab_draft *d, error *err) {
    TRY(map_init(&d->ids, entries_count(d) + added_count(d), err));
    TRY(index_entries(d, err));
    index_added(d, false);
    index_added(d, true);
    TRY(count_tokens(d, err));
    TRY(take_arrays(d, err));
    TRY(place_entries(d, err));
    TRY(place_added(d, false, err));
    TRY(place_added(d, true, err));
    place_names(d);
    place_rest(d);
    return OK;
}

/* --- merges ---------------------------------------------------------------- */
static status check_piece(const vocab_draft *d, uint32_t merge, str piece, error *err) {
    if (map_get(&d->ids, piece, NULL)) return OK;
    return error_set(err, ERR_FORMAT, "%s: merge %u needs '%.*s', which is no token", d->file,
                     merge, STR(piece));
}

/* Both pieces and what they become, which has the continuing prefix only once. */
static status check_merge(const vocab_draft *d, uint32_t i, const tok_merge *merge, error *err) {
    char joined[2048]; /* two pieces of at most TOK_PIECE_BYTES_MAX */
    TRY(check_piece(d, i, merge->left, err));
    TRY(check_piece(d, i, merge->right, err));
    str right = merge->right;
    str prefix = d->v.continuing_prefix;
    if (prefix.n > 0 && str_starts(right, prefix)) right = str_skip(right, prefix.n);
    memcpy(joined, merge->left.p, merge->left.n);
    if (right.n > 0) memcpy(joined + merge->left.n, right.p, right.n);
    return check_piece(d, i, (str){joined, merge->left.n + right.n}, err);
}

static status place_merges(vocab_draft *d, error *err) {
    void *taken = NULL;
    uint32_t count = (uint32_t)(d->merges.n / sizeof(tok_merge));
    TRY(model_take(d->m, count, sizeof(tok_merge), "the merges", &taken, err));
    if (count > 0) memcpy(taken, d->merges.p, d->merges.n);
    d->v.merges = taken;
    d->v.merges_count = count;
    for (uint32_t i = 0; i < count; i++) TRY(check_merge(d, i, &d->v.merges[i], err));
    return OK;
}

/* --- special ids and the frame --------------------------------------------- */
static status id_of(const vocab_draft *d, const char *what, str text, int32_t number, int32_t *out,
                    error *err) {
    int32_t id = find(d, text);
    if (id == TOK_ID_NONE) id = number;
    if (id != TOK_ID_NONE && (uint32_t)id >= d->v.count)
        return error_set(err, ERR_FORMAT, "%s: %s is %d, the vocabulary has %u tokens", d->file,
                         what, id, d->v.count);
    if (id != TOK_ID_NONE) *out = id;
    return OK;
}

static void add_end(tok_vocab *v, int32_t id) {
    bool there = id == v->eos_id;
    for (uint32_t i = 0; i < v->ends_count; i++) there |= v->ends[i] == id;
    if (!there) v->ends[v->ends_count++] = id;
}

static status place_specials(vocab_draft *d, error *err) {
    const vocab_config *c = &d->config;
    int32_t first_eos = c->eos_ids_count > 0 ? c->eos_ids[0] : d->v.eos_id;
    TRY(id_of(d, "bos_token_id", c->bos, c->bos_id == TOK_ID_NONE ? d->v.bos_id : c->bos_id,
              &d->v.bos_id, err));
    TRY(id_of(d, "eos_token_id", c->eos, first_eos, &d->v.eos_id, err));
    TRY(id_of(d, "unk_token_id", d->unk.p != NULL ? d->unk : c->unk,
              d->v.unk_id == TOK_ID_NONE ? c->unk_id : d->v.unk_id, &d->v.unk_id, err));
    for (uint32_t i = 0; i < c->eos_ids_count; i++) {
        int32_t id = TOK_ID_NONE;
        TRY(id_of(d, "eos_token_id", (str){0}, c->eos_ids[i], &id, err));
        add_end(&d->v, id);
    }
    /* GPT-2 calls a token unknown, but its model leaves out what it does not know */
    d->v.drop_unknown = d->v.kind == TOK_KIND_BPE && d->unk.p == NULL;
    bool list = d->v.kind == TOK_KIND_UNIGRAM || d->v.kind == TOK_KIND_SPM;
    if (list && d->v.unk_id != TOK_ID_NONE) d->types[d->v.unk_id] = TOK_TYPE_UNKNOWN;
    return OK;
}

/* Classes whose code puts BOS and EOS around by what the configuration says. */
static bool class_obeys_config(str name) {
    static const char *const names[] = {"LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer",
                                        "CohereTokenizer"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_starts(name, str_of(names[i]))) return true;
    return false;
}

static status set_edge(const vocab_draft *d, int32_t list[TOK_AROUND_MAX], uint32_t *count, bool on,
                       int32_t id, bool in_front, error *err) {
    uint32_t edge = in_front || *count == 0 ? 0 : *count - 1;
    bool there = *count > 0 && list[edge] == id;
    if (on == there || id == TOK_ID_NONE) return OK;
    if (!on) {
        if (in_front) memmove(list, list + 1, (*count - 1) * sizeof *list);
        --*count;
        return OK;
    }
    if (*count == TOK_AROUND_MAX)
        return error_set(err, ERR_LIMIT, "%s: more than %d tokens on one side of a text", d->file,
                         TOK_AROUND_MAX);
    if (in_front) memmove(list + 1, list, *count * sizeof *list);
    list[in_front ? 0 : *count] = id;
    ++*count;
    return OK;
}

/* The post-processor has the word; where it adds nothing, and for classes that are built so,
 * the configuration does. */
static status settle_frame(vocab_draft *d, error *err) {
    const vocab_config *c = &d->config;
    tok_vocab *v = &d->v;
    bool silent = v->before_count == 0 && v->after_count == 0;
    bool obeys = d->obeys_config || class_obeys_config(c->tokenizer_class);
    bool unigram = v->kind == TOK_KIND_UNIGRAM;
    if (!silent && !obeys) return OK;
    int8_t add_bos = c->add_bos, add_eos = c->add_eos;
    if (silent && obeys && !unigram && add_bos < 0) add_bos = 1;
    if (d->obeys_config && unigram && add_eos < 0) add_eos = 1;
    if (add_bos >= 0)
        TRY(set_edge(d, v->before, &v->before_count, add_bos > 0, v->bos_id, true, err));
    if (add_eos < 0) return OK;
    return set_edge(d, v->after, &v->after_count, add_eos > 0, v->eos_id, false, err);
}

static status check_frame(const vocab_draft *d, const int32_t *ids, uint32_t count, error *err) {
    for (uint32_t i = 0; i < count; i++) {
        if ((uint32_t)ids[i] < d->v.count) continue;
        return error_set(err, ERR_FORMAT, "%s: post_processor adds token %d, there are %u tokens",
                         d->file, ids[i], d->v.count);
    }
    return OK;
}

/* --- form ------------------------------------------------------------------ */
static status settle_form(vocab_draft *d, error *err) {
    tok_vocab *v = &d->v;
    uint32_t other = VOCAB_DECODER_METASPACE | VOCAB_DECODER_WORDPIECE;
    bool bytes_out = (d->decoder & VOCAB_DECODER_BYTE_LEVEL) != 0;
    if (d->byte_level ? (d->decoder & other) != 0 : bytes_out)
        return error_set(err, ERR_UNSUPPORTED,
                         "%s: ByteLevel is %s for text on its way in, %s on its way out", d->file,
                         d->byte_level ? "on" : "off", bytes_out ? "on" : "off");
    if (d->byte_level)
        v->form = TOK_FORM_BYTE_LEVEL;
    else if (d->metaspace || (d->decoder & VOCAB_DECODER_METASPACE) != 0)
        v->form = TOK_FORM_METASPACE;
    else if (v->kind == TOK_KIND_WORDPIECE || (d->decoder & VOCAB_DECODER_WORDPIECE) != 0 ||
             (v->kind == TOK_KIND_WORDLEVEL && d->decoder == 0))
        v->form = TOK_FORM_HASH_MARK;
    else
        v->form = TOK_FORM_PLAIN;
    return OK;
}

static status keep_steps(vocab_draft *d, error *err) {
    void *norms = NULL, *splits = NULL;
    TRY(model_take(d->m, d->v.norms_count, sizeof(tok_norm), "the normalizer", &norms, err));
    TRY(model_take(d->m, d->v.splits_count, sizeof(tok_split), "the splits", &splits, err));
    memcpy(norms, d->norms, d->v.norms_count * sizeof(tok_norm));
    memcpy(splits, d->splits, d->v.splits_count * sizeof(tok_split));
    d->v.norms = norms;
    d->v.splits = splits;
    return OK;
}

status vocab_draft_finish(vocab_draft *d, error *err) {
    TRY(place_tokens(d, err));
    TRY(place_merges(d, err));
    TRY(place_specials(d, err));
    TRY(settle_frame(d, err));
    TRY(check_frame(d, d->v.before, d->v.before_count, err));
    TRY(check_frame(d, d->v.after, d->v.after_count, err));
    TRY(settle_form(d, err));
    TRY(keep_steps(d, err));
    d->v.add_space_prefix |= (d->decoder & VOCAB_DECODER_STRIP) != 0;
    d->v.unescape_all = (d->decoder & VOCAB_DECODER_METASPACE) != 0;
    bool scored = d->v.kind == TOK_KIND_SPM || d->v.kind == TOK_KIND_UNIGRAM;
    d->v.pieces = d->pieces;
    d->v.scores = scored ? d->scores : NULL;
    d->v.types = d->types;
    d->v.flags = d->flags;
    d->m->vocab = d->v;
    return OK;
}
