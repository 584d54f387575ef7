/* jinja_lex.c - see jinja_lex.h.
 *
 * Two modes: in text, the next tag is looked for; in a tag, tokens are cut until its end.  A tag
 * ends only where no bracket is open, since }} may also close two dictionaries. */
#include "text/jinja_lex.h"

#include <inttypes.h>

#include "base/num.h"
#include "text/jinja_number.h"
#include "text/jinja_unicode.h"

static const char *const WORDS[] = {
#define TOKEN_WORDS(name, words) words,
    JINJA_TOKENS(TOKEN_WORDS)
#undef TOKEN_WORDS
};

const char *jinja_token_words(jinja_token_kind kind) { return WORDS[kind]; }

void jinja_lex_init(jinja_lexer *l, str source, const jinja_options *options, arena *mem) {
    *l = (jinja_lexer){
        .source = source, .line = 1, .options = *options, .mem = mem, .line_starting = true};
}

static str rest(const jinja_lexer *l) { return str_skip(l->source, l->at); }

static void count_lines(jinja_lexer *l, str s) {
    for (size_t i = 0; i < s.n; i++) l->line += s.p[i] == '\n';
}

/* Moves on by n bytes and counts their lines. */
static void advance(jinja_lexer *l, size_t n) {
    count_lines(l, (str){l->source.p + l->at, n});
    l->at += n;
    if (n != 0) l->line_starting = l->source.p[l->at - 1] == '\n';
}

static status lex_fail(const jinja_lexer *l, error *err, const char *why) {
    return error_set(err, ERR_FORMAT, "chat template: line %" PRIu32 ": %s", l->line, why);
}

status(jinja_no_room)(const arena *mem, size_t bytes, error *err) {
    if (bytes > mem->bytes_max - num_min_size(mem->bytes, mem->bytes_max))
        return error_set(err, ERR_LIMIT, "chat template: needs more than the %zu bytes it may have",
                         mem->bytes_max);
    return error_set(err, ERR_NOMEM, "chat template: no memory beyond %zu bytes", mem->bytes);
}

static size_t space_bytes(str s) { return s.n - jinja_strip_left(s).n; }

/* --- text ----------------------------------------------------------------------------- */

/* Where the next {{, {% or {# is; the length of s without one. */
static size_t find_tag(str s) {
    for (size_t i = 0; i + 1 < s.n; i++) {
        const char *brace = memchr(s.p + i, '{', s.n - 1 - i);
        if (brace == NULL) break;
        i = (size_t)(brace - s.p);
        if (brace[1] == '{' || brace[1] == '%' || brace[1] == '#') return i;
    }
    return s.n;
}

/* The text in front of a tag whose sign is - or + or 0: what its white space control leaves. */
static str trim_before_tag(const jinja_lexer *l, str text, char sign, bool is_print) {
    if (sign == '-') return jinja_strip_right(text);
    if (sign == '+' || !l->options.lstrip_blocks || is_print) return text;
    size_t line = text.n;
    while (line > 0 && text.p[line - 1] != '\n') line--;
    if (line == 0 && !l->line_starting) return text;
    return jinja_strip_left(str_skip(text, line)).n == 0 ? (str){text.p, line} : text;
}

static char sign_at(str s, size_t i) {
    return (char)(i < s.n && (s.p[i] == '-' || s.p[i] == '+') ? s.p[i] : '\0');
}

/* Bytes to drop behind the end of a tag: all white space after a -, else one line end if
 * trim_blocks says so. */
static size_t trim_after_tag(const jinja_lexer *l, str after, char sign) {
    if (sign == '-') return space_bytes(after);
    return sign == '\0' && l->options.trim_blocks && after.n != 0 && after.p[0] == '\n' ? 1 : 0;
}

/* Is `{% WORD %}` at the start of s, which begins with {%?  Bytes up to and with %}, *end_sign
 * is what stands before it; 0 when not. */
