/* vocab_spm.c - a SentencePiece tokenizer.model: a protobuf message, read field by field.
 *
 * The wire is a row of (field number and wire type, value); lengths are checked against the bytes
 * that are left, unknown fields are passed over, groups are refused.
 * Source: Protocol Buffers, "Encoding"; SentencePiece, sentencepiece_model.proto: the field numbers
 * and defaults below. */
#include <inttypes.h>
#include <math.h>

#include "model/vocab_json.h"
#include "text/tokenizer.h"

#define METASPACE "\xE2\x96\x81"

/* --- the wire -------------------------------------------------------------- */
enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

typedef struct wire {
    const char *file; /* for messages */
    const char *what; /* which message this is */
    str rest;
    const char *start; /* of the file */
} wire;

typedef struct wire_field {
    uint32_t number;
    uint32_t type;  /* WIRE_* */
    uint64_t value; /* VARINT, FIXED64, FIXED32 */
    str bytes;      /* BYTES */
} wire_field;

static status broken(const wire *w, const char *why, error *err) {
    return error_set(err, ERR_FORMAT, "%s: byte %zu: %s: %s", w->file,
                     (size_t)(w->rest.p - w->start), w->what, why);
}

static status read_varint(wire *w, uint64_t *out, error *err) {
    uint64_t value = 0;
    for (uint32_t i = 0;; i++) {
        if (i == w->rest.n) return broken(w, "a number is cut off", err);
        unsigned char byte = (unsigned char)w->rest.p[i];
        if (i == 9 && byte > 1) return broken(w, "a number is longer than 64 bits", err);
        value |= (uint64_t)(byte & 0x7F) << (7 * i);
        if (byte >= 0x80) continue;
        w->rest = str_skip(w->rest, i + 1);
        *out = value;
        return OK;
    }
}

static status read_fixed(wire *w, size_t bytes, uint64_t *out, error *err) {
    uint64_t value = 0;
    if (w->rest.n < bytes) return broken(w, "a number is cut off", err);
    for (size_t i = 0; i < bytes; i++) value |= (uint64_t)(unsigned char)w->rest.p[i] << (8 * i);
    w->rest = str_skip(w->rest, bytes);
    *out = value;
    return OK;
}

static status read_bytes(wire *w, str *out, error *err) {
    uint64_t bytes = 0;
    TRY(read_varint(w, &bytes, err));
    if (bytes > w->rest.n)
        return error_set(err, ERR_FORMAT,
                         "%s: byte %zu: %s: a field of %" PRIu64 " bytes, %zu are left", w->file,
                         (size_t)(w->rest.p - w->start), w->what, bytes, w->rest.n);
    *out = (str){w->rest.p, (size_t)bytes};
    w->rest = str_skip(w->rest, (size_t)bytes);
    return OK;
}

static status read_field(wire *w, wire_field *out, error *err) {
    wire_field f = {0};
    uint64_t tag = 0;
    TRY(read_varint(w, &tag, err));
    f.type = tag & 7;
    if (tag >> 3 == 0 || tag >> 3 > (1U << 29) - 1) return broken(w, "no field number", err);
    f.number = (uint32_t)(tag >> 3);
    switch (f.type) {
    case WIRE_VARINT:
        TRY(read_varint(w, &f.value, err));
        break;
    case WIRE_FIXED64:
        TRY(read_fixed(w, 8, &f.value, err));
        break;
    case WIRE_BYTES:
        TRY(read_bytes(w, &f.bytes, err));
        break;
    case WIRE_FIXED32:
        TRY(read_fixed(w, 4, &f.value, err));
        break;
    default:
        return broken(w, "a wire type that is not known", err);
    }
    *out = f;
    return OK;
}

/* --- what the file says ---------------------------------------------------- */
enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2, MODEL_WORD = 3, MODEL_CHAR = 4 };

typedef struct spm {
    vocab_draft *d;
    const char *start;
    uint64_t model_type;
    int64_t bos_id, eos_id; /* -1: none */
    bool suffix;            /* white space ends a word */
    bool dummy_prefix, collapse, escape;
    str charsmap;
    uint32_t pieces;
} spm;

/* Reads every field of a message with `parse`; `what` names it. */
typedef status (*field_reader)(spm *s, wire *w, const wire_field *f, error *err);

/* The field must be of that wire type. */
static status want(const wire *w, const wire_field *f, uint32_t type, error *err) {
    if (f->type == type) return OK;
    return error_set(err, ERR_FORMAT, "%s: byte %zu: %s: field %u has wire type %u, want %u",
                     w->file, (size_t)(w->rest.p - w->start), w->what, f->number, f->type, type);
}

