/* topology.c - reads the pretended machine from CUDASIM and applies CUDA_VISIBLE_DEVICES.
 *
 * Presets hold what the datasheets and cuDeviceTotalMem say of each card.  A mistake in the JSON
 * ends the process: a test must not run on another machine than it asked for. */
#include "cudasim/topology.h"
#include "cudasim/exec.h"

#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define MIB(n) ((uint64_t)(n) << 20)
#define KIB(n) ((uint64_t)(n) << 10)

typedef struct sim_preset {
    const char *id;
    sim_gpu gpu;
} sim_preset;

/* memory_bytes is what the driver calls total: less than the card has, as some is kept for ECC and
 * firmware.  context_bytes: what a context of ours costs on such a card. */
static const sim_preset presets[] = {
    {"t4",
     {.name = "Tesla T4",
      .cc_major = 7,
      .cc_minor = 5,
      .sms = 40,
      .memory_bytes = 15637086208,
      .context_bytes = MIB(300),
      .l2_bytes = MIB(4),
      .shared_optin_bytes = KIB(64),
      .threads_per_sm = 1024,
      .clock_khz = 1590000,
      .memory_clock_khz = 5001000,
      .memory_bus_bits = 256,
      .power_mw = 28000,
      .power_limit_mw = 70000,
      .pcie_gen = 3,
      .pcie_width = 16,
      .ecc = true}},
    {"l4",
     {.name = "NVIDIA L4",
      .cc_major = 8,
      .cc_minor = 9,
      .sms = 58,
      .memory_bytes = MIB(22563),
      .context_bytes = MIB(350),
      .l2_bytes = MIB(48),
      .shared_optin_bytes = KIB(99),
      .threads_per_sm = 1536,
      .clock_khz = 2040000,
      .memory_clock_khz = 6251000,
      .memory_bus_bits = 192,
      .power_mw = 17000,
      .power_limit_mw = 72000,
      .pcie_gen = 4,
      .pcie_width = 16,
      .ecc = true}},
    {"a10",
     {.name = "NVIDIA A10",
      .cc_major = 8,
      .cc_minor = 6,
      .sms = 72,
      .memory_bytes = MIB(22502),
      .context_bytes = MIB(350),
      .l2_bytes = MIB(6),
      .shared_optin_bytes = KIB(99),
      .threads_per_sm = 1536,
      .clock_khz = 1695000,
      .memory_clock_khz = 6251000,
      .memory_bus_bits = 384,
      .power_mw = 22000,
      .power_limit_mw = 150000,
      .pcie_gen = 4,
      .pcie_width = 16,
      .ecc = true}},
    {"a100",
     {.name = "NVIDIA A100-SXM4-40GB",
      .cc_major = 8,
      .sms = 108,
      .memory_bytes = 42298834944,
      .context_bytes = MIB(420),
      .l2_bytes = MIB(40),
      .shared_optin_bytes = KIB(163),
      .threads_per_sm = 2048,
      .clock_khz = 1410000,
      .memory_clock_khz = 1215000,
      .memory_bus_bits = 5120,
      .power_mw = 50000,
      .power_limit_mw = 400000,
      .pcie_gen = 4,
      .pcie_width = 16,
      .ecc = true}},
    {"h100",
     {.name = "NVIDIA H100 80GB HBM3",
      .cc_major = 9,
      .sms = 132,
      .memory_bytes = MIB(81090),
      .context_bytes = MIB(520),
      .l2_bytes = MIB(50),
      .shared_optin_bytes = KIB(227),
      .threads_per_sm = 2048,
      .clock_khz = 1980000,
      .memory_clock_khz = 2619000,
      .memory_bus_bits = 5120,
      .power_mw = 70000,
      .power_limit_mw = 700000,
      .pcie_gen = 5,
      .pcie_width = 16,
      .ecc = true}},
    {"p100",
     {.name = "Tesla P100-PCIE-16GB",
      .cc_major = 6,
      .sms = 56,
      .memory_bytes = 17071734784,
      .context_bytes = MIB(300),
      .l2_bytes = MIB(4),
      .shared_optin_bytes = KIB(48),
      .threads_per_sm = 2048,
      .clock_khz = 1328500,
      .memory_clock_khz = 715000,
      .memory_bus_bits = 4096,
      .power_mw = 30000,
      .power_limit_mw = 250000,
      .pcie_gen = 3,
      .pcie_width = 16,
      .ecc = true}},
    {"k80",
     {.name = "Tesla K80",
      .cc_major = 3,
      .cc_minor = 7,
      .sms = 13,
      .memory_bytes = 11996954624,
      .context_bytes = MIB(200),
      .l2_bytes = KIB(1536),
      .shared_optin_bytes = KIB(48),
      .threads_per_sm = 2048,
      .clock_khz = 823500,
      .memory_clock_khz = 2505000,
      .memory_bus_bits = 384,
      .power_mw = 60000,
      .power_limit_mw = 149000,
      .pcie_gen = 3,
      .pcie_width = 16,
      .ecc = true}},
};

