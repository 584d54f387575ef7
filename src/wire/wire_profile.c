/* wire_profile.c - the walks over profiles: what is asked for, and the tables that come up. */
#include "wire/wire_internal.h"

/* --- entries -------------------- */

static void walk_entry(codec *c, profile_entry *e) {
    FIELD_ENUM(c, e->place, WIRE_PROFILE_PLACES_MAX, "place");
    FIELD_ENUM(c, e->arith, WIRE_PROFILE_LIMITS, "arith");
    FIELD(c, e->tasks);
    FIELD(c, e->ops);
    FIELD(c, e->ns);
    FIELD(c, e->weight_bytes);
    FIELD(c, e->value_bytes);
    FIELD(c, e->cache_bytes);
    FIELD(c, e->flops);
    codec_str(c, &e->name, WIRE_PROFILE_TEXT_BYTES_MAX, "task name");
    codec_str(c, &e->kinds, WIRE_PROFILE_TEXT_BYTES_MAX, "task kinds");
    codec_str(c, &e->what, WIRE_PROFILE_TEXT_BYTES_MAX, "task tensors");
    if (e->arith == 0) codec_bad(c, "an entry without a kind of arithmetic");
}

void wire_profile_entry_put(buf *out, const profile_entry *e) {
    profile_entry copy = *e;
    walk_entry(&(codec){.out = out}, &copy);
}

bool wire_profile_entry_next(str *entries, profile_entry *out) {
    codec c = {.in = *entries};
    profile_entry e = {0};
    if (entries->n == 0) return false;
    walk_entry(&c, &e);
    if (c.st != OK) return false;
    *entries = c.in;
    *out = e;
    return true;
}

static void check_entries(codec *c, const profile_table *t) {
    str rest = t->entries;
    profile_entry e;
    uint32_t count = 0;
    while (wire_profile_entry_next(&rest, &e)) {
        if (e.place >= t->places_count)
            codec_bad(c, "entry %u is of place %u of %u", count, e.place, t->places_count);
        count++;
    }
    if (rest.n != 0) codec_bad(c, "profile entries: %zu bytes that are not whole ones", rest.n);
    if (count > WIRE_PROFILE_ENTRIES_MAX)
        codec_bad(c, "%u profile entries, at most %d", count, WIRE_PROFILE_ENTRIES_MAX);
}

/* --- tables -------------------- */

static void walk_place(codec *c, profile_place *p) {
    codec_chars(c, p->where, sizeof p->where, "place");
    FIELD(c, p->ops);
    for (uint32_t i = 0; i < WIRE_PROFILE_LIMITS; i++) {
        FIELD(c, p->limits[i].per_s);
        codec_chars(c, p->limits[i].name, sizeof p->limits[i].name, "limit");
    }
}

static void walk_table(codec *c, profile_table *t) {
    FIELD(c, t->steps);
    FIELD(c, t->rows);
    FIELD(c, t->ns);
    FIELD_ENUM(c, t->places_count, WIRE_PROFILE_PLACES_MAX + 1, "places");
    for (uint32_t i = 0; i < t->places_count; i++) walk_place(c, &t->places[i]);
    codec_str(c, &t->entries, WIRE_PROFILE_ENTRIES_BYTES_MAX, "profile entries");
    if (t->steps > WIRE_PROFILE_STEPS_MAX)
        codec_bad(c, "%u steps, at most %d", t->steps, WIRE_PROFILE_STEPS_MAX);
    if (codec_is_reading(c) && c->st == OK) check_entries(c, t);
}

/* --- messages -------------------- */

void codec_profile(codec *c, profile_order *o) {
    FIELD(c, o->id);
    FIELD(c, o->steps);
    FIELD(c, o->ms_max);
    if (o->steps == 0 || o->steps > WIRE_PROFILE_STEPS_MAX)
        codec_bad(c, "%u steps, want 1 to %d", o->steps, WIRE_PROFILE_STEPS_MAX);
    if (o->ms_max == 0 || o->ms_max > WIRE_PROFILE_MS_MAX)
        codec_bad(c, "%u ms, want 1 to %d", o->ms_max, WIRE_PROFILE_MS_MAX);
}

void codec_profile_report(codec *c, profile_report *r) {
    FIELD(c, r->id);
    FIELD_ENUM(c, r->code, STATUS_COUNT, "profile code");
    codec_str(c, &r->message, WIRE_PATH_BYTES_MAX, "profile message");
    walk_table(c, &r->prompt);
    walk_table(c, &r->decode);
    if (r->code != OK && (r->prompt.steps > 0 || r->decode.steps > 0))
        codec_bad(c, "a profile with steps and an error");
}