static status read_message(spm *s, str bytes, const char *what, field_reader parse, error *err) {
    wire w = {.file = s->d->file, .what = what, .rest = bytes, .start = s->start};
    wire_field f;
    while (w.rest.n > 0) {
        TRY(read_field(&w, &f, err));
        TRY(parse(s, &w, &f, err));
    }
    return OK;
}

static status get_bool(const wire *w, const wire_field *f, bool *out, error *err) {
    TRY(want(w, f, WIRE_VARINT, err));
    *out = f->value != 0;
    return OK;
}

/* An int32: negative ones are ten bytes long. */
static status get_id(const wire *w, const wire_field *f, int64_t *out, error *err) {
    TRY(want(w, f, WIRE_VARINT, err));
    *out = (int32_t)(uint32_t)f->value;
    return OK;
}

/* --- trainer_spec, normalizer_spec ----------------------------------------- */
static status read_trainer(spm *s, wire *w, const wire_field *f, error *err) {
    switch (f->number) {
    case 3:
        TRY(want(w, f, WIRE_VARINT, err));
        s->model_type = f->value;
        return OK;
    case 24:
        return get_bool(w, f, &s->suffix, err);
    case 35:
        return get_bool(w, f, &s->d->v.byte_fallback, err);
    case 41:
        return get_id(w, f, &s->bos_id, err);
    case 42:
        return get_id(w, f, &s->eos_id, err);
    default:
        return OK;
    }
}

static status read_normalizer(spm *s, wire *w, const wire_field *f, error *err) {
    switch (f->number) {
    case 2:
        TRY(want(w, f, WIRE_BYTES, err));
        s->charsmap = f->bytes;
        return OK;
    case 3:
        return get_bool(w, f, &s->dummy_prefix, err);
    case 4:
        return get_bool(w, f, &s->collapse, err);
    case 5:
        return get_bool(w, f, &s->escape, err);
    default:
        return OK;
    }
}

static status read_denormalizer(spm *s, wire *w, const wire_field *f, error *err) {
    if (f->number != 2 || f->bytes.n == 0) return OK;
    (void)w;
    return error_set(err, ERR_UNSUPPORTED,
                     "%s: denormalizer_spec has a map of %zu bytes, which is not known how to use",
                     s->d->file, f->bytes.n);
}

/* --- pieces ---------------------------------------------------------------- */
static status read_piece_field(spm *s, wire *w, const wire_field *f, error *err) {
    vocab_entry *e = (vocab_entry *)(void *)s->d->entries.p + s->pieces;
    float score = 0;
    uint32_t bits = (uint32_t)f->value;
    switch (f->number) {
    case 1:
        TRY(want(w, f, WIRE_BYTES, err));
        e->piece = f->bytes;
        return OK;
    case 2:
        TRY(want(w, f, WIRE_FIXED32, err));
        memcpy(&score, &bits, sizeof score);
        if (isnan(score)) return broken(w, "the score is not a number", err);
        e->score = score;
        return OK;
    case 3:
        TRY(want(w, f, WIRE_VARINT, err));
        if (f->value < TOK_TYPE_NORMAL || f->value > TOK_TYPE_BYTE)
            return error_set(err, ERR_FORMAT, "%s: piece %u has type %" PRIu64 ", must be %d to %d",
                             s->d->file, s->pieces, f->value, TOK_TYPE_NORMAL, TOK_TYPE_BYTE);
        e->type = (uint8_t)f->value;
        return OK;
    default:
        return OK;
    }
}

static status check_piece(spm *s, vocab_entry *e, error *err) {
    if (e->piece.n == 0)
        return error_set(err, ERR_FORMAT, "%s: piece %u is empty (0 bytes)", s->d->file, e->id);
    if (!str_is_utf8(e->piece))
        return error_set(err, ERR_FORMAT, "%s: piece %u of %zu bytes is not UTF-8", s->d->file,
                         e->id, e->piece.n);
    if (e->type == TOK_TYPE_BYTE && !vocab_is_byte_piece(e->piece))
        return error_set(err, ERR_FORMAT, "%s: byte piece %u is '%.*s', not <0x00> to <0xFF>",
                         s->d->file, e->id, STR(e->piece));
    return OK;
}

