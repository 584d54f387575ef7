/* hf_match.c - which row of hf_names.c a tensor's name belongs to. */
#include <stdio.h>

#include "model/hf_names.h"

static const char *const prefixes[] = {
    "model.language_model.",
    "language_model.model.",
    "language_model.",
    "model.",
    "transformer.",
    "gpt_neox.",
    "backbone.",
    "bert.",
    "roberta.",
    "",
};

/* --- matching ------------------------------------------------------------------------ */
/* Digits without a leading zero; false when there are none or too many. */
static bool read_number(str *s, uint32_t *out) {
    size_t n = 0;
    while (n < s->n && n < 8 && s->p[n] >= '0' && s->p[n] <= '9') n++;
    uint64_t value = 0;
    if (n == 0 || (n > 1 && s->p[0] == '0') || !str_to_u64((str){s->p, n}, &value)) return false;
    *out = (uint32_t)value;
    *s = str_skip(*s, n);
    return true;
}

/* Does `s` begin with the pattern?  It is moved behind it then. */
static bool read_pattern(const char *pattern, str *s, hf_match *out) {
    for (const char *p = pattern; *p != '\0'; p++) {
        if (*p == '#' || *p == '@') {
            if (!read_number(s, *p == '#' ? &out->layer : &out->expert)) return false;
        } else {
            if (s->n == 0 || s->p[0] != *p) return false;
            *s = str_skip(*s, 1);
        }
    }
    return true;
}

static bool match_row(const hf_name *row, str rest, hf_match *out) {
    if (!read_pattern(row->hf, &rest, out)) return false;
    if ((row->bits & HF_WHOLE) != 0) {
        out->suffix = S("");
        return rest.n == 0;
    }
    if (rest.n < 2 || rest.p[0] != '.') return false;
    out->suffix = str_skip(rest, 1);
    return (row->bits & HF_SKIPPED) != 0 || memchr(out->suffix.p, '.', out->suffix.n) == NULL;
}

static bool match_table(const hf_name *rows, str name, size_t prefix, hf_match *out) {
    for (const hf_name *row = rows; row->hf != NULL; row++) {
        if (!match_row(row, str_skip(name, prefix), out)) continue;
        size_t behind = out->suffix.n > 0 ? out->suffix.n + 1 : 0;
        *out = (hf_match){row,        {name.p, name.n - behind}, prefix, out->suffix, out->layer,
                          out->expert};
        return true;
    }
    return false;
}

/* GPT-OSS: "gate_up_proj_blocks" is a piece of the module "gate_up_proj". */
static bool match_mxfp4(const hf_class *c, str name, size_t prefix, hf_match *out) {
    for (const hf_name *row = c->names; row != NULL && row->hf != NULL; row++) {
        str rest = str_skip(name, prefix);
        if ((row->bits & HF_MXFP4) == 0 || !read_pattern(row->hf, &rest, out)) continue;
        if (rest.n < 2 || rest.p[0] != '_') continue;
        size_t behind = rest.n;
        *out = (hf_match){
            row, {name.p, name.n - behind}, prefix, str_skip(rest, 1), out->layer, out->expert};
        return true;
    }
    return false;
}

void hf_name_match(const hf_class *c, str name, hf_match *out) {
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        str prefix = str_of(prefixes[i]);
        *out = (hf_match){0};
        if (!str_starts(name, prefix)) continue;
        if (c->names != NULL && match_table(c->names, name, prefix.n, out)) return;
        if (match_mxfp4(c, name, prefix.n, out)) return;
        if (match_table(hf_names_common, name, prefix.n, out)) return;
    }
    *out = (hf_match){0};
}

bool hf_name_expand(const char *pattern, uint32_t layer, uint32_t expert, char *out, size_t n) {
    size_t at = 0;
    for (const char *p = pattern; *p != '\0'; p++) {
        int more = *p == '#'   ? snprintf(out + at, n - at, "%u", layer)
                   : *p == '@' ? snprintf(out + at, n - at, "%u", expert)
                               : snprintf(out + at, n - at, "%c", *p);
        if (more < 0 || (size_t)more >= n - at) return false;
        at += (size_t)more;
    }
    return true;
}
