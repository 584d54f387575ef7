/* tok_norm_chars.c - the normalizing steps that look at one character at a time.
 *
 * Source: Hugging Face tokenizers, normalizers "Lowercase", "StripAccents", "Nmt" and
 * "BertNormalizer"; the Unicode standard, SpecialCasing, for U+0130. */
#include "text/tok_norm_internal.h"
#include "text/unicode.h"

enum {
    MARKS = 1 << UNICODE_MN,
    /* The categories that BERT's clean-up counts as control characters. */
    CONTROLS =
        1 << UNICODE_CC | 1 << UNICODE_CF | 1 << UNICODE_CO | 1 << UNICODE_CS | 1 << UNICODE_CN,
};

static void put(buf *out, uint32_t cp) {
    char bytes[UNICODE_BYTES_MAX];
    buf_put(out, bytes, unicode_encode(cp, bytes));
}

static void put_lower(buf *out, uint32_t cp) {
    if (cp == 0x130) {
        buf_put_str(out, S("i\xCC\x87")); /* the dot stays: the one lower case of two characters */
    } else {
        put(out, unicode_lower(cp));
    }
}

static bool nmt_drops(uint32_t cp) {
    return (cp >= 0x01 && cp <= 0x08) || cp == 0x0B || (cp >= 0x0E && cp <= 0x1F) || cp == 0x7F ||
           cp == 0x8F || cp == 0x9F;
}

static bool nmt_is_blank(uint32_t cp) {
    return cp == 0x09 || cp == 0x0A || cp == 0x0C || cp == 0x0D || cp == 0x1680 ||
           (cp >= 0x200B && cp <= 0x200F) || cp == 0x2028 || cp == 0x2029 || cp == 0x2581 ||
           cp == 0xFEFF || cp == 0xFFFD;
}

static void put_nmt(buf *out, uint32_t cp) {
    if (!nmt_drops(cp)) put(out, nmt_is_blank(cp) ? ' ' : cp);
}

static void put_clean(buf *out, uint32_t cp) {
    bool blank = cp == '\t' || cp == '\n' || cp == '\r';
    if (cp == 0 || cp == UNICODE_REPLACEMENT) return;
    if (!blank && (unicode_category_bit(cp) & CONTROLS) != 0) return;
    put(out, blank || unicode_is_space(cp) ? ' ' : cp);
}

/* The blocks of BERT's original; extension E begins at 2B820, but it has always said 2B920. */
static bool is_cjk(uint32_t cp) {
    static const uint32_t blocks[][2] = {
        {0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
        {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F},
    };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (cp >= blocks[i][0] && cp <= blocks[i][1]) return true;
    return false;
}

static void put_chinese(buf *out, uint32_t cp) {
    bool apart = is_cjk(cp);
    if (apart) buf_put_char(out, ' ');
    put(out, cp);
    if (apart) buf_put_char(out, ' ');
}

static void put_without_accent(buf *out, uint32_t cp) {
    if ((unicode_category_bit(cp) & MARKS) == 0) put(out, cp);
}

static void put_base_letter(buf *out, uint32_t cp) { put(out, norm_base_letter(cp)); }

void norm_chars(tok_norm_kind kind, str text, buf *out) {
    void (*put_one)(buf *, uint32_t) = put;
    if (kind == TOK_NORM_LOWERCASE) put_one = put_lower;
    if (kind == TOK_NORM_BASE_LETTERS) put_one = put_base_letter;
    if (kind == TOK_NORM_STRIP_ACCENTS) put_one = put_without_accent;
    if (kind == TOK_NORM_NMT) put_one = put_nmt;
    if (kind == TOK_NORM_BERT_CLEAN) put_one = put_clean;
    if (kind == TOK_NORM_BERT_CHINESE) put_one = put_chinese;
    while (text.n > 0 && !out->failed) {
        uint32_t cp;
        uint32_t bytes = unicode_decode(text.p, text.n, &cp);
        put_one(out, cp);
        text = str_skip(text, bytes);
    }
}

/* White space that the text ends with: how many bytes the last such character has, 0 is none. */
static size_t last_space(str text) {
    size_t n = 1;
    uint32_t cp;
    while (n < text.n && n < UNICODE_BYTES_MAX &&
           ((unsigned char)text.p[text.n - n] & 0xC0) == 0x80)
        n++;
    if (text.n == 0 || unicode_decode(text.p + text.n - n, n, &cp) != n) return 0;
    return unicode_is_space(cp) ? n : 0;
}

str norm_strip(str text, bool left, bool right) {
    uint32_t cp;
    while (left && text.n > 0) {
        uint32_t bytes = unicode_decode(text.p, text.n, &cp);
        if (!unicode_is_space(cp)) break;
        text = str_skip(text, bytes);
    }
    for (size_t bytes = right ? last_space(text) : 0; bytes > 0; bytes = last_space(text))
        text.n -= bytes;
    return text;
}
