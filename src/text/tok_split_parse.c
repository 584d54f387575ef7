/* tok_split_parse.c - a pattern as a program of alternatives that need no backtracking.
 *
 *   pattern      alternative ( "|" alternative )*, in parentheses or not
 *   alternative  one of the known texts below, or literal characters, or
 *                [lead "?"] body "+" [tail "*"]            letters, numbers, punctuation
 *                set{n}(?!\S)                              white space before a word
 *                [lead "?"] upper "*" lower "+" [suffix] "|"
 *                    [lead "?"] upper "+" lower "*" [suffix]                 words in two cases
 *
 * In each of these the longest try is the match, or the match follows from it in one look, whatever
 * the sets are; so what the scanner does for a place is bounded by what it consumes there.  A
 * pattern with anything else in it is left alone. */
#include "base/alloc.h"
#include "base/num.h"
#include "text/tok_split_internal.h"

enum { FOREVER = UINT32_MAX };

typedef struct parser {
    str rest;
    buf branches; /* split_branch */
    buf ranges;   /* split_range */
} parser;

static bool take(str *s, str prefix) {
    if (!str_starts(*s, prefix)) return false;
    *s = str_skip(*s, prefix.n);
    return true;
}

static bool at_alternative_end(str s) { return s.n == 0 || *s.p == '|'; }

/* --- known texts --------------------------------------------------------------------------- */

typedef struct known_text {
    str text;
    split_branch branch;
    str lead, body; /* sets */
} known_text;

#define SUFFIX_WORDS  "'s|'t|'re|'ve|'m|'ll|'d"
#define SUFFIX_ASCII  "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define SUFFIX_FOLDED "(?i:" SUFFIX_WORDS ")"

static bool take_known(str *rest, const known_text *known) {
    str after = *rest;
    if (!take(&after, known->text) || !at_alternative_end(after)) return false;
    *rest = after;
    return true;
}