static size_t word_tag_bytes(str s, str word, char *end_sign) {
    size_t i = sign_at(s, 2) != '\0' ? 3 : 2;
    i += space_bytes(str_skip(s, i));
    if (!str_starts(str_skip(s, i), word)) return 0;
    i += word.n;
    i += space_bytes(str_skip(s, i));
    *end_sign = sign_at(s, i);
    if (*end_sign != '\0') i++;
    return str_starts(str_skip(s, i), S("%}")) ? i + 2 : 0;
}

static status skip_comment(jinja_lexer *l, error *err) {
    str s = rest(l);
    size_t begin = sign_at(s, 2) != '\0' ? 3 : 2;
    size_t end = begin;
    while (end + 1 < s.n && !(s.p[end] == '#' && s.p[end + 1] == '}')) end++;
    if (end + 1 >= s.n) return lex_fail(l, err, "Missing end of comment tag");
    char sign = (char)(end > begin ? sign_at(s, end - 1) : '\0');
    advance(l, end + 2);
    advance(l, trim_after_tag(l, rest(l), sign));
    return OK;
}

/* The text of a raw block whose opening tag was passed; out->text is empty when there is none. */
static status lex_raw(jinja_lexer *l, jinja_token *out, error *err) {
    str s = rest(l);
    for (size_t i = 0; i + 1 < s.n; i++) {
        if (s.p[i] != '{' || s.p[i + 1] != '%') continue;
        char end_sign = '\0';
        size_t tag = word_tag_bytes(str_skip(s, i), S("endraw"), &end_sign);
        if (tag == 0) continue;
        str text = {s.p, i};
        out->line = l->line;
        out->text = trim_before_tag(l, text, sign_at(s, i + 2), false);
        advance(l, i + tag);
        advance(l, trim_after_tag(l, rest(l), end_sign));
        return OK;
    }
    return lex_fail(l, err, "Missing end of raw directive");
}

/* Is the raw tag at the start of s?  Unlike other tags it knows no +. */
static size_t raw_tag_bytes(str s, char *end_sign) {
    size_t n = word_tag_bytes(s, S("raw"), end_sign);
    return *end_sign == '+' ? 0 : n;
}

/* At a tag: passes comments (out->kind stays TEXT, empty), enters the others. */
static status lex_tag(jinja_lexer *l, jinja_token *out, error *err) {
    str s = rest(l);
    char end_sign = '\0';
    *out = (jinja_token){.kind = JINJA_TOKEN_TEXT, .line = l->line, .text = S("")};
    if (s.p[1] == '#') return skip_comment(l, err);
    size_t raw = s.p[1] == '%' ? raw_tag_bytes(s, &end_sign) : 0;
    if (raw != 0) {
        advance(l, raw);
        if (end_sign == '-') advance(l, space_bytes(rest(l)));
        return lex_raw(l, out, err);
    }
    bool is_print = s.p[1] == '{';
    out->kind = is_print ? JINJA_TOKEN_PRINT_BEGIN : JINJA_TOKEN_BLOCK_BEGIN;
    l->mode = is_print ? JINJA_LEX_PRINT : JINJA_LEX_BLOCK;
    l->open_count = 0;
    advance(l, sign_at(s, 2) != '\0' ? 3 : 2);
    return OK;
}

/* Text up to the next tag, or that tag. */
static status lex_text(jinja_lexer *l, jinja_token *out, error *err) {
    str s = rest(l);
    *out = (jinja_token){.kind = JINJA_TOKEN_TEXT, .line = l->line, .text = S("")};
    if (s.n == 0) {
        out->kind = JINJA_TOKEN_END;
        return OK;
    }
    if (l->tag_waits) {
        l->tag_waits = false;
        return lex_tag(l, out, err);
    }
    size_t tag = find_tag(s);
    str text = {s.p, tag};
    out->text = text;
    if (tag != s.n) {
        out->text = trim_before_tag(l, text, sign_at(s, tag + 2), s.p[tag + 1] == '{');
        l->tag_waits = true;
    }
    advance(l, tag);
    return OK;
}