static sim_topology topology;

/* --- errors -------------------- */

__attribute__((format(printf, 1, 2), noreturn)) static void refuse(const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)fputs("cudasim: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    _exit(2); /* nothing else is to speak: the report at exit would ask for the machine again */
}

/* --- JSON members by table -------------------- */

typedef enum member_kind { TEXT, WHOLE, FLAG, CC } member_kind;

typedef struct member {
    const char *key;
    member_kind kind;
    size_t offset, bytes;
    uint64_t scale; /* of WHOLE */
} member;

#define GPU(field)  offsetof(sim_gpu, field), sizeof(((sim_gpu *)0)->field)
#define TOP(field)  offsetof(sim_topology, field), sizeof(((sim_topology *)0)->field)
#define RULE(field) offsetof(sim_fault_rule, field), sizeof(((sim_fault_rule *)0)->field)

static const member gpu_members[] = {
    {"name", TEXT, GPU(name), 0},
    {"uuid", TEXT, GPU(uuid), 0},
    {"pci", TEXT, GPU(pci), 0},
    {"cc", CC, 0, 0, 0},
    {"sms", WHOLE, GPU(sms), 1},
    {"memory_mib", WHOLE, GPU(memory_bytes), 1 << 20},
    {"context_mib", WHOLE, GPU(context_bytes), 1 << 20},
    {"l2_kib", WHOLE, GPU(l2_bytes), 1 << 10},
    {"shared_optin_kib", WHOLE, GPU(shared_optin_bytes), 1 << 10},
    {"threads_per_sm", WHOLE, GPU(threads_per_sm), 1},
    {"clock_khz", WHOLE, GPU(clock_khz), 1},
    {"memory_clock_khz", WHOLE, GPU(memory_clock_khz), 1},
    {"memory_bus_bits", WHOLE, GPU(memory_bus_bits), 1},
    {"temperature_c", WHOLE, GPU(temperature_c), 1},
    {"power_mw", WHOLE, GPU(power_mw), 1},
    {"power_limit_mw", WHOLE, GPU(power_limit_mw), 1},
    {"utilization_percent", WHOLE, GPU(utilization_percent), 1},
    {"pcie_gen", WHOLE, GPU(pcie_gen), 1},
    {"pcie_width", WHOLE, GPU(pcie_width), 1},
    {"mig", FLAG, GPU(mig), 0},
    {"ecc", FLAG, GPU(ecc), 0},
    {"prohibited", FLAG, GPU(prohibited), 0},
    {"lost_at_call", WHOLE, GPU(lost_at_call), 1},
    {NULL, TEXT, 0, 0, 0},
};

static const member top_members[] = {
    {"driver", TEXT, TOP(driver), 0},
    {"cuda", WHOLE, TOP(cuda), 1},
    {"stub", FLAG, TOP(stub), 0},
    {"init_result", WHOLE, TOP(init_result), 1},
    {"p2p_corrupts", FLAG, TOP(p2p_corrupts), 0},
    {"seed", WHOLE, TOP(seed), 1},
    {NULL, TEXT, 0, 0, 0},
};

static const member rule_members[] = {
    {"call", TEXT, RULE(call), 0}, {"kernel", TEXT, RULE(kernel), 0},
    {"at", WHOLE, RULE(at), 1},    {"result", WHOLE, RULE(result), 1},
    {NULL, TEXT, 0, 0, 0},
};

static void set_text(char *out, size_t out_bytes, const char *key, const json_t *value) {
    const char *text = json_string_value(value);
    if (text == NULL) refuse("'%s' is no string", key);
    if (strlen(text) >= out_bytes)
        refuse("'%s' has %zu bytes, the limit is %zu", key, strlen(text), out_bytes - 1);
    (void)snprintf(out, out_bytes, "%s", text);
}

static void set_whole(void *out, const member *m, const json_t *value) {
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0) refuse("'%s' is no whole number", m->key);
    uint64_t scaled = (uint64_t)number * m->scale;
    uint64_t max = m->bytes == 8 ? UINT64_MAX : INT32_MAX;
    if (m->scale != 0 && (scaled / m->scale != (uint64_t)number || scaled > max))
        refuse("'%s' is %lld, which is too large", m->key, (long long)number);
    uint32_t narrow = (uint32_t)scaled;
    if (m->bytes == 8)
        memcpy(out, &scaled, 8);
    else
        memcpy(out, &narrow, 4);
}