static status read_piece(spm *s, str bytes, error *err) {
    vocab_entry fresh = {.piece = S(""), .id = s->pieces, .type = TOK_TYPE_NORMAL};
    TRY(vocab_draft_entry(s->d, &fresh, err));
    TRY(read_message(s, bytes, "piece", read_piece_field, err));
    vocab_entry *e = (vocab_entry *)(void *)s->d->entries.p + s->pieces;
    TRY(check_piece(s, e, err));
    if (e->piece.n > TOK_PIECE_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "%s: piece %u has %zu bytes, at most %d", s->d->file,
                         e->id, e->piece.n, TOK_PIECE_BYTES_MAX);
    if (e->type == TOK_TYPE_UNKNOWN) s->d->v.unk_id = (int32_t)e->id;
    if (e->type == TOK_TYPE_USER_DEFINED) e->flags = TOK_FLAG_IN_PLACE;
    s->pieces++;
    return OK;
}

/* --- the whole ------------------------------------------------------------- */
static status read_model(spm *s, wire *w, const wire_field *f, error *err) {
    if (f->number == 4 || f->number > 5) return OK;
    TRY(want(w, f, WIRE_BYTES, err));
    switch (f->number) {
    case 1:
        return read_piece(s, f->bytes, err);
    case 2:
        return read_message(s, f->bytes, "trainer_spec", read_trainer, err);
    case 3:
        return read_message(s, f->bytes, "normalizer_spec", read_normalizer, err);
    default:
        return read_message(s, f->bytes, "denormalizer_spec", read_denormalizer, err);
    }
}

static status settle_kind(const spm *s, error *err) {
    vocab_draft *d = s->d;
    if (s->model_type != MODEL_UNIGRAM && s->model_type != MODEL_BPE) {
        const char *name = s->model_type == MODEL_WORD   ? "WORD"
                           : s->model_type == MODEL_CHAR ? "CHAR"
                                                         : "unknown";
        return error_set(err, ERR_UNSUPPORTED,
                         "%s: model type %" PRIu64 " (%s), known are 1 (UNIGRAM) and 2 (BPE)",
                         d->file, s->model_type, name);
    }
    if (!s->escape)
        return error_set(err, ERR_UNSUPPORTED, "%s: escape_whitespaces is 0, must be 1", d->file);
    d->v.kind = s->model_type == MODEL_BPE ? TOK_KIND_SPM : TOK_KIND_UNIGRAM;
    d->v.float_sums = true;
    d->v.fuse_unknown = true; /* neighbours without a piece are one unknown, in both kinds */
    return OK;
}

/* SentencePiece has a BOS or EOS only where a control piece stands at that place. */
static void settle_id(const spm *s, int64_t id, int32_t *out) {
    if (id < 0 || id >= s->pieces) return;
    const vocab_entry *e = (const vocab_entry *)(const void *)s->d->entries.p + id;
    if (e->type == TOK_TYPE_CONTROL) *out = (int32_t)id;
}

/* All in one norm.  It comes late: added tokens of the files beside this one are cut out of the
 * text as it is, and what stands between them is a text for SentencePiece.  Its decoder takes a
 * first space away wherever its encoder may have put or taken one. */
static status settle_norms(spm *s, error *err) {
    vocab_draft *d = s->d;
    d->v.add_space_prefix = s->dummy_prefix || s->collapse;
    d->v.norms_late = 1;
    d->metaspace = true;
    d->decoder = VOCAB_DECODER_METASPACE; /* U+2581 is a space in user-defined pieces, too */
    return vocab_draft_norm(d,
                            (tok_norm){.kind = TOK_NORM_SENTENCEPIECE,
                                       .a = s->charsmap,
                                       .collapse = s->collapse,
                                       .left = s->dummy_prefix && !s->suffix,
                                       .right = s->dummy_prefix && s->suffix},
                            err);
}

status vocab_spm_read(vocab_draft *d, str bytes, error *err) {
    spm s = {.d = d,
             .start = bytes.p,
             .model_type = MODEL_UNIGRAM,
             .bos_id = 1,
             .eos_id = 2,
             .dummy_prefix = true,
             .collapse = true,
             .escape = true};
    TRY(read_message(&s, bytes, "model", read_model, err));
    if (s.pieces == 0)
        return error_set(err, ERR_FORMAT, "%s: there are 0 pieces in %zu bytes", d->file, bytes.n);
    TRY(settle_kind(&s, err));
    settle_id(&s, s.bos_id, &d->v.bos_id);
    settle_id(&s, s.eos_id, &d->v.eos_id);
    d->obeys_config = true;
    return settle_norms(&s, err);
}