/* --- tokens of a tag ------------------------------------------------------------------ */

static bool is_octal(char c) { return c >= '0' && c <= '7'; }
static bool is_binary(char c) { return c == '0' || c == '1'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_hex(char c) { return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); }

/* Bytes of digits that single underscores may part, beginning at i; with `lead`, an underscore
 * may come first. */
static size_t digits_bytes(str s, size_t i, bool (*is)(char), bool lead) {
    size_t n = i;
    while (n < s.n) {
        size_t skip = s.p[n] == '_' && (n > i || lead) ? 1 : 0;
        if (n + skip >= s.n || !is(s.p[n + skip])) break;
        n += skip + 1;
    }
    return n - i;
}

/* Bytes of fraction and exponent behind the n digits of a number; 0: it is no float. */
static size_t float_tail_bytes(str s, size_t n) {
    size_t i = n;
    if (i < s.n && s.p[i] == '.') {
        size_t fraction = digits_bytes(s, i + 1, is_digit, false);
        if (fraction == 0) return 0;
        i += 1 + fraction;
    }
    if (i < s.n && (s.p[i] | 0x20) == 'e') {
        size_t sign = i + 1 < s.n && (s.p[i + 1] == '+' || s.p[i + 1] == '-') ? 1 : 0;
        size_t exponent = digits_bytes(s, i + 1 + sign, is_digit, false);
        if (exponent != 0) i += 1 + sign + exponent;
    }
    return i - n;
}

static size_t integer_bytes(str s) {
    if (s.p[0] != '0') return digits_bytes(s, 0, is_digit, false);
    char base = (char)(s.n > 1 ? s.p[1] | 0x20 : '\0');
    bool (*is)(char) = base == 'b'   ? is_binary
                       : base == 'o' ? is_octal
                       : base == 'x' ? is_hex
                                     : NULL;
    size_t n = is != NULL ? digits_bytes(s, 2, is, true) : 0;
    if (n != 0) return n + 2;
    n = 1;
    while (n < s.n && (s.p[n] == '0' || (s.p[n] == '_' && n + 1 < s.n && s.p[n + 1] == '0')))
        n += s.p[n] == '_' ? 2 : 1;
    return n;
}

static status lex_number(jinja_lexer *l, jinja_token *out, error *err) {
    str s = rest(l);
    bool after_dot = l->at > 0 && l->source.p[l->at - 1] == '.';
    size_t digits = digits_bytes(s, 0, is_digit, false);
    size_t tail = after_dot ? 0 : float_tail_bytes(s, digits);
    if (tail != 0) {
        out->kind = JINJA_TOKEN_FLOAT;
        out->text = (str){s.p, digits + tail};
        if (!jinja_parse_float(out->text, &out->real)) return lex_fail(l, err, "number too long");
    } else {
        out->kind = JINJA_TOKEN_INTEGER;
        out->text = (str){s.p, integer_bytes(s)};
        if (!jinja_parse_int(out->text, 0, &out->integer))
            return lex_fail(l, err, "integer too large");
    }
    advance(l, out->text.n);
    return OK;
}

static size_t name_bytes(str s) {
    size_t n = 0;
    uint32_t c = 0;
    while (n < s.n) {
        size_t bytes = jinja_char_get(str_skip(s, n), &c);
        if (!jinja_char_is_word(c)) break;
        n += bytes;
    }
    return n;
}

/* The value of n hexadecimal digits at s.p[i]; false when they are not all there. */
static bool hex_value(str s, size_t i, size_t n, uint32_t *out) {
    uint32_t v = 0;
    if (i + n > s.n) return false;
    for (size_t k = i; k < i + n; k++) {
        if (!is_hex(s.p[k])) return false;
        v = v * 16 + (uint32_t)(is_digit(s.p[k]) ? s.p[k] - '0' : (s.p[k] | 0x20) - 'a' + 10);
    }
    *out = v;
    return true;
}

