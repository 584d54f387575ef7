/* adapters.c - see adapters.h: the list, and what a request uses of it. */
#include "api/adapters.h"

#include <stdio.h>

#include "api/front_internal.h"
#include "base/alloc.h"
#include "base/num.h"
#include "base/os.h"

/* --- the list ------------------------------------------------------------------------ */

static void entry_free(adapter_entry *a) {
    mem_free(a->name);
    mem_free(a->path);
    mem_free(a);
}

void adapters_deinit(adapter_list *l) {
    for (uint32_t i = 0; i < l->count; i++) entry_free(l->items[i]);
    mem_free(l->items);
    *l = (adapter_list){0};
}

static char *copy_of(str s) {
    char *copy = mem_try_alloc(s.n + 1);
    if (copy != NULL) str_copy_c(copy, s.n + 1, s);
    return copy;
}

static adapter_entry *entry_create(model_entry *m, str name, str path) {
    adapter_entry *a = mem_try_calloc(1, sizeof *a);
    if (a == NULL) return NULL;
    a->model = m;
    a->name = copy_of(name);
    a->path = copy_of(path);
    a->created_s = os_wall_ms() / 1000;
    if (a->name != NULL && a->path != NULL) return a;
    entry_free(a);
    return NULL;
}

static bool make_room(adapter_list *l) {
    if (l->count < l->cap) return true;
    uint32_t cap = l->cap == 0 ? 16 : l->cap * 2;
    adapter_entry **items = mem_try_realloc(l->items, cap * sizeof *items);
    if (items == NULL) return false;
    l->items = items;
    l->cap = cap;
    return true;
}

static status check_name(const front *f, str name, error *err) {
    if (!registry_name_is_good(name))
        return error_set(err, ERR_INVALID,
                         "'%.*s' is no name for an adapter: 1 to %d visible characters, not a path",
                         STR(name), MODEL_NAME_BYTES_MAX);
    if (registry_find(&f->registry, name) != NULL)
        return error_set(err, ERR_INVALID, "the name '%.*s' is in use: a model is called that",
                         STR(name));
    if (adapters_find(&f->adapters, name) != NULL)
        return error_set(err, ERR_INVALID, "the name '%.*s' is in use: that adapter is loaded",
                         STR(name));
    return OK;
}

status adapters_add(front *f, adapter_entry **out, model_entry *m, str name, str path, error *err) {
    adapter_list *l = &f->adapters;
    TRY(check_name(f, name, err));
    if (l->count == ADAPTERS_MAX || l->next_number == UINT32_MAX)
        return error_set(err, ERR_LIMIT, "adapter '%.*s' is number %u, at most %d", STR(name),
                         l->count + 1, ADAPTERS_MAX);
    adapter_entry *a = make_room(l) ? entry_create(m, name, path) : NULL;
    if (a == NULL) return error_set(err, ERR_NOMEM, "no memory for adapter '%.*s'", STR(name));
    a->number = l->next_number++;
    l->items[l->count++] = a;
    *out = a;
    return OK;
}

void adapters_remove(adapter_list *l, adapter_entry *a) {
    uint32_t at = 0;
    while (l->items[at] != a) at++;
    l->count--;
    memmove(&l->items[at], &l->items[at + 1], (l->count - at) * sizeof *l->items);
    entry_free(a);
}

adapter_entry *adapters_find(const adapter_list *l, str name) {
    for (uint32_t i = 0; i < l->count; i++)
        if (str_eq_c(name, l->items[i]->name)) return l->items[i];
    return NULL;
}

adapter_entry *adapters_find_loaded(const adapter_list *l, str name) {
    adapter_entry *a = adapters_find(l, name);
    return a != NULL && a->stage == ADAPTER_LOADED ? a : NULL;
}

adapter_entry *adapters_find_number(const adapter_list *l, uint32_t number) {
    for (uint32_t i = 0; i < l->count; i++)
        if (l->items[i]->number == number) return l->items[i];
    return NULL;
}

str adapter_file_name(const adapter_entry *a) {
    str path = str_of(a->path);
    while (path.n > 1 && path.p[path.n - 1] == '/') path.n--;
    const char *slash = path.n > 0 ? memrchr(path.p, '/', path.n - 1) : NULL;
    return slash != NULL ? str_skip(path, (size_t)(slash + 1 - path.p)) : path;
}

/* --- what a request uses --------------------------------------------------------------- */

/* What is used at scale 0 changes nothing and is left out. */
static bool use(gen_spec *spec, const adapter_entry *a, float scale, api_fault *fault) {
    uint32_t n = spec->request.adapters.count;
    if (scale == 0) return true;
    if (n == WIRE_ADAPTERS_MAX)
        return api_fault_set(fault, API_INVALID, "lora", "more than %d adapters at once",
                             WIRE_ADAPTERS_MAX);
    spec->adapter_numbers[n] = a->number;
    spec->adapter_scales[n] = scale;
    spec->request.adapters = (wire_array){spec->adapter_numbers, n + 1};
    spec->request.adapter_scales = (wire_array){spec->adapter_scales, n + 1};
    return true;
}

static const adapter_entry *find_listed(const front *f, const gen_lora *l) {
    if (l->name.n > 0) return adapters_find_loaded(&f->adapters, l->name);
    const adapter_entry *a = adapters_find_number(&f->adapters, l->id);
    return a != NULL && a->stage == ADAPTER_LOADED ? a : NULL;
}

/* Is it named by an earlier element, too? */
static bool is_repeated(const front *f, const gen_spec *spec, uint32_t i) {
    const adapter_entry *a = find_listed(f, &spec->loras[i]);
    for (uint32_t k = 0; k < i; k++)
        if (find_listed(f, &spec->loras[k]) == a) return true;
    return false;
}

static bool choose_listed(front *f, const model_entry *m, gen_spec *spec, api_fault *fault) {
    for (uint32_t i = 0; i < spec->loras_count; i++) {
        const gen_lora *want = &spec->loras[i];
        const adapter_entry *a = find_listed(f, want);
        char param[32], name[MODEL_NAME_BYTES_MAX + 1];
        (void)snprintf(param, sizeof param, "lora[%u]", i);
        (void)snprintf(name, sizeof name, "%u", want->id);
        if (want->name.n > 0) str_copy_c(name, sizeof name, want->name);
        if (a == NULL || a->model != m)
            return api_fault_set(fault, API_NO_MODEL, param, "%s: no adapter '%s' for model '%s'",
                                 param, name, m->name);
        if (is_repeated(f, spec, i))
            return api_fault_set(fault, API_INVALID, param, "%s: adapter '%s' is there twice",
                                 param, name);
        if (!use(spec, a, want->scale, fault)) return false;
    }
    return true;
}

bool adapters_choose(front *f, const model_entry *m, const adapter_entry *named, gen_spec *spec,
                     api_fault *fault) {
    if (named != NULL && spec->loras_given)
        return api_fault_set(fault, API_INVALID, "lora",
                             "lora: the model '%s' is an adapter already; say '%s' to combine",
                             named->name, m->name);
    if (named != NULL) return use(spec, named, 1.0f, fault);
    if (spec->loras_given) return choose_listed(f, m, spec, fault);
    for (uint32_t i = 0; i < f->adapters.count; i++) {
        const adapter_entry *a = f->adapters.items[i];
        bool mine = a->model == m && a->stage == ADAPTER_LOADED;
        if (mine && !use(spec, a, a->scale, fault)) return false;
    }
    return true;
}
