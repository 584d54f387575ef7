/* vocab_json.h - a vocabulary on its way from tokenizer files that are not GGUF into tok_vocab,
 * for src/model only.
 *
 * A vocab_draft collects what the files say in any order: entries of the model, added tokens,
 * merges, steps.  vocab_draft_finish() then gives every token its place and checks what holds
 * between the parts.  Strings are views into files that live as long as the model, or copies in
 * the model's arena.  One thread; big, so keep it on the heap.
 * Source of the formats: the sources of Hugging Face tokenizers (serialization of each part) and
 * of transformers (tokenization_utils_base). */
#ifndef MODEL_VOCAB_JSON_H
#define MODEL_VOCAB_JSON_H

#include "base/buf.h"
#include "base/map.h"
#include "model/model_internal.h"
#include "json/read.h"
#include "json/stream.h"

#define VOCAB_FILE_BYTES_MAX ((size_t)1 << 30)

enum {
    VOCAB_STEPS_MAX = 256,            /* norms, and as many splits */
    VOCAB_NESTING_MAX = 8,            /* sequences in sequences */
    VOCAB_NAMES_MAX = 1024,           /* special tokens known by their text */
    VOCAB_STRING_BYTES_MAX = 1 << 24, /* one string of a component: a pattern, a charsmap */
};

typedef struct vocab_entry {
    str piece;
    uint32_t id;
    float score;
    uint8_t type;  /* tok_type */
    uint8_t flags; /* TOK_FLAG_* bits */
} vocab_entry;

typedef struct vocab_added {
    str content;
    uint32_t id;   /* as stated */
    uint8_t flags; /* TOK_FLAG_* bits */
    bool special;
    bool wins; /* its text replaces the one the model has under this id */
} vocab_added;

/* Which kinds of steps a decoder has; bits. */
enum {
    VOCAB_DECODER_BYTE_LEVEL = 1,
    VOCAB_DECODER_METASPACE = 2, /* U+2581 becomes a space */
    VOCAB_DECODER_BYTES = 4,     /* <0xXX> becomes a byte */
    VOCAB_DECODER_FUSE = 8,
    VOCAB_DECODER_STRIP = 16, /* one space at the front goes */
    VOCAB_DECODER_WORDPIECE = 32,
    VOCAB_DECODER_SUFFIX = 64, /* "</w>" becomes a space */
};

/* What a configuration says: -1 nothing, else a bool. */
typedef struct vocab_config {
    str bos, eos, unk; /* texts; p == NULL: not said */
    str cls, sep;
    str tokenizer_class; /* "LlamaTokenizerFast"; may be empty */
    int8_t add_bos, add_eos;
    int8_t lower_case, strip_accents, chinese_chars; /* BertTokenizer */
    int8_t legacy;          /* LlamaTokenizer: a space in front behind special tokens, too */
    int32_t bos_id, unk_id; /* by number, where a file says so */
    int32_t eos_ids[TOK_ENDS_MAX];
    uint32_t eos_ids_count;
    str names[VOCAB_NAMES_MAX]; /* tokens called special */
    uint32_t names_count;
} vocab_config;

typedef struct vocab_draft {
    model *m;         /* borrowed; owner of what is kept */
    const char *file; /* borrowed; name in messages: "tokenizer.json" */
    tok_vocab v;      /* what is settled already */
    buf entries;      /* vocab_entry[] in file order */
    buf added;        /* vocab_added[] in file order */
    buf merges;       /* tok_merge[] */
    str unk;          /* the model's unknown token; p == NULL: none */
    tok_norm norms[VOCAB_STEPS_MAX];
    tok_split splits[VOCAB_STEPS_MAX];
    bool obeys_config; /* BOS and EOS by the configuration, as LlamaTokenizer and T5Tokenizer */
    bool byte_level;   /* text is spelled in the alphabet of GPT-2 */
    bool metaspace;    /* spaces are spelled U+2581 */
    uint32_t decoder;  /* VOCAB_DECODER_* bits; 0: the file names none */
    vocab_config config;
    /* from vocab_draft_finish() on */
    map ids; /* text to id */
    str *pieces;
    float *scores;
    uint8_t *types;
    uint8_t *flags;
} vocab_draft;

/* --- the draft: vocab_json_draft.c, vocab_json_finish.c ------------------------------ */
NODISCARD status vocab_draft_create(vocab_draft **out, model *m, const char *file, error *err);
/* Harmless on NULL. */
void vocab_draft_destroy(vocab_draft *d);