static size_t octal_value(str s, size_t i, uint32_t *out) {
    size_t n = 0;
    *out = 0;
    while (n < 3 && i + n < s.n && is_octal(s.p[i + n]))
        *out = *out * 8 + (uint32_t)(s.p[i + n++] - '0');
    return n;
}

/* The character that the escape at s.p[0] == '\\' stands for; its bytes in the source, 0 when it
 * is malformed.  *code is UINT32_MAX for an escape that stands for nothing (a line end) and for
 * one that is none, whose backslash stays: *keep. */
static size_t escape_bytes(str s, uint32_t *code, bool *keep) {
    static const char FROM[] = "\\'\"abfnrtv", TO[] = "\\'\"\a\b\f\n\r\t\v";
    char c = s.p[1];
    const char *simple = c != '\0' ? strchr(FROM, c) : NULL;
    *keep = false;
    *code = UINT32_MAX;
    if (simple != NULL) {
        *code = (unsigned char)TO[simple - FROM];
        return 2;
    }
    if (c == '\n') return 2;
    if (is_octal(c)) return 1 + octal_value(s, 1, code);
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits != 0) return hex_value(s, 2, digits, code) ? 2 + digits : 0;
    *keep = true;
    return c == 'N' ? 0 : 1;
}

/* Decodes the inside of a string literal into out, which is at least as long. */
static status decode_string(const jinja_lexer *l, str s, char *out, size_t *n, error *err) {
    size_t used = 0;
    for (size_t i = 0; i < s.n;) {
        if (s.p[i] != '\\') {
            out[used++] = s.p[i++];
            continue;
        }
        uint32_t code = 0;
        bool keep = false;
        size_t bytes = escape_bytes(str_skip(s, i), &code, &keep);
        if (bytes == 0) return lex_fail(l, err, "string has a malformed escape");
        if (keep) out[used++] = '\\';
        if (code != UINT32_MAX) {
            if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
                return lex_fail(l, err, "string has an escape that is no character");
            used += jinja_char_put(out + used, code);
        }
        i += bytes;
    }
    *n = used;
    return OK;
}

static status lex_string(jinja_lexer *l, jinja_token *out, error *err) {
    str s = rest(l);
    size_t n = 1;
    while (n < s.n && s.p[n] != s.p[0]) n += s.p[n] == '\\' ? 2 : 1;
    if (n >= s.n)
        return error_set(err, ERR_FORMAT,
                         "chat template: line %" PRIu32 ": unexpected char %s at %zu", l->line,
                         s.p[0] == '\'' ? "\"'\"" : "'\"'", l->at);
    out->kind = JINJA_TOKEN_STRING;
    out->text = (str){s.p + 1, n - 1};
    if (memchr(out->text.p, '\\', out->text.n) != NULL) {
        char *text = arena_take(l->mem, out->text.n);
        if (text == NULL) return jinja_no_room(l->mem, out->text.n, err);
        TRY(decode_string(l, out->text, text, &out->text.n, err));
        out->text.p = text;
    }
    advance(l, n + 1);
    return OK;
}

