/* cuda_choose.c - GPUs out of a report, by number, UUID or PCI id. */
#include <stdio.h>

#include "backend/cuda/cuda_probe.h"
#include "base/buf.h"
#include "base/str.h"

/* "0000:01:00.0"; a domain that is left out may be any. */
typedef struct pci_id {
    bool has_domain;
    uint32_t domain, bus, device, function;
} pci_id;

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* 1 to 8 hexadecimal digits at the front of *s, taken off. */
static bool take_hex(str *s, uint32_t *out) {
    uint32_t value = 0;
    size_t n = 0;
    while (n < s->n && n <= 8 && hex_digit(s->p[n]) >= 0)
        value = value << 4 | (uint32_t)hex_digit(s->p[n++]);
    *s = str_skip(*s, n);
    *out = value;
    return n >= 1 && n <= 8;
}

static bool take_char(str *s, char c) {
    if (s->n == 0 || s->p[0] != c) return false;
    *s = str_skip(*s, 1);
    return true;
}

/* [domain:]bus:device.function */
static bool parse_pci(str s, pci_id *out) {
    pci_id id = {.has_domain = false};
    if (!take_hex(&s, &id.bus) || !take_char(&s, ':') || !take_hex(&s, &id.device)) return false;
    if (take_char(&s, ':')) {
        id.has_domain = true;
        id.domain = id.bus;
        id.bus = id.device;
        if (!take_hex(&s, &id.device)) return false;
    }
    if (!take_char(&s, '.') || !take_hex(&s, &id.function) || s.n != 0) return false;
    *out = id;
    return true;
}

static bool pci_matches(const pci_id *wanted, const cuda_device_info *info) {
    pci_id has;
    if (!parse_pci(str_of(info->pci), &has)) return false;
    if (wanted->has_domain && has.domain != wanted->domain) return false;
    return has.bus == wanted->bus && has.device == wanted->device &&
           has.function == wanted->function;
}

static str without_prefix(str uuid) {
    bool has = uuid.n >= 4 && str_eq_nocase((str){uuid.p, 4}, S("GPU-"));
    return has ? str_skip(uuid, 4) : uuid;
}

static bool uuid_matches(str wanted, const cuda_device_info *info) {
    str has = without_prefix(str_of(info->uuid));
    wanted = without_prefix(wanted);
    return wanted.n > 0 && wanted.n <= has.n && str_eq_nocase((str){has.p, wanted.n}, wanted);
}

static bool matches(str selector, const cuda_device_info *info) {
    pci_id pci;
    uint64_t number = 0;
    if (str_to_u64(selector, &number) && number < CUDA_DEVICES_MAX)
        return number == (uint64_t)info->ordinal;
    if (parse_pci(selector, &pci)) return pci_matches(&pci, info);
    return uuid_matches(selector, info);
}

/* "0: Tesla T4 (GPU-6fd1ab1c-..., 0000:00:04.0), 1: ..." */
static void list_devices(const cuda_probe_report *report, char *out, size_t out_bytes) {
    size_t at = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < report->devices_count && at < out_bytes; i++) {
        const cuda_device_info *d = &report->devices[i];
        int n = snprintf(out + at, out_bytes - at, "%s%d: %s (%s, %s)", i > 0 ? ", " : "",
                         d->ordinal, d->name, d->uuid, d->pci);
        at += n > 0 ? (size_t)n : 0;
    }
}

/* The usable one with the most memory, then the lowest number, behind `before`; NULL: any. */
static const cuda_device_info *next_best(const cuda_probe_report *report,
                                         const cuda_device_info *before) {
    const cuda_device_info *best = NULL;
    for (uint32_t i = 0; i < report->devices_count; i++) {
        const cuda_device_info *d = &report->devices[i];
        const bool behind =
            before == NULL || d->memory_bytes < before->memory_bytes ||
            (d->memory_bytes == before->memory_bytes && d->ordinal > before->ordinal);
        if (!d->usable || !behind) continue;
        if (best == NULL || d->memory_bytes > best->memory_bytes) best = d;
    }
    return best;
}

static status choose_best(const cuda_probe_report *report, const cuda_device_info **out,
                          error *err) {
    const cuda_device_info *best = next_best(report, NULL);
    if (best == NULL)
        return error_set(err, ERR_UNSUPPORTED, "cuda: %s; %s", report->why, report->fix);
    *out = best;
    return OK;
}

