/* tok_split_translate.c - a pattern of Hugging Face tokenizers in the words of PCRE2.
 *
 * The syntaxes agree but for a few things:
 *   \p{Han}        the script itself; PCRE2 since 10.40 takes it for the script extensions
 *   \p{Letter}     long names of categories become short ones
 *   \w \W          marks and connectors belong to words
 *   \h \uHHHH      a hexadecimal digit, a character by its number
 *   [a[bc]]        a class inside a class adds its members
 *   [a&&[^b]]      both must hold: (?:(?![b])[a])
 * Source: Oniguruma's doc/RE; pcre2pattern(3). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "text/tok_split_internal.h"

#define WORD_MEMBERS "\\p{L}\\p{M}\\p{Nd}\\p{Pc}"

typedef struct translation {
    str rest;
    buf *out;
    bool script_names; /* "sc:" is understood */
    bool unclosed;     /* a class has no end: PCRE2 shall say so */
    const char *unsupported;
} translation;

static bool take(str *s, str prefix) {
    if (!str_starts(*s, prefix)) return false;
    *s = str_skip(*s, prefix.n);
    return true;
}

static void put_next(translation *t, size_t n) {
    if (n > t->rest.n) n = t->rest.n;
    buf_put(t->out, t->rest.p, n);
    t->rest = str_skip(t->rest, n);
}