static const known_text *find_known(str *rest) {
    static const known_text table[] = {
        {S(SUFFIX_WORDS), {.shape = SPLIT_SHAPE_SUFFIX, .suffix = SPLIT_SUFFIX_LOWER}, {0}, {0}},
        {S(SUFFIX_ASCII), {.shape = SPLIT_SHAPE_SUFFIX, .suffix = SPLIT_SUFFIX_ASCII}, {0}, {0}},
        {S(SUFFIX_FOLDED), {.shape = SPLIT_SHAPE_SUFFIX, .suffix = SPLIT_SUFFIX_FOLDED}, {0}, {0}},
        {S("'(?i:[sdmt]|ll|ve|re)"),
         {.shape = SPLIT_SHAPE_SUFFIX, .suffix = SPLIT_SUFFIX_FOLDED},
         {0},
         {0}},
        {S("'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])"),
         {.shape = SPLIT_SHAPE_SUFFIX, .suffix = SPLIT_SUFFIX_ASCII},
         {0},
         {0}},
        {S("[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+"),
         {.shape = SPLIT_SHAPE_PHRASE, .lead_kind = SPLIT_LEAD_OPTIONAL},
         S("[^\\r\\n\\p{L}\\p{N}]"),
         S("\\p{L}")},
        {S("\\s*[\\r\\n]+"), {.shape = SPLIT_SHAPE_LINES}, {0}, {0}},
        {S("\\s*[\r\n]+"), {.shape = SPLIT_SHAPE_LINES}, {0}, {0}},
        /* The greedy \s* leaves the last line end to [\r\n] alone: the same match. */
        {S("\\s*[\\r\\n]"), {.shape = SPLIT_SHAPE_LINES}, {0}, {0}},
        {S("\\s+$"), {.shape = SPLIT_SHAPE_END}, {0}, {0}},
        {S("\\d{1,3}(?=(?:\\d{3})*\\b)"),
         {.shape = SPLIT_SHAPE_TRIPLE, .to_word_end = true},
         {0},
         S("\\d")},
        {S("\\p{N}{1,3}(?=(?:\\p{N}{3})*(?:\\P{N}|$))"),
         {.shape = SPLIT_SHAPE_TRIPLE},
         {0},
         S("\\p{N}")},
        {S("(?=(\\d{3})+(?!\\d))"), {.shape = SPLIT_SHAPE_CUT}, {0}, S("\\d")},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (take_known(rest, &table[i])) return &table[i];
    return NULL;
}

static bool parse_known(parser *p, split_branch *b) {
    const known_text *known = find_known(&p->rest);
    if (known == NULL) return false;
    str lead = known->lead, body = known->body;
    *b = known->branch;
    if (lead.n > 0) (void)split_set_parse(&b->lead, &lead, &p->ranges);
    if (body.n > 0) (void)split_set_parse(&b->body, &body, &p->ranges);
    return true;
}

/* --- literal characters -------------------------------------------------------------------- */

/* Only characters that mean themselves, two or more: a single one is a set like others. */
static bool parse_literal(parser *p, split_branch *b) {
    size_t n = 0;
    while (n < p->rest.n && p->rest.p[n] != '|') {
        if (split_is_special(p->rest.p[n])) return false;
        n++;
    }
    if (n < 2) return false;
    *b = (split_branch){.shape = SPLIT_SHAPE_LITERAL, .literal = {p->rest.p, n}};
    p->rest = str_skip(p->rest, n);
    return true;
}

/* --- runs ---------------------------------------------------------------------------------- */

typedef struct item {
    split_set set;
    uint32_t min, max;
    bool possessive;
} item;

enum { ITEMS_MAX = 4 };

static bool read_count(str *rest, uint32_t *out) {
    uint64_t value = 0;
    size_t n = 0;
    while (n < rest->n && rest->p[n] >= '0' && rest->p[n] <= '9') n++;
    if (n == 0 || n > 6 || !str_to_u64((str){rest->p, n}, &value)) return false;
    *rest = str_skip(*rest, n);
    *out = (uint32_t)value;
    return true;
}

/* {3} {1,3} {2,} */
static bool read_braces(str *rest, item *it) {
    if (!read_count(rest, &it->min)) return false;
    it->max = it->min;
    if (take(rest, S(","))) {
        it->max = FOREVER;
        if (rest->n > 0 && *rest->p != '}' && !read_count(rest, &it->max)) return false;
    }
    return it->min <= it->max && it->max > 0 && take(rest, S("}"));
}

static bool read_quantifier(str *rest, item *it) {
    it->min = it->max = 1;
    it->possessive = false;
    bool quantified = true;
    if (take(rest, S("?"))) {
        it->min = 0;
    } else if (take(rest, S("*"))) {
        it->min = 0;
        it->max = FOREVER;
    } else if (take(rest, S("+"))) {
        it->max = FOREVER;
    } else {
        quantified = take(rest, S("{"));
        if (quantified && !read_braces(rest, it)) return false;
        if (quantified) return !str_starts(*rest, S("+")) && !str_starts(*rest, S("?"));
    }
    if (quantified && take(rest, S("+"))) it->possessive = true;
    return !quantified || !str_starts(*rest, S("?")); /* lazy ones are not ours */
}

/* Sets with quantifiers up to the end of the alternative or a parenthesis. */
static bool read_items(parser *p, item *items, uint32_t *count) {
    *count = 0;
    while (!at_alternative_end(p->rest) && *p->rest.p != '(') {
        item it;
        if (!split_set_parse(&it.set, &p->rest, &p->ranges)) return false;
        if (!read_quantifier(&p->rest, &it)) return false;
        const split_range *ranges = (const split_range *)(const void *)p->ranges.p;
        item *last = *count > 0 ? &items[*count - 1] : NULL;
        bool fixed = it.min == it.max && last != NULL && last->min == last->max;
        if (fixed && split_set_equal(&it.set, &last->set, ranges)) {
            if (last->min > SPLIT_RUN_MIN_MAX) return false;
            last->min += it.min; /* aaa is a{3} */
            last->max = last->min;
            continue;
        }
        if (*count == ITEMS_MAX) return false;
        items[(*count)++] = it;
    }
    return *count > 0;
}

static bool is_optional(const item *it) { return it->min == 0 && it->max == 1; }
static bool is_star(const item *it) { return it->min == 0 && it->max == FOREVER; }
static bool is_plus(const item *it) { return it->min == 1 && it->max == FOREVER; }
static bool is_one(const item *it) { return it->min == 1 && it->max == 1; }

/* A lead in front of other items: takes it into the branch. */
static bool take_lead(split_branch *b, const item **items, uint32_t *count) {
    const item *first = *items;
    if (*count < 2 || !(is_optional(first) || is_one(first))) return false;
    b->lead = first->set;
    b->lead_kind = is_one(first)       ? SPLIT_LEAD_NEEDED
                   : first->possessive ? SPLIT_LEAD_KEPT
                                       : SPLIT_LEAD_OPTIONAL;
    (*items)++;
    (*count)--;
    return true;
}

static bool make_run(split_branch *b, const item *items, uint32_t count) {
    *b = (split_branch){.shape = SPLIT_SHAPE_RUN};
    (void)take_lead(b, &items, &count);
    if (count > 2 || items[0].min == 0 || items[0].min > SPLIT_RUN_MIN_MAX) return false;
    b->body = items[0].set;
    b->min = items[0].min;
    b->max = items[0].max;
    if (count == 1) return true;
    b->tail = items[1].set;
    b->tail_max = items[1].max;
    return is_star(&items[1]) || is_optional(&items[1]);
}

/* \s{min,max}(?!\S), behind the quantifier. */
static bool make_spaces(parser *p, split_branch *b, const item *items, uint32_t count) {
    split_set space;
    str text = S("\\s");
    const split_range *ranges = (const split_range *)(const void *)p->ranges.p;
    if (!take(&p->rest, S("(?!\\S)")) || !at_alternative_end(p->rest) || count != 1) return false;
    if (!split_set_parse(&space, &text, &p->ranges)) return false;
    *b = (split_branch){.shape = SPLIT_SHAPE_SPACES, .min = items[0].min, .max = items[0].max};
    return items[0].min > 0 && !items[0].possessive &&
           split_set_equal(&space, &items[0].set, ranges);
}

/* --- words in upper and lower case --------------------------------------------------------- */

static bool read_suffix(parser *p, split_suffix *suffix) {
    *suffix = SPLIT_SUFFIX_NONE;
    if (take(&p->rest, S(SUFFIX_FOLDED "?"))) *suffix = SPLIT_SUFFIX_FOLDED;
    if (take(&p->rest, S(SUFFIX_ASCII "?"))) *suffix = SPLIT_SUFFIX_ASCII;
    return at_alternative_end(p->rest);
}

/* Behind the items of the first alternative: its suffix, and the second one. */
static bool make_cased(parser *p, split_branch *b, const item *items, uint32_t count) {
    item second[ITEMS_MAX];
    const item *others = second;
    uint32_t others_count = 0;
    split_suffix suffix;
    split_branch twin = {0};
    *b = (split_branch){.shape = SPLIT_SHAPE_CASED};
    (void)take_lead(b, &items, &count);
    if (count != 2 || !is_star(&items[0]) || items[0].possessive || !is_plus(&items[1]))
        return false;
    if (!read_suffix(p, &b->suffix) || !take(&p->rest, S("|"))) return false;
    if (!read_items(p, second, &others_count) || !read_suffix(p, &suffix)) return false;
    (void)take_lead(&twin, &others, &others_count);
    if (others_count != 2 || !is_plus(&others[0]) || !is_star(&others[1])) return false;
    const split_range *ranges = (const split_range *)(const void *)p->ranges.p;
    b->body = items[0].set;
    b->tail = items[1].set;
    return suffix == b->suffix && twin.lead_kind == b->lead_kind &&
           b->lead_kind <= SPLIT_LEAD_OPTIONAL && split_set_equal(&b->lead, &twin.lead, ranges) &&
           split_set_equal(&b->body, &others[0].set, ranges) &&
           split_set_equal(&b->tail, &others[1].set, ranges);
}

/* --- alternatives -------------------------------------------------------------------------- */

static bool is_possessive_only_at_lead(const item *items, uint32_t count) {
    for (uint32_t i = 1; i < count; i++)
        if (items[i].possessive && !is_plus(&items[i])) return false;
    return true;
}

static bool parse_sets(parser *p, split_branch *b) {
    item items[ITEMS_MAX];
    uint32_t count = 0;
    if (!read_items(p, items, &count) || !is_possessive_only_at_lead(items, count)) return false;
    if (str_starts(p->rest, S("(?!"))) return make_spaces(p, b, items, count);
    if (at_alternative_end(p->rest) && make_run(b, items, count)) return true;
    return make_cased(p, b, items, count);
}

static bool parse_alternative(parser *p) {
    split_branch b;
    if (!parse_known(p, &b) && !parse_literal(p, &b) && !parse_sets(p, &b)) return false;
    buf_put(&p->branches, &b, sizeof b);
    return at_alternative_end(p->rest);
}

/* (A|B) is A|B when nothing is in parentheses inside. */
static str without_parentheses(str s) {
    if (s.n < 2 || *s.p != '(' || s.p[1] == '?' || s.p[s.n - 1] != ')') return s;
    str inner = {s.p + 1, s.n - 2};
    if (inner.n == 0 || memchr(inner.p, '(', inner.n) != NULL) return s;
    if (memchr(inner.p, ')', inner.n) != NULL || inner.p[inner.n - 1] == '\\') return s;
    return inner;
}

/* At most one branch may count digits: they share the cursor. */
static bool is_runnable(const split_branch *branches, size_t count) {
    uint32_t counting = 0;
    for (size_t i = 0; i < count; i++)
        counting += branches[i].shape == SPLIT_SHAPE_TRIPLE || branches[i].shape == SPLIT_SHAPE_CUT;
    return counting <= 1;
}

/* --- first characters ---------------------------------------------------------------------- */

static void add_starts(split_branch *b, const split_set *set) {
    b->starts[0] |= set->ascii[0];
    b->starts[1] |= set->ascii[1];
}

static void add_start(split_branch *b, char c) {
    unsigned char byte = (unsigned char)c;
    if (byte < 128) b->starts[byte >> 6] |= 1ull << (byte & 63);
}

static void find_starts(split_branch *b) {
    switch (b->shape) {
    case SPLIT_SHAPE_LITERAL:
        if (b->literal.n > 0) add_start(b, b->literal.p[0]);
        break;
    case SPLIT_SHAPE_SUFFIX:
        add_start(b, '\'');
        break;
    case SPLIT_SHAPE_LINES:
    case SPLIT_SHAPE_SPACES:
    case SPLIT_SHAPE_END:
        for (const char *c = "\t\n\v\f\r "; *c != '\0'; c++) add_start(b, *c);
        break;
    case SPLIT_SHAPE_RUN:
    case SPLIT_SHAPE_CASED:
    case SPLIT_SHAPE_PHRASE:
    case SPLIT_SHAPE_TRIPLE:
    case SPLIT_SHAPE_CUT:
        if (b->lead_kind != SPLIT_LEAD_NONE) add_starts(b, &b->lead);
        if (b->lead_kind != SPLIT_LEAD_NEEDED) add_starts(b, &b->body);
        if (b->shape == SPLIT_SHAPE_CASED) add_starts(b, &b->tail);
        break;
    }
}

/* A scanner that is not at the start of any match need not try the branches. */
static void find_all_starts(split_program *p) {
    for (uint32_t i = 0; i < p->branches_count; i++) {
        find_starts(&p->branches[i]);
        p->starts[0] |= p->branches[i].starts[0];
        p->starts[1] |= p->branches[i].starts[1];
    }
}

/* --- programs ------------------------------------------------------------------------------ */

static bool parse_all(parser *p) {
    do {
        if (!parse_alternative(p)) return false;
        if (p->rest.n == 0) {
            size_t count = p->branches.n / sizeof(split_branch);
            return is_runnable((const split_branch *)(const void *)p->branches.p, count);
        }
    } while (take(&p->rest, S("|")) && !p->branches.failed);
    return false;
}

status split_program_parse(split_program *p, str pattern, bool *linear, error *err) {
    parser all = {.rest = without_parentheses(pattern)};
    buf_init(&all.branches, SPLIT_BRANCHES_MAX * sizeof(split_branch));
    buf_init(&all.ranges, SPLIT_PATTERN_BYTES_MAX * sizeof(split_range));
    *p = (split_program){0};
    *linear = pattern.n <= SPLIT_PATTERN_BYTES_MAX && parse_all(&all);
    bool no_memory = all.branches.no_memory || all.ranges.no_memory;
    *linear = *linear && !all.branches.failed && !all.ranges.failed;
    if (*linear) {
        p->branches = (split_branch *)(void *)all.branches.p;
        p->branches_count = (uint32_t)(all.branches.n / sizeof(split_branch));
        p->ranges = (split_range *)(void *)all.ranges.p;
        find_all_starts(p);
    } else {
        buf_deinit(&all.branches);
        buf_deinit(&all.ranges);
    }
    if (no_memory) return error_set(err, ERR_NOMEM, "tokenizer: no memory for a pattern");
    return OK;
}

static status make_single(split_program *p, split_branch branch, error *err) {
    *p = (split_program){.branches = mem_try_alloc(sizeof branch), .branches_count = 1};
    if (p->branches == NULL) return error_set(err, ERR_NOMEM, "tokenizer: no memory for a pattern");
    p->branches[0] = branch;
    find_all_starts(p);
    return OK;
}

status split_program_literal(split_program *p, str text, error *err) {
    split_branch b = {.shape = SPLIT_SHAPE_LITERAL, .literal = text};
    return make_single(p, b, err);
}

status split_program_length(split_program *p, uint32_t length, error *err) {
    split_branch b = {.shape = SPLIT_SHAPE_RUN, .min = 1, .max = length};
    b.body = (split_set){.ascii = {UINT64_MAX, UINT64_MAX}, .negated = true};
    return make_single(p, b, err);
}

void split_program_deinit(split_program *p) {
    mem_free(p->branches);
    mem_free(p->ranges);
    *p = (split_program){0};
}
