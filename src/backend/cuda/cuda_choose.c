/* cuda_choose.c - one GPU out of a report, by number, UUID or PCI id. */
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

static status choose_best(const cuda_probe_report *report, const cuda_device_info **out,
                          error *err) {
    const cuda_device_info *best = NULL;
    for (uint32_t i = 0; i < report->devices_count; i++) {
        const cuda_device_info *d = &report->devices[i];
        if (d->usable && (best == NULL || d->memory_bytes > best->memory_bytes)) best = d;
    }
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
