/* jinja_functions.c - the global functions, and the clock of strftime_now. */
#include <inttypes.h>

#include "base/num.h"
#include "text/jinja_run.h"

/* --- containers ----------------------------------------------------------------------- */

/* One item of dict([...]): a pair. */
static status add_pair(jinja_run *r, jinja_dict *d, const jinja_value *pair) {
    const jinja_value *items = NULL;
    size_t count = 0;
    TRY(jinja_items(r, pair, &items, &count));
    if (count != 2)
        return jinja_fail(r, "dictionary update sequence element has length %zu; 2 is required",
                          count);
    return jinja_dict_set(r, d, &items[0], &items[1]);
}

static status add_source(jinja_run *r, jinja_dict *d, const jinja_value *from) {
    const jinja_value *items = NULL;
    size_t count = 0;
    if (from->kind == JINJA_DICT || from->kind == JINJA_NAMESPACE) {
        for (size_t i = 0; i < from->as.dict->count; i++)
            TRY(jinja_dict_set(r, d, &from->as.dict->keys[i], &from->as.dict->values[i]));
        return OK;
    }
    TRY(jinja_items(r, from, &items, &count));
    for (size_t i = 0; i < count; i++) TRY(add_pair(r, d, &items[i]));
    return OK;
}

static status function_dict(jinja_run *r, const jinja_value *v, const jinja_args *args,
                            jinja_value *out) {
    (void)v;
    if (args->count > 1)
        return jinja_fail(r, "dict expected at most 1 argument, got %zu", args->count);
    TRY(jinja_dict_new(r, args->keywords_count, out));
    if (args->count == 1) TRY(add_source(r, out->as.dict, &args->items[0]));
    for (size_t i = 0; i < args->keywords_count; i++) {
        jinja_value key = jinja_text(args->keywords[i].name);
        TRY(jinja_dict_set(r, out->as.dict, &key, &args->keywords[i].value));
    }
    return OK;
}

static status function_namespace(jinja_run *r, const jinja_value *v, const jinja_args *args,
                                 jinja_value *out) {
    TRY(function_dict(r, v, args, out));
    out->kind = JINJA_NAMESPACE;
    return OK;
}

static status function_range(jinja_run *r, const jinja_value *v, const jinja_value *a,
                             jinja_value *out) {
    int64_t bounds[3] = {0, 0, 1};
    bool one = jinja_is_missing(&a[1]);
    void *p = NULL;
    (void)v;
    TRY(jinja_int_arg(r, &a[0], &bounds[one ? 1 : 0]));
    if (!one) TRY(jinja_int_arg(r, &a[1], &bounds[1]));
    if (!jinja_is_missing(&a[2])) TRY(jinja_int_arg(r, &a[2], &bounds[2]));
    if (bounds[2] == 0) return jinja_fail(r, "range() arg 3 must not be zero");
    jinja_int span = (jinja_int)bounds[1] - bounds[0], step = bounds[2];
    if (step < 0) {
        span = -span;
        step = -step;
    }
    jinja_int count = span > 0 ? (span + step - 1) / step : 0;
    if (count > JINJA_RANGE_MAX)
        return jinja_fail(r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                          JINJA_RANGE_MAX);
    TRY(jinja_take(r, 1, sizeof(jinja_range), &p));
    *out = (jinja_value){.kind = JINJA_RANGE, .as.range = p};
    *out->as.range = (jinja_range){
        .start = bounds[0], .stop = bounds[1], .step = bounds[2], .count = (int64_t)count};
    return OK;
}

static status make_cycler(jinja_run *r, jinja_kind kind, const jinja_value *items, size_t count,
                          jinja_value *out) {
    void *p = NULL, *q = NULL;
    TRY(jinja_take(r, 1, sizeof(jinja_cycler), &p));
    TRY(jinja_take(r, count, sizeof *items, &q));
    memcpy(q, items, count * sizeof *items);
    *out = (jinja_value){.kind = (uint8_t)kind, .as.cycler = p};
    *out->as.cycler = (jinja_cycler){.items = q, .count = count};
    return OK;
}

static status function_cycler(jinja_run *r, const jinja_value *v, const jinja_args *args,
                              jinja_value *out) {
    (void)v;
    if (args->count == 0) return jinja_fail(r, "at least one item has to be provided");
    return make_cycler(r, JINJA_CYCLER, args->items, args->count, out);
}

static status function_joiner(jinja_run *r, const jinja_value *v, const jinja_value *a,
                              jinja_value *out) {
    jinja_value comma = jinja_text(S(", "));
    (void)v;
    return make_cycler(r, JINJA_JOINER, jinja_is_missing(&a[0]) ? &comma : &a[0], 1, out);
}

