/* tok_unigram.c - the likeliest segmentation of a word into pieces.
 *
 * Each piece has the logarithm of its probability as its score; the best sum wins.  Viterbi's
 * algorithm: steps[i] is the best way to byte i, found by going on from every place with all
 * pieces that begin there (the trie names them).  A character that is no piece by itself may be
 * passed as unknown, at a score below every piece.  The word is taken in runs between
 * whose units no piece reaches, so memory follows the longest of them.
 * Source: Kudo 2018, "Subword Regularization"; the unknown score is that of SentencePiece. */
#include <float.h>
#include <math.h>

#include "base/alloc.h"
#include "base/num.h"
#include "text/tok_internal.h"

/* --- scores ------------------------------------------------------------------------------- */

double unigram_unknown_score(const tok_vocab *v) {
    float worst = FLT_MAX;
    for (uint32_t id = 0; id < v->count; id++)
        if (v->types[id] == TOK_TYPE_NORMAL) worst = fminf(worst, fmaxf(v->scores[id], -FLT_MAX));
    return (worst == FLT_MAX ? 0.0 : (double)worst) - UNIGRAM_UNKNOWN_PENALTY;
}

/* Not below 0, where SentencePiece begins to look for it. */
double unigram_best_score(const tok_vocab *v) {
    float best = 0;
    for (uint32_t id = 0; id < v->count; id++)
        if (v->types[id] == TOK_TYPE_NORMAL) best = fmaxf(best, fminf(v->scores[id], FLT_MAX));
    return best;
}

static double clamp(double score) {
    return score > FLT_MAX ? (double)FLT_MAX : score < -FLT_MAX ? (double)-FLT_MAX : score;
}

/* What a user defined wins over what training found; in place, over as many of the best pieces as
 * it has bytes, but for a tenth.  Infinite scores would make every way to a place look alike, so
 * they are cut to what sums of doubles can hold. */
static double score_of(const tokenizer *t, int32_t id) {
    if (tok_is_in_place(&t->vocab, (uint32_t)id))
        return (double)t->vocab.pieces[id].n * t->best_score - 0.1;
    if (t->vocab.types[id] == TOK_TYPE_USER_DEFINED) return 0.0;
    float score = t->vocab.scores[id];
    return isnan(score) ? (double)-FLT_MAX : clamp((double)score);
}

/* --- scratch ------------------------------------------------------------------------------ */

void unigram_scratch_deinit(unigram_scratch *s) {
    mem_free(s->steps);
    *s = (unigram_scratch){0};
}

/* Room for steps 0 .. bytes, all unreached but the first. */
static status begin_run(unigram_scratch *s, size_t bytes, double score, error *err) {
    size_t size = 0;
    if (bytes + 1 > s->cap) {
        size_t cap = bytes + 1 > 2 * s->cap ? bytes + 1 : 2 * s->cap;
        void *more =
            num_mul_size(&size, cap, sizeof *s->steps) ? mem_try_realloc(s->steps, size) : NULL;
        if (more == NULL)
            return error_set(err, ERR_NOMEM, "prompt: no memory for a run of %zu bytes", bytes);
        s->steps = more;
        s->cap = cap;
    }
    for (size_t i = 0; i <= bytes; i++) s->steps[i] = (unigram_step){.score = -DBL_MAX};
    s->steps[0].score = score;
    return OK;
}

/* --- the best way ------------------------------------------------------------------------- */

static double rounded(const tokenizer *t, double score) {
    return t->vocab.float_sums ? (double)(float)clamp(score) : score;
}

/* On equal scores the first comer stays, which is the one with the longer last piece. */
static void offer(const tokenizer *t, unigram_scratch *s, size_t to, unigram_step way) {
    if (way.score <= s->steps[to].score) return;
    way.score = rounded(t, way.score);
    s->steps[to] = way;
}

static void go_on_from(const tokenizer *t, str run, size_t at, uint32_t unit_bytes,
                       unigram_scratch *s) {
    double score = s->steps[at].score;
    bool unit_is_piece = false;
    uint32_t node = TOK_TRIE_ROOT;
    for (size_t end = at + 1; end <= run.n; end++) {
        node = tok_trie_child(&t->trie, node, (uint8_t)run.p[end - 1]);
        if (node == 0) break;
        int32_t id = t->trie.ids[node];
        if (id == TOK_ID_NONE) continue;
        offer(t, s, end, (unigram_step){score + score_of(t, id), (uint32_t)at, id});
        unit_is_piece = unit_is_piece || end == at + unit_bytes;
    }
    if (unit_is_piece) return;
    score = rounded(t, score + t->unknown_score);
    offer(t, s, at + unit_bytes, (unigram_step){score, (uint32_t)at, TOK_ID_NONE});
}

/* Turns the chain of steps round, so that it can be walked from the start: steps[i].from becomes
 * where the token that begins at i ends, with its id. */
static void turn_round(unigram_scratch *s, size_t bytes) {
    uint32_t end = (uint32_t)bytes;
    unigram_step last = s->steps[end];
    while (end > 0) {
        uint32_t begin = last.from;
        unigram_step before = s->steps[begin];
        s->steps[begin] = (unigram_step){.from = end, .id = last.id};
        last = before;
        end = begin;
    }
}

/* --- ids ---------------------------------------------------------------------------------- */

static bool put_bytes(const tokenizer *t, str unit, tok_sink *sink) {
    for (size_t i = 0; i < unit.n; i++)
        if (t->bytes[(unsigned char)unit.p[i]] == TOK_ID_NONE) return false;
    for (size_t i = 0; i < unit.n; i++) tok_sink_put(sink, t->bytes[(unsigned char)unit.p[i]]);
    return true;
}

static void emit_run(const tokenizer *t, str run, const unigram_scratch *s, tok_sink *sink) {
    for (uint32_t at = 0; at < run.n;) {
        unigram_step step = s->steps[at];
        if (step.id != TOK_ID_NONE)
            tok_sink_put(sink, step.id);
        else if (!put_bytes(t, (str){run.p + at, step.from - at}, sink))
            tok_sink_put_unknown(sink, t);
        at = step.from;
    }
}

/* Bytes of the run that `word` begins with. */
static size_t run_bytes(const tokenizer *t, str word) {
    tok_unit unit = tok_unit_of(t, word);
    size_t at = unit.bytes;
    for (tok_unit before = unit; at < word.n; before = unit, at += unit.bytes) {
        unit = tok_unit_of(t, str_skip(word, at));
        if (!tok_may_join(t, before, unit)) break;
    }
    return at;
}

status unigram_encode(const tokenizer *t, str word, unigram_scratch *s, tok_sink *sink,
                      error *err) {
    double score = 0; /* of what is behind us, where that changes how sums are rounded */
    while (word.n > 0 && !tok_sink_is_over(sink)) {
        str run = {word.p, run_bytes(t, word)};
        TRY(begin_run(s, run.n, score, err));
        for (size_t at = 0; at < run.n;) {
            uint32_t bytes = tok_unit_of(t, str_skip(run, at)).bytes;
            go_on_from(t, run, at, bytes, s);
            at += bytes;
        }
        if (t->vocab.float_sums) score = s->steps[run.n].score;
        turn_round(s, run.n);
        emit_run(t, run, s, sink);
        word = str_skip(word, run.n);
    }
    return OK;
}