static void set_cc(sim_gpu *gpu, const json_t *value) {
    const char *text = json_string_value(value);
    int used = 0;
    if (text == NULL || sscanf(text, "%2d.%1d%n", &gpu->cc_major, &gpu->cc_minor, &used) != 2 ||
        text[used] != '\0')
        refuse("'cc' is not of the form \"7.5\"");
}

/* false: no row of the table has that key. */
static bool set_member(void *object, const member *table, const char *key, const json_t *value) {
    for (const member *m = table; m->key != NULL; m++) {
        if (strcmp(m->key, key) != 0) continue;
        char *at = (char *)object + m->offset;
        switch (m->kind) {
        case TEXT:
            set_text(at, m->bytes, key, value);
            break;
        case WHOLE:
            set_whole(at, m, value);
            break;
        case CC:
            set_cc(object, value);
            break;
        case FLAG:
            if (!json_is_boolean(value)) refuse("'%s' is not true or false", key);
            *(bool *)(void *)at = json_is_true(value);
            break;
        }
        return true;
    }
    return false;
}

/* --- the machine -------------------- */

static sim_gpu *add_preset(const char *id, size_t id_bytes) {
    if (topology.gpus_count == SIM_GPUS_MAX) refuse("more than %d GPUs", SIM_GPUS_MAX);
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        if (strlen(presets[i].id) != id_bytes || strncasecmp(presets[i].id, id, id_bytes) != 0)
            continue;
        uint32_t index = topology.gpus_count++;
        sim_gpu *gpu = &topology.gpus[index];
        *gpu = presets[i].gpu;
        gpu->temperature_c = 41 + index;
        (void)snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%02x5d0c5a-0000-4000-8000-%012x",
                       0xa0 + index, index);
        (void)snprintf(gpu->pci, sizeof gpu->pci, "00000000:00:%02X.0", 4 + index);
        return gpu;
    }
    refuse("there is no preset '%.*s'", (int)id_bytes, id);
}

static void add_gpu(const json_t *object) {
    if (!json_is_object(object)) refuse("a member of 'gpus' is no object");
    const char *preset = json_string_value(json_object_get(object, "preset"));
    if (preset == NULL) preset = "t4";
    sim_gpu *gpu = add_preset(preset, strlen(preset));
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        if (strcmp(key, "preset") != 0 && !set_member(gpu, gpu_members, key, value))
            refuse("a GPU has no '%s'", key);
    }
    if (gpu->context_bytes > gpu->memory_bytes)
        refuse("GPU %u has less memory than its context takes", topology.gpus_count - 1);
}

static void add_gpus(const json_t *list) {
    if (!json_is_array(list)) refuse("'gpus' is no list");
    for (size_t i = 0; i < json_array_size(list); i++) add_gpu(json_array_get(list, i));
}

static uint32_t gpu_index(const json_t *pair, size_t side) {
    const json_t *value = json_array_get(pair, side);
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) >= topology.gpus_count)
        refuse("'p2p' names a GPU that is not one of %u", topology.gpus_count);
    return (uint32_t)json_integer_value(value);
}

static void add_p2p(const json_t *list) {
    if (!json_is_array(list)) refuse("'p2p' is no list");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *pair = json_array_get(list, i);
        uint32_t a = gpu_index(pair, 0), b = gpu_index(pair, 1);
        topology.p2p[a][b] = topology.p2p[b][a] = a != b;
    }
}

static void add_fault(const json_t *object) {
    if (topology.faults_count == SIM_FAULTS_MAX) refuse("more than %d faults", SIM_FAULTS_MAX);
    sim_fault_rule *rule = &topology.faults[topology.faults_count++];
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        if (!set_member(rule, rule_members, key, value)) refuse("a fault has no '%s'", key);
    }
    if ((rule->call[0] == '\0') == (rule->kernel[0] == '\0') || rule->at == 0 || rule->result == 0)
        refuse("a fault needs 'call' or 'kernel', 'at' from 1 and 'result'");
}

static void add_faults(const json_t *list) {
    if (!json_is_array(list)) refuse("'faults' is no list");
    for (size_t i = 0; i < json_array_size(list); i++) add_fault(json_array_get(list, i));
}

static void add_unsupported(const json_t *list) {
    if (!json_is_array(list)) refuse("'unsupported' is no list");
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (topology.unsupported_count == SIM_UNSUPPORTED_MAX)
            refuse("more than %d functions are unsupported", SIM_UNSUPPORTED_MAX);
        set_text(topology.unsupported[topology.unsupported_count++], 64, "unsupported",
                 json_array_get(list, i));
    }
}

static void set_nvml(const json_t *object) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        if (strcmp(key, "absent") == 0)
            topology.nvml_absent = json_is_true(value);
        else if (strcmp(key, "unsupported") == 0)
            add_unsupported(value);
        else
            refuse("nvml has no '%s'", key);
    }
}