/* --- what the host brings ------------------------------------------------------------- */

static status function_raise(jinja_run *r, const jinja_value *v, const jinja_value *a,
                             jinja_value *out) {
    str why = S("");
    (void)v;
    (void)out;
    TRY(jinja_to_str(r, &a[0], &why));
    return jinja_fail(r, "%.*s", (int)num_min_size(why.n, 260), why.p);
}

static const char *const DAYS[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                   "Thursday", "Friday", "Saturday"};
static const char *const MONTHS[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};

typedef struct clock_time {
    int64_t year;
    int month, day, hour, minute, second; /* month and day from 1 */
    int weekday;                          /* 0: Sunday */
    int yearday;                          /* from 1 */
} clock_time;

static bool is_leap(int64_t y) { return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0; }

static int month_days(int64_t year, int month) {
    static const int DAYS_OF[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return DAYS_OF[month - 1] + (month == 2 && is_leap(year));
}

/* Gregorian, by days since 1970-01-01, a Thursday; 400 years are 146097 days. */
static clock_time clock_of(int64_t unix_s) {
    int64_t days = unix_s / 86400, rest = unix_s % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    clock_time t = {.year = 1970 + days / 146097 * 400, .month = 1};
    t.weekday = (int)(((days % 7) + 11) % 7);
    days %= 146097;
    for (; days < 0; days += 365 + is_leap(t.year)) t.year--;
    for (; days >= 365 + is_leap(t.year); t.year++) days -= 365 + is_leap(t.year);
    t.yearday = (int)days + 1;
    for (; days >= month_days(t.year, t.month); t.month++) days -= month_days(t.year, t.month);
    t.day = (int)days + 1;
    t.hour = (int)(rest / 3600);
    t.minute = (int)(rest / 60 % 60);
    t.second = (int)(rest % 60);
    return t;
}

/* ISO 8601 weeks begin on Monday; the first is the one with the year's first Thursday. */
static int iso_week(const clock_time *t, int64_t *year) {
    int monday = (t->weekday + 6) % 7, week = (t->yearday - 1 - monday + 10) / 7;
    *year = t->year;
    if (week < 1) {
        *year = t->year - 1;
        int before = t->yearday + 365 + is_leap(*year);
        return (before - 1 - monday + 10) / 7;
    }
    int days = 365 + is_leap(t->year);
    if (week == 53 && days - t->yearday < 3 - monday) {
        *year = t->year + 1;
        return 1;
    }
    return week;
}

static void put_number(jinja_run *r, bool bare, char fill, int width, int64_t v) {
    if (bare)
        jinja_text_printf(r, "%" PRId64, v);
    else if (fill == '0')
        jinja_text_printf(r, "%0*" PRId64, width, v);
    else
        jinja_text_printf(r, "%*" PRId64, width, v);
}

static void put_time(jinja_run *r, const clock_time *t, str format);

/* Dates of one conversion; `bare` is the - of glibc that leaves padding out. */
static bool put_date_part(jinja_run *r, const clock_time *t, char c, bool bare) {
    int64_t iso_year = 0;
    int week = iso_week(t, &iso_year);
    switch (c) {
    case 'd':
        put_number(r, bare, '0', 2, t->day);
        return true;
    case 'e':
        put_number(r, bare, ' ', 2, t->day);
        return true;
    case 'm':
        put_number(r, bare, '0', 2, t->month);
        return true;
    case 'Y':
        put_number(r, true, '0', 4, t->year);
        return true;
    case 'y':
        put_number(r, bare, '0', 2, t->year % 100);
        return true;
    case 'C':
        put_number(r, bare, '0', 2, t->year / 100);
        return true;
    case 'j':
        put_number(r, bare, '0', 3, t->yearday);
        return true;
    case 'U':
        put_number(r, bare, '0', 2, (t->yearday + 6 - t->weekday) / 7);
        return true;
    case 'W':
        put_number(r, bare, '0', 2, (t->yearday + 6 - (t->weekday + 6) % 7) / 7);
        return true;
    case 'V':
        put_number(r, bare, '0', 2, week);
        return true;
    case 'G':
        put_number(r, true, '0', 4, iso_year);
        return true;
    case 'g':
        put_number(r, bare, '0', 2, iso_year % 100);
        return true;
    case 'w':
        put_number(r, true, '0', 1, t->weekday);
        return true;
    case 'u':
        put_number(r, true, '0', 1, t->weekday == 0 ? 7 : t->weekday);
        return true;
    default:
        return false;
    }
}

static bool put_time_part(jinja_run *r, const clock_time *t, char c, bool bare) {
    int hour12 = t->hour % 12 == 0 ? 12 : t->hour % 12;
    switch (c) {
    case 'H':
        put_number(r, bare, '0', 2, t->hour);
        return true;
    case 'I':
        put_number(r, bare, '0', 2, hour12);
        return true;
    case 'k':
        put_number(r, bare, ' ', 2, t->hour);
        return true;
    case 'l':
        put_number(r, bare, ' ', 2, hour12);
        return true;
    case 'M':
        put_number(r, bare, '0', 2, t->minute);
        return true;
    case 'S':
        put_number(r, bare, '0', 2, t->second);
        return true;
    case 'f':
        jinja_text_put(r, S("000000"));
        return true;
    case 's':
        jinja_text_printf(r, "%" PRId64, r->env->now_unix_s);
        return true;
    default:
        return false;
    }
}

/* Conversions that are words, or made of others. */
static bool put_word_part(jinja_run *r, const clock_time *t, char c) {
    static const char *const WHOLE[][2] = {{"c", "%a %b %e %H:%M:%S %Y"},
                                           {"D", "%m/%d/%y"},
                                           {"x", "%m/%d/%y"},
                                           {"F", "%Y-%m-%d"},
                                           {"T", "%H:%M:%S"},
                                           {"X", "%H:%M:%S"},
                                           {"R", "%H:%M"},
                                           {"r", "%I:%M:%S %p"}};
    for (size_t i = 0; i < sizeof WHOLE / sizeof *WHOLE; i++) {
        if (WHOLE[i][0][0] != c) continue;
        put_time(r, t, str_of(WHOLE[i][1])); /* none of these holds another of these */
        return true;
    }
    switch (c) {
    case 'a':
        jinja_text_put(r, (str){DAYS[t->weekday], 3});
        return true;
    case 'A':
        jinja_text_put(r, str_of(DAYS[t->weekday]));
        return true;
    case 'b':
    case 'h':
        jinja_text_put(r, (str){MONTHS[t->month - 1], 3});
        return true;
    case 'B':
        jinja_text_put(r, str_of(MONTHS[t->month - 1]));
        return true;
    case 'p':
        jinja_text_put(r, t->hour < 12 ? S("AM") : S("PM"));
        return true;
    case 'P':
        jinja_text_put(r, t->hour < 12 ? S("am") : S("pm"));
        return true;
    case 'n':
        jinja_text_put(r, S("\n"));
        return true;
    case 't':
        jinja_text_put(r, S("\t"));
        return true;
    case '%':
        jinja_text_put(r, S("%"));
        return true;
    default:
        return c == 'z' || c == 'Z'; /* the time of the template has no zone to name */
    }
}

static void put_time(jinja_run *r, const clock_time *t, str format) {
    for (size_t i = 0; i < format.n; i++) {
        size_t from = i;
        bool bare = format.p[i] == '%' && i + 1 < format.n && format.p[i + 1] == '-';
        if (format.p[i] == '%' && i + 1 + bare < format.n) {
            i += 1 + bare;
            char c = format.p[i];
            if (put_date_part(r, t, c, bare) || put_time_part(r, t, c, bare) ||
                put_word_part(r, t, c))
                continue;
        }
        jinja_text_put(r, (str){format.p + from, i + 1 - from}); /* as it stands */
    }
}

static status function_strftime_now(jinja_run *r, const jinja_value *v, const jinja_value *a,
                                    jinja_value *out) {
    str format = S("");
    int64_t now = 0;
    (void)v;
    TRY(jinja_str_arg(r, &a[0], &format));
    TRY(jinja_step_bytes(r, 16 * format.n));
    bool fits = !__builtin_add_overflow(r->env->now_unix_s, r->env->utc_offset_s, &now);
    if (!fits || now < -62135596800 || now > 253402300799)
        return jinja_fail(r, "the clock is not within the years 1 to 9999");
    clock_time t = clock_of(now);
    size_t begin = jinja_text_begin(r);
    put_time(r, &t, format);
    return jinja_text_take(r, begin, out);
}

static const jinja_def FUNCTIONS[] = {
    {.name = "cycler", .raw = function_cycler},
    {.name = "dict", .raw = function_dict},
    {.name = "joiner", .params = "sep", .bound = function_joiner},
    {.name = "namespace", .raw = function_namespace},
    {.name = "raise_exception", .params = "message", .required = 1, .bound = function_raise},
    {.name = "range", .params = "/start stop step", .required = 1, .bound = function_range},
    {.name = "strftime_now", .params = "format", .required = 1, .bound = function_strftime_now},
};

const jinja_def *jinja_function_find(str name) {
    return jinja_def_find(FUNCTIONS, sizeof FUNCTIONS / sizeof *FUNCTIONS, name);
}
