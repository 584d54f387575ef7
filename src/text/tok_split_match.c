/* tok_split_match.c - the matches of a pattern in a text, whichever way it runs. */
#include "text/tok_split_internal.h"

status split_matcher_init(split_matcher *m, str pattern, error *err) {
    bool linear = false;
    *m = (split_matcher){0};
    TRY(split_program_parse(&m->program, pattern, &linear, err));
    return linear ? OK : split_regex_create(&m->regex, pattern, err);
}

void split_matcher_deinit(split_matcher *m) {
    split_program_deinit(&m->program);
    split_regex_destroy(m->regex);
    *m = (split_matcher){0};
}

status split_search_init(split_search *s, const split_matcher *m, size_t text_bytes, error *err) {
    *s = (split_search){.matcher = m};
    return m->regex != NULL ? split_regex_start(&s->run, m->regex, text_bytes, err) : OK;
}

void split_search_deinit(split_search *s) { split_regex_stop(s->run); }

status split_search_text(split_search *s, str text, error *err) {
    s->text = text;
    s->cursor = (split_cursor){0};
    s->from = s->last_end = 0;
    s->any = false;
    return s->run != NULL ? split_regex_text(s->run, text, err) : OK;
}

static status find(split_search *s, bool *found, size_t *begin, size_t *end, error *err) {
    if (s->run != NULL) return split_regex_find(s->run, s->from, found, begin, end, err);
    *found = split_program_find(&s->matcher->program, &s->cursor, s->text, s->from, begin, end);
    return OK;
}

status split_search_next(split_search *s, bool *found, size_t *begin, size_t *end, error *err) {
    for (;;) {
        *found = false;
        if (s->from > s->text.n) return OK;
        TRY(find(s, found, begin, end, err));
        if (!*found) return OK;
        bool repeats = *begin == *end && s->any && *end == s->last_end;
        if (!repeats) break;
        uint32_t cp;
        if (s->from >= s->text.n) {
            *found = false;
            return OK;
        }
        s->from += unicode_decode(s->text.p + s->from, s->text.n - s->from, &cp);
    }
    s->from = s->last_end = *end;
    s->any = true;
    return OK;
}