/* Keeps account of open brackets. */
static status balance(jinja_lexer *l, const jinja_token *t, error *err) {
    char closing = '\0';
    if (t->kind == JINJA_TOKEN_LPAREN) closing = ')';
    if (t->kind == JINJA_TOKEN_LBRACKET) closing = ']';
    if (t->kind == JINJA_TOKEN_LBRACE) closing = '}';
    if (closing != '\0') {
        if (l->open_count == JINJA_NESTING_MAX)
            return error_set(err, ERR_LIMIT,
                             "chat template: line %" PRIu32 ": nested deeper than %d", l->line,
                             JINJA_NESTING_MAX);
        l->open[l->open_count++] = closing;
    } else if (t->kind == JINJA_TOKEN_RPAREN || t->kind == JINJA_TOKEN_RBRACKET ||
               t->kind == JINJA_TOKEN_RBRACE) {
        if (l->open_count == 0)
            return error_set(err, ERR_FORMAT, "chat template: line %" PRIu32 ": unexpected '%c'",
                             l->line, t->text.p[0]);
        char want = l->open[--l->open_count];
        if (want != t->text.p[0])
            return error_set(err, ERR_FORMAT,
                             "chat template: line %" PRIu32 ": unexpected '%c', expected '%c'",
                             l->line, t->text.p[0], want);
    }
    return OK;
}

static status lex_operator(jinja_lexer *l, jinja_token *out, error *err) {
    str s = rest(l);
    for (size_t n = 2; n >= 1; n--) {
        for (int k = JINJA_TOKEN_ADD; k <= JINJA_TOKEN_SEMICOLON; k++) {
            str words = str_of(WORDS[k]);
            if (words.n != n || !str_starts(s, words)) continue;
            out->kind = (jinja_token_kind)k;
            out->text = (str){s.p, n};
            TRY(balance(l, out, err));
            advance(l, n);
            return OK;
        }
    }
    uint32_t c = 0;
    size_t n = jinja_char_get(s, &c);
    return error_set(err, ERR_FORMAT,
                     "chat template: line %" PRIu32 ": unexpected char '%.*s' at %zu", l->line,
                     (int)n, s.p, l->at);
}

/* Is the end of the tag here?  It and the white space it takes along are passed then. */
static bool lex_tag_end(jinja_lexer *l, jinja_token *out) {
    str s = rest(l);
    bool is_print = l->mode == JINJA_LEX_PRINT;
    char sign = sign_at(s, 0);
    if (is_print && sign == '+') return false;
    size_t i = sign != '\0' ? 1 : 0;
    if (l->open_count != 0 || !str_starts(str_skip(s, i), is_print ? S("}}") : S("%}")))
        return false;
    out->kind = is_print ? JINJA_TOKEN_PRINT_END : JINJA_TOKEN_BLOCK_END;
    out->text = (str){s.p, i + 2};
    advance(l, i + 2);
    size_t trim = is_print && sign == '\0' ? 0 : trim_after_tag(l, rest(l), sign);
    advance(l, trim);
    l->mode = JINJA_LEX_TEXT;
    return true;
}

static status lex_in_tag(jinja_lexer *l, jinja_token *out, error *err) {
    *out = (jinja_token){.kind = JINJA_TOKEN_END, .line = l->line, .text = S("")};
    if (l->at != l->source.n && lex_tag_end(l, out)) return OK;
    advance(l, space_bytes(rest(l)));
    out->line = l->line;
    str s = rest(l);
    if (s.n == 0 || lex_tag_end(l, out)) return OK;
    if (is_digit(s.p[0])) return lex_number(l, out, err);
    if (s.p[0] == '\'' || s.p[0] == '"') return lex_string(l, out, err);
    size_t name = name_bytes(s);
    if (name == 0) return lex_operator(l, out, err);
    uint32_t first = 0;
    (void)jinja_char_get(s, &first);
    if (jinja_char_is_numeric(first)) return lex_fail(l, err, "Invalid character in identifier");
    out->kind = JINJA_TOKEN_NAME;
    out->text = (str){s.p, name};
    advance(l, name);
    return OK;
}

status jinja_lex_next(jinja_lexer *l, jinja_token *out, error *err) {
    if (l->mode != JINJA_LEX_TEXT) return lex_in_tag(l, out, err);
    do TRY(lex_text(l, out, err));
    while (out->kind == JINJA_TOKEN_TEXT && out->text.n == 0);
    return OK;
}
