/* jinja_dict.c - dictionaries: entries in order of insertion, and an index once they are many. */
#include "base/num.h"
#include "text/jinja_run.h"

enum { INDEX_COUNT_MIN = 9 }; /* fewer entries are looked through one by one */

status jinja_dict_new(jinja_run *r, size_t cap, jinja_value *out) {
    void *dict = NULL, *keys = NULL, *values = NULL;
    TRY(jinja_step(r, 1 + cap));
    TRY(jinja_take(r, 1, sizeof(jinja_dict), &dict));
    TRY(jinja_take(r, cap, sizeof(jinja_value), &keys));
    TRY(jinja_take(r, cap, sizeof(jinja_value), &values));
    *out = (jinja_value){.kind = JINJA_DICT, .as.dict = dict};
    *out->as.dict = (jinja_dict){.keys = keys, .values = values, .cap = cap};
    return OK;
}

/* --- the index ------------------------------------------------------------------------ */

static void index_add(jinja_dict *d, uint64_t hash, uint32_t place) {
    size_t at = hash & (d->index_cap - 1);
    while (d->index[at] != 0) at = (at + 1) & (d->index_cap - 1);
    d->index[at] = place + 1;
}

/* Builds it anew, at most half full. */
static status index_build(jinja_run *r, jinja_dict *d) {
    size_t cap = (size_t)4 * INDEX_COUNT_MIN;
    while (cap < 4 * d->count) cap *= 2;
    cap = (size_t)1 << (64 - __builtin_clzll(cap - 1));
    void *index = NULL;
    TRY(jinja_take(r, cap, sizeof *d->index, &index));
    d->index = index;
    d->index_cap = cap;
    for (size_t i = 0; i < d->count; i++) {
        uint64_t hash = 0;
        TRY(jinja_hash(r, &d->keys[i], &hash));
        index_add(d, hash, (uint32_t)i);
    }
    return OK;
}

/* In a small dictionary. */
static size_t find_str(const jinja_dict *d, str key) {
    for (size_t i = 0; i < d->count; i++)
        if (d->keys[i].kind == JINJA_STR && str_eq(d->keys[i].as.s, key)) return i;
    return d->count;
}

/* The place of a key, d->count when it is not there. */
static status find(jinja_run *r, const jinja_dict *d, const jinja_value *key, size_t *place) {
    bool same = false;
    uint64_t hash = 0;
    *place = d->count;
    TRY(jinja_step(r, 1));
    if (d->index == NULL && key->kind == JINJA_STR) {
        *place = find_str(d, key->as.s);
        return OK;
    }
    TRY(jinja_hash(r, key, &hash)); /* also where it is not needed: an error for lists */
    if (d->index == NULL) {
        for (size_t i = 0; i < d->count; i++) {
            TRY(jinja_equal(r, &d->keys[i], key, &same));
            if (same) {
                *place = i;
                return OK;
            }
        }
        return OK;
    }
    for (size_t at = hash & (d->index_cap - 1); d->index[at] != 0;
         at = (at + 1) & (d->index_cap - 1)) {
        TRY(jinja_equal(r, &d->keys[d->index[at] - 1], key, &same));
        if (same) {
            *place = d->index[at] - 1;
            return OK;
        }
    }
    return OK;
}

/* --- entries -------------------------------------------------------------------------- */

static status grow(jinja_run *r, jinja_dict *d) {
    size_t cap = d->cap < 4 ? 4 : 2 * d->cap;
    void *keys = NULL, *values = NULL;
    if (cap > UINT32_MAX / 4) return jinja_fail(r, "dictionary too large");
    TRY(jinja_take(r, cap, sizeof *d->keys, &keys));
    TRY(jinja_take(r, cap, sizeof *d->values, &values));
    if (d->count != 0) {
        memcpy(keys, d->keys, d->count * sizeof *d->keys);
        memcpy(values, d->values, d->count * sizeof *d->values);
    }
    d->keys = keys;
    d->values = values;
    d->cap = cap;
    return OK;
}

status jinja_dict_set(jinja_run *r, jinja_dict *d, const jinja_value *key,
                      const jinja_value *value) {
    size_t place = 0;
    uint64_t hash = 0;
    TRY(find(r, d, key, &place));
    if (place != d->count) {
        d->values[place] = *value;
        return OK;
    }
    if (d->count == d->cap) TRY(grow(r, d));
    d->keys[d->count] = *key;
    d->values[d->count] = *value;
    d->count++;
    if (d->count < INDEX_COUNT_MIN) return OK;
    if (d->index == NULL || 2 * d->count > d->index_cap) return index_build(r, d);
    TRY(jinja_hash(r, key, &hash));
    index_add(d, hash, (uint32_t)(d->count - 1));
    return OK;
}

status jinja_dict_get(jinja_run *r, const jinja_dict *d, const jinja_value *key,
                      jinja_value **out) {
    size_t place = 0;
    TRY(find(r, d, key, &place));
    *out = place != d->count ? &d->values[place] : NULL;
    return OK;
}

/* New arrays, so that a walk over the old ones goes on undisturbed. */
status jinja_dict_remove(jinja_run *r, jinja_dict *d, const jinja_value *key) {
    size_t place = 0;
    TRY(find(r, d, key, &place));
    if (place == d->count) return OK;
    TRY(jinja_step(r, d->count));
    size_t behind = d->count - place - 1;
    d->cap = d->count;
    TRY(grow(r, d));
    memmove(d->keys + place, d->keys + place + 1, behind * sizeof *d->keys);
    memmove(d->values + place, d->values + place + 1, behind * sizeof *d->values);
    d->count--;
    d->index = NULL;
    return d->count >= INDEX_COUNT_MIN ? index_build(r, d) : OK;
}