NODISCARD status vocab_draft_entry(vocab_draft *d, const vocab_entry *e, error *err);
NODISCARD status vocab_draft_added(vocab_draft *d, const vocab_added *a, error *err);
NODISCARD status vocab_draft_merge(vocab_draft *d, tok_merge merge, error *err);
NODISCARD status vocab_draft_norm(vocab_draft *d, tok_norm step, error *err);
NODISCARD status vocab_draft_split(vocab_draft *d, tok_split step, error *err);
/* A token called special by its text; empty ones say nothing. */
NODISCARD status vocab_draft_name(vocab_draft *d, str name, error *err);

/* A copy that lives as long as the model. */
NODISCARD status vocab_draft_keep(vocab_draft *d, str s, str *out, error *err);
/* "a b": two pieces, one space between. */
NODISCARD status vocab_draft_merge_line(vocab_draft *d, str line, error *err);

/* Everything into d->m->vocab. */
NODISCARD status vocab_draft_finish(vocab_draft *d, error *err);

/* "<0x0A>" */
bool vocab_is_byte_piece(str s);

/* --- components: the small parts of a tokenizer.json, as trees ---------------------- */
/* vocab_json_norm.c; adds to d->norms. */
NODISCARD status vocab_json_normalizer(vocab_draft *d, const json_node *n, error *err);
/* vocab_json_split.c; adds to d->splits, and to d->norms what a pre-tokenizer changes. */
NODISCARD status vocab_json_pre_tokenizer(vocab_draft *d, const json_node *n, error *err);
/* vocab_json_frame.c; d->v.before and after. */
NODISCARD status vocab_json_post_processor(vocab_draft *d, const json_node *n, error *err);
/* vocab_json_decoder.c; d->decoder and what goes with it. */
NODISCARD status vocab_json_decoder(vocab_draft *d, const json_node *n, error *err);

/* vocab_json_part.c, for all of them.  Errors are ERR_INVALID or ERR_UNSUPPORTED with the path
 * inside the component; vocab_json.c puts file and component in front. */
/* "normalizers[1]: type 'X' is not known" */
NODISCARD status vocab_json_unknown(const json_node *n, str type, error *err);
/* Every member other than null was asked for, or "normalizers[1]: 'x' is not known". */
NODISCARD status vocab_json_all_known(const json_fields *f, error *err);
/* {"String": "x"} or {"Regex": "x"} */
NODISCARD status vocab_json_pattern(vocab_draft *d, json_fields *f, bool *regex, str *out,
                                    error *err);
/* A required string, copied. */
NODISCARD status vocab_json_string(vocab_draft *d, json_fields *f, const char *key, str *out,
                                   error *err);
/* Walks a component: calls `parse` for it, or for each part of a Sequence, whose member `list`
 * holds them, and then sees that no option went unread.  null is no component. */
typedef status (*vocab_json_reader)(vocab_draft *d, json_fields *f, str type, error *err);
NODISCARD status vocab_json_parts(vocab_draft *d, const json_node *n, const char *list,
                                  vocab_json_reader parse, error *err);
/* SentencePiece's map of characters, from base64. */
NODISCARD status vocab_unbase64(vocab_draft *d, str text, str *out, error *err);

/* --- whole files ------------------------------------------------------------------- */
/* vocab_json.c: a tokenizer.json.  Views into `text` are kept. */
NODISCARD status vocab_json_read(vocab_draft *d, str text, error *err);
/* vocab_json_model.c: the value of its key "model"; the stream is in front of it. */
NODISCARD status vocab_json_model(vocab_draft *d, json_stream *s, error *err);
/* vocab_json_model.c: a vocab.json, {"piece": id, ...}. */
NODISCARD status vocab_json_vocab(vocab_draft *d, str text, error *err);
/* vocab_json_pairs.c: a vocab.json with the text of its merges.txt, which is kept.  The files
 * beside it have been read into d->config. */
NODISCARD status vocab_json_pairs(vocab_draft *d, str vocab, str merges, error *err);
/* vocab_txt.c: a vocab.txt.  Views into `text` are kept; the files beside it have been read into
 * d->config. */
NODISCARD status vocab_txt_read(vocab_draft *d, str text, error *err);
/* vocab_spm.c: a tokenizer.model.  Views into `bytes` are kept. */
NODISCARD status vocab_spm_read(vocab_draft *d, str bytes, error *err);

/* --- configuration files: vocab_json_config.c --------------------------------------- */
/* `text` is the file called `name`; the first file that says something wins. */
NODISCARD status vocab_config_tokenizer(vocab_draft *d, str text, error *err);
NODISCARD status vocab_config_special(vocab_draft *d, str text, error *err);
NODISCARD status vocab_config_added(vocab_draft *d, str text, error *err);
/* generation_config.json or config.json. */
NODISCARD status vocab_config_ids(vocab_draft *d, str text, const char *name, error *err);
/* chat_template.json */
NODISCARD status vocab_config_template(vocab_draft *d, str text, error *err);

#endif