status cuda_choose(const cuda_probe_report *report, const char *selector,
                   const cuda_device_info **out, error *err) {
    str wanted = str_of(selector);
    if (wanted.n == 0 || str_eq(wanted, S("auto"))) return choose_best(report, out, err);
    const cuda_device_info *found = NULL;
    for (uint32_t i = 0; i < report->devices_count; i++) {
        const cuda_device_info *d = &report->devices[i];
        if (!matches(wanted, d)) continue;
        if (found != NULL)
            return error_set(err, ERR_INVALID,
                             "cuda: '%.*s' means GPU %d (%s, %s) and GPU %d (%s, %s)", STR(wanted),
                             found->ordinal, found->uuid, found->pci, d->ordinal, d->uuid, d->pci);
        found = d;
    }
    char list[512];
    list_devices(report, list, sizeof list);
    if (found == NULL)
        return error_set(err, ERR_NOT_FOUND, "cuda: no GPU '%.*s'; there is %s", STR(wanted),
                         list[0] != '\0' ? list : report->why);
    if (!found->usable)
        return error_set(err, ERR_UNSUPPORTED, "cuda: GPU %d '%s' cannot be used: %s; %s",
                         found->ordinal, found->name, found->why, found->fix);
    *out = found;
    return OK;
}

/* --- several -------------------- */

uint32_t cuda_usable(const cuda_probe_report *report, uint32_t most, const cuda_device_info **out) {
    uint32_t count = 0;
    for (const cuda_device_info *d = next_best(report, NULL); d != NULL; d = next_best(report, d)) {
        if (count < most) out[count] = d;
        count++;
    }
    return count;
}

static status choose_all(const cuda_probe_report *report, uint32_t most,
                         const cuda_device_info **out, uint32_t *count, error *err) {
    const cuda_device_info *first = NULL;
    TRY(choose_best(report, &first, err)); /* says why there is none */
    *count = cuda_usable(report, most, out);
    if (*count <= most) return OK;
    return error_set(err, ERR_LIMIT,
                     "cuda: %u GPUs can be used, a model takes %u at most: name them", *count,
                     most);
}

static str without_spaces(str s) {
    while (s.n > 0 && s.p[0] == ' ') s = str_skip(s, 1);
    while (s.n > 0 && s.p[s.n - 1] == ' ') s.n--;
    return s;
}

static uint32_t count_entries(str list) {
    uint32_t count = 1;
    for (size_t i = 0; i < list.n; i++) count += list.p[i] == ',';
    return count;
}

/* Of a list of `named` entries. */
static status add_choice(const cuda_probe_report *report, str selector, uint32_t named,
                         uint32_t most, const cuda_device_info **out, uint32_t *count, error *err) {
    char one[128];
    const cuda_device_info *found = NULL;
    if (selector.n == 0 || selector.n >= sizeof one)
        return error_set(err, ERR_INVALID,
                         "cuda: entry %u of a list of GPUs has %zu bytes, want 1 "
                         "to %zu",
                         *count + 1, selector.n, sizeof one - 1);
    str_copy_c(one, sizeof one, selector);
    TRY(cuda_choose(report, one, &found, err));
    for (uint32_t i = 0; i < *count; i++)
        if (out[i] == found)
            return error_set(err, ERR_INVALID, "cuda: GPU %d '%s' is named twice", found->ordinal,
                             found->name);
    if (*count == most)
        return error_set(err, ERR_LIMIT, "cuda: %u GPUs are named, a model takes %u at most", named,
                         most);
    out[(*count)++] = found;
    return OK;
}

status cuda_choose_list(const cuda_probe_report *report, const char *selectors, uint32_t most,
                        const cuda_device_info **out, uint32_t *count, error *err) {
    str left = str_of(selectors);
    *count = 0;
    if (str_eq(left, S("all"))) return choose_all(report, most, out, count, err);
    if (memchr(left.p, ',', left.n) == NULL) {
        *count = 1;
        return cuda_choose(report, selectors, &out[0], err);
    }
    const uint32_t named = count_entries(left);
    for (bool more = true; more;) {
        const char *comma = memchr(left.p, ',', left.n);
        const size_t n = comma != NULL ? (size_t)(comma - left.p) : left.n;
        more = comma != NULL;
        const str one = without_spaces((str){left.p, n});
        TRY(add_choice(report, one, named, most, out, count, err));
        left = str_skip(left, n + more);
    }
    return OK;
}