/* The position of a word in a list of three. */
static int choose(const char *key, const json_t *value, const char *const words[3]) {
    const char *text = json_string_value(value);
    for (int i = 0; i < 3; i++) {
        if (text != NULL && strcmp(text, words[i]) == 0) return i;
    }
    refuse("'%s' is not one of %s, %s, %s", key, words[0], words[1], words[2]);
}

static void set_top(const char *key, const json_t *value) {
    static const char *const streams[3] = {"eager", "deferred", "random"};
    static const char *const threads[3] = {"ascending", "descending", "shuffled"};
    if (strcmp(key, "gpus") == 0)
        add_gpus(value);
    else if (strcmp(key, "p2p") == 0)
        return; /* after all GPUs */
    else if (strcmp(key, "faults") == 0)
        add_faults(value);
    else if (strcmp(key, "nvml") == 0)
        set_nvml(value);
    else if (strcmp(key, "streams") == 0)
        topology.streams = (sim_streams)choose(key, value, streams);
    else if (strcmp(key, "threads") == 0)
        topology.threads_order = choose(key, value, threads);
    else if (!set_member(&topology, top_members, key, value))
        refuse("there is no '%s'", key);
}

static void read_json(const char *cudasim) {
    json_error_t where;
    json_t *root = cudasim[0] == '{' ? json_loads(cudasim, JSON_REJECT_DUPLICATES, &where)
                                     : json_load_file(cudasim, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(root))
        refuse("CUDASIM: line %d: %s", where.line, root == NULL ? where.text : "no object");
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) set_top(key, value);
    const json_t *p2p = json_object_get(root, "p2p");
    if (json_object_get(root, "gpus") == NULL) (void)add_preset("t4", 2);
    if (p2p != NULL) add_p2p(p2p);
    json_decref(root);
}

static void read_presets(const char *list) {
    for (const char *at = list;;) {
        size_t bytes = strcspn(at, ",");
        (void)add_preset(at, bytes);
        if (at[bytes] == '\0') return;
        at += bytes + 1;
    }
}

static bool is_preset_list(const char *text) { return strpbrk(text, "./{") == NULL; }

const sim_topology *sim_topology_use(const char *cudasim) {
    if (cudasim == NULL) cudasim = getenv("CUDASIM");
    if (cudasim == NULL || cudasim[0] == '\0') cudasim = "t4";
    memset(&topology, 0, sizeof topology);
    (void)snprintf(topology.driver, sizeof topology.driver, "580.65.06");
    topology.cuda = 13000;
    topology.seed = 1;
    topology.threads_order = SIM_ASCENDING;
    if (is_preset_list(cudasim))
        read_presets(cudasim);
    else
        read_json(cudasim);
    return &topology;
}

static void read_environment(void) {
    if (topology.driver[0] == '\0') (void)sim_topology_use(NULL);
}

const sim_topology *sim_topology_get(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, read_environment);
    return &topology;
}

/* --- CUDA_VISIBLE_DEVICES -------------------- */

/* The GPU that an entry names: an index, or a UUID or enough of its beginning to be the only one.
 * SIM_GPUS_MAX: none. */
static uint32_t find_gpu(const sim_topology *t, const char *entry, size_t bytes) {
    uint32_t found = SIM_GPUS_MAX;
    if (bytes >= 4 && strncmp(entry, "GPU-", 4) == 0) {
        for (uint32_t i = 0; i < t->gpus_count; i++) {
            if (strncmp(t->gpus[i].uuid, entry, bytes) != 0) continue;
            if (found != SIM_GPUS_MAX) return SIM_GPUS_MAX; /* two begin like that */
            found = i;
        }
        return found;
    }
    char *end;
    long index = strtol(entry, &end, 10);
    if (end == entry || end != entry + bytes || index < 0 || index >= (long)t->gpus_count)
        return SIM_GPUS_MAX;
    return (uint32_t)index;
}

static bool is_listed(const uint32_t *list, uint32_t count, uint32_t gpu) {
    for (uint32_t i = 0; i < count; i++) {
        if (list[i] == gpu) return true;
    }
    return false;
}

/* An entry that names no GPU ends the list, as it does in the driver (CUDA programming guide,
 * environment variables): "0,9,1" shows GPU 0 alone, "-1" none. */
uint32_t sim_topology_visible(uint32_t out[SIM_GPUS_MAX]) {
    const sim_topology *t = sim_topology_get();
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    uint32_t count = 0;
    if (list == NULL) {
        for (; count < t->gpus_count; count++) out[count] = count;
        return count;
    }
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, " ");
        size_t bytes = strcspn(at, ", ");
        uint32_t gpu = find_gpu(t, at, bytes);
        if (gpu == SIM_GPUS_MAX || is_listed(out, count, gpu)) break;
        out[count++] = gpu;
        at += bytes;
        at += strspn(at, " ");
        if (*at == ',') at++;
    }
    return count;
}