static str short_category(str name) {
    static const char *const names[][2] = {
        {"Letter", "L"},
        {"Mark", "M"},
        {"Number", "N"},
        {"Punctuation", "P"},
        {"Symbol", "S"},
        {"Separator", "Z"},
        {"Other", "C"},
        {"Punct", "P"},
        {"Uppercase_Letter", "Lu"},
        {"Lowercase_Letter", "Ll"},
        {"Titlecase_Letter", "Lt"},
        {"Modifier_Letter", "Lm"},
        {"Other_Letter", "Lo"},
        {"Nonspacing_Mark", "Mn"},
        {"Decimal_Number", "Nd"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_eq_c(name, names[i][0])) return str_of(names[i][1]);
    return name;
}

/* {name} behind \p or \P, which are out already. */
static void put_property(translation *t) {
    const char *close =
        t->rest.n > 0 && *t->rest.p == '{' ? memchr(t->rest.p, '}', t->rest.n) : NULL;
    if (close == NULL) {
        put_next(t, 1);
        return;
    }
    str name = {t->rest.p + 1, (size_t)(close - t->rest.p) - 1};
    bool opposite = take(&name, S("^"));
    t->rest = str_skip(t->rest, (size_t)(close - t->rest.p) + 1);
    buf_put_str(t->out, opposite ? S("{^") : S("{"));
    if (t->script_names && unicode_script_find(name) != UNICODE_SCRIPT_NONE)
        buf_put_str(t->out, S("sc:"));
    buf_put_str(t->out, short_category(name));
    buf_put_char(t->out, '}');
}

/* \uHHHH and \u{...}, behind the u. */
static void put_code_point(translation *t) {
    buf_put_str(t->out, S("\\x"));
    if (t->rest.n > 0 && *t->rest.p == '{') return;
    buf_put_char(t->out, '{');
    put_next(t, 4);
    buf_put_char(t->out, '}');
}

/* An escape, behind the backslash; in a class or not. */
static void put_escape(translation *t, bool in_class) {
    bool quote = t->rest.n > 0 && *t->rest.p == 'Q';
    if (quote) t->unsupported = "\\Q";
    if (take(&t->rest, S("u"))) {
        put_code_point(t);
    } else if (take(&t->rest, S("h"))) {
        buf_put_str(t->out, in_class ? S("0-9a-fA-F") : S("[0-9a-fA-F]"));
    } else if (take(&t->rest, S("w"))) {
        buf_put_str(t->out, in_class ? S(WORD_MEMBERS) : S("[" WORD_MEMBERS "]"));
    } else if (!in_class && take(&t->rest, S("W"))) {
        buf_put_str(t->out, S("[^" WORD_MEMBERS "]"));
    } else {
        bool property = t->rest.n > 0 && (*t->rest.p == 'p' || *t->rest.p == 'P');
        buf_put_char(t->out, '\\');
        put_next(t, 1);
        if (property) put_property(t);
    }
}

/* [:alpha:] as it is. */
static void put_posix(translation *t) {
    const char *close = memmem(t->rest.p, t->rest.n, ":]", 2);
    put_next(t, close != NULL ? (size_t)(close - t->rest.p) + 2 : 1);
}

/* The members of a class up to its end, or to "&&" (true); behind the bracket and a "^". */
static bool put_members(translation *t) {
    uint32_t depth = 1;
    if (take(&t->rest, S("]"))) buf_put_str(t->out, S("\\]"));
    while (t->rest.n > 0 && t->unsupported == NULL) {
        if (take(&t->rest, S("\\"))) {
            put_escape(t, true);
        } else if (str_starts(t->rest, S("[:"))) {
            put_posix(t);
        } else if (str_starts(t->rest, S("[^"))) {
            t->unsupported = "an excluding class inside a class";
        } else if (take(&t->rest, S("["))) {
            depth++;
        } else if (take(&t->rest, S("]"))) {
            if (--depth == 0) return false;
        } else if (take(&t->rest, S("&&"))) {
            if (depth > 1) t->unsupported = "&& in a class inside a class";
            return true;
        } else {
            put_next(t, 1);
        }
    }
    t->unclosed = true;
    return false;
}

/* Moves what was put since `mark` behind `front`. */
static void put_in_front(translation *t, size_t mark, str front) {
    buf_put_str(t->out, front);
    if (t->out->failed) return;
    memmove(t->out->p + mark + front.n, t->out->p + mark, t->out->n - front.n - mark);
    memcpy(t->out->p + mark, front.p, front.n);
}

/* Behind "&&": the class to the right becomes a condition in front of the one to the left, which
 * is out since `mark` but for its end. */
static void put_condition(translation *t, size_t mark) {
    char condition[512];
    if (!take(&t->rest, S("["))) {
        t->unsupported = "&& without a class behind it";
        return;
    }
    size_t left = t->out->n;
    buf_put_str(t->out, take(&t->rest, S("^")) ? S("(?:(?![") : S("(?:(?=["));
    if (put_members(t) || !take(&t->rest, S("]"))) t->unsupported = "more than one &&";
    buf_put_str(t->out, S("])"));
    if (t->out->failed || t->unsupported != NULL) return;
    size_t bytes = t->out->n - left;
    if (bytes > sizeof condition) {
        t->unsupported = "a long class behind &&";
        return;
    }
    memcpy(condition, t->out->p + left, bytes);
    t->out->n = left;
    put_in_front(t, mark, (str){condition, bytes});
    buf_put_str(t->out, S("])"));
}

/* A class, behind its bracket. */
static void put_class(translation *t) {
    size_t mark = t->out->n;
    bool negated = take(&t->rest, S("^"));
    buf_put_str(t->out, negated ? S("[^") : S("["));
    bool condition = put_members(t);
    if (t->unsupported != NULL) return;
    if (!condition) {
        if (!t->unclosed) buf_put_char(t->out, ']');
    } else if (negated) {
        t->unsupported = "&& in an excluding class";
    } else {
        put_condition(t, mark);
    }
}

static bool knows_script_names(void) {
    char version[64] = "";
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) > (int)sizeof version) return false;
    (void)pcre2_config(PCRE2_CONFIG_VERSION, version);
    return strncmp(version, "10.", 3) != 0 || version[3] >= '4';
}

status split_translate(str pattern, buf *out, error *err) {
    translation t = {.rest = pattern, .out = out, .script_names = knows_script_names()};
    while (t.rest.n > 0 && t.unsupported == NULL) {
        if (take(&t.rest, S("\\"))) {
            put_escape(&t, false);
        } else if (take(&t.rest, S("["))) {
            put_class(&t);
        } else {
            put_next(&t, 1);
        }
    }
    if (t.unsupported != NULL)
        return error_set(err, ERR_UNSUPPORTED, "tokenizer: pattern '%.*s' uses %s", STR(pattern),
                         t.unsupported);
    return buf_status(out, "tokenizer: pattern", err);
}
