/* config_table.c - the option table.
 *
 * Rows of one group of the file stand together.  Where a flag means different things to
 * different commands (-p, -n), or has another default (--kv of logits), each meaning has a
 * row of its own; the masks of such rows do not overlap. */
#include <ctype.h>
#include <stddef.h>
#include <string.h>

#include "app/config_internal.h"
#include "base/assert.h"

#define AT(field) offsetof(config, field)
#define ON(id)    (1u << COMMAND_##id)

enum {
    EVERY = (1u << COMMAND_COUNT) - 1,
    MEASURES = ON(RUN) | ON(PERPLEXITY) | ON(BENCH) | ON(EMBED),
    LOADS = ON(SERVE) | MEASURES, /* logits has rows of its own where defaults differ */
    ALL_LOADS = LOADS | ON(LOGITS)
};

/* A row per option: name, flag, aliases, type, bits, commands, field, min, max, default,
 * choices, operand, help. */
/* clang-format off */
const config_option config_options[] = {
    {"models", "model", "m model-path", CONFIG_LIST, 0, ON(SERVE),
     AT(models), 1, 4096, "", NULL, "[NAME=]MODEL",
     "a model to serve, as NAME or its file name (or gantry-mini); repeatable"},

    {"server.host", "host", "bind", CONFIG_STR, 0, ON(SERVE),
     AT(host), 1, 253, "127.0.0.1", NULL, "HOST[:PORT]",
     "address to listen on; 0.0.0.0 for all"},
    {"server.port", "port", "", CONFIG_U32, 0, ON(SERVE),
     AT(port), 0, 65535, "8080", NULL, "N",
     "port to listen on; 0 takes any free one"},
    {"server.api_key", "api-key", "", CONFIG_STR, OPTION_SECRET, ON(SERVE) | ON(LORA),
     AT(api_key), 1, 512, "", NULL, "KEY",
     "key that clients must send; others can read flags, so prefer GANTRY_API_KEY"},
    {"server.allowed_hosts", "allowed-hosts", "", CONFIG_LIST, 0, ON(SERVE),
     AT(allowed_hosts), 1, 253, "", NULL, "NAME",
     "further Host names accepted when listening on loopback; repeatable"},
    {"server.cors_origins", "cors-origins", "", CONFIG_LIST, 0, ON(SERVE),
     AT(cors_origins), 1, 253, "", NULL, "ORIGIN",
     "web pages of these origins may call, * is any; repeatable"},
    {"server.drain_ms_max", "drain-ms-max", "", CONFIG_MS, 0, ON(SERVE),
     AT(drain_ms_max), 0, 86400000, "30s", NULL, "TIME",
     "how long running requests may finish after SIGTERM"},
    {"server.stall_ms_max", "stall-ms-max", "", CONFIG_MS, 0, ON(SERVE),
     AT(stall_ms_max), 1000, 86400000, "60s", NULL, "TIME",
     "an engine silent for longer makes /livez fail"},

    {"engine.ctx", "ctx", "", CONFIG_U32, 0, ALL_LOADS & ~ON(BENCH),
     AT(ctx_tokens), 0, 16777216, "0", NULL, "N",
     "tokens per sequence at most; 0 is what the model and memory allow"},
    {"engine.parallel", "parallel", "", CONFIG_U32, 0, ON(SERVE),
     AT(parallel), 1, 4096, "32", NULL, "N",
     "sequences computed together at most; does not divide --ctx"},
    {"engine.threads", "threads", "", CONFIG_U32, 0, ALL_LOADS | ON(QUANTIZE) | ON(DOCTOR),
     AT(threads), 0, 1024, "0", NULL, "N",
     "CPU threads; 0 is all cores this process may use"},
    {"engine.gpu", "gpu", "gpu-backend", CONFIG_CHOICE, 0, ALL_LOADS | ON(DOCTOR),
     AT(gpu), 0, 0, "prefer", "require/cuda|prefer/auto|off/cpu", "WHEN",
     "use a GPU always, when there is one, or never"},
    {"engine.device", "device", "", CONFIG_STR, 0, ALL_LOADS | ON(DOCTOR),
     AT(device), 1, 512, "", NULL, "GPU",
     "which GPU: index, UUID or PCI id (gantry gpus), or a list of them, or all"},
    {"engine.gpu_bytes_max", "gpu-bytes-max", "", CONFIG_BYTES, 0, ALL_LOADS,
     AT(gpu_bytes_max), 0, 0x1p44, "0", NULL, "SIZE",
     "memory of each GPU to use at most; 0 is what is free"},
    {"engine.gpu_layers", "gpu-layers", "n-gpu-layers", CONFIG_U32, 0, ALL_LOADS,
     AT(gpu_layers), 0, 65535, "0", NULL, "N",
     "layers on GPUs, the others on the CPU; 0 is all, or what fits"},
    {"engine.cpu_moe_layers", "cpu-moe-layers", "n-cpu-moe", CONFIG_U32, 0, ALL_LOADS,
     AT(cpu_moe_layers), 0, CONFIG_LAYERS_ALL, "0", "all", "N",
     "layers whose experts the CPU computes, all else is the GPU's; 0 is what has to"},
    {"engine.gpu_graphs", "gpu-graphs", "", CONFIG_BOOL, 0, ALL_LOADS,
     AT(gpu_graphs), 0, 0, "true", NULL, NULL,
     "queue the kernels of a step as one recorded CUDA graph"},
    {"engine.gpu_pdl", "gpu-pdl", "", CONFIG_BOOL, 0, ALL_LOADS,
     AT(gpu_pdl), 0, 0, "true", NULL, NULL,
     "start kernels, and prefetch weights, while the one before ends (from cc 9.0)"},
    {"engine.gpu_ahead", "gpu-ahead", "", CONFIG_BOOL, 0, ALL_LOADS,
     AT(gpu_ahead), 0, 0, "true", NULL, NULL,
     "queue a step while the one before it is computed, where that finds the tokens"},
    {"engine.gpu_peers", "gpu-peers", "", CONFIG_BOOL, 0, ALL_LOADS,
     AT(gpu_peers), 0, 0, "true", NULL, NULL,
     "let rows go straight from GPU to GPU, where a test says that it works"},
    {"engine.gpu_pipeline", "gpu-pipeline", "", CONFIG_BOOL, 0, ALL_LOADS,
     AT(gpu_pipeline), 0, 0, "true", NULL, NULL,
     "cut long steps so that several GPUs, and the CPU, compute at the same time"},
    {"engine.gpu_monitor", "gpu-monitor", "", CONFIG_BOOL, 0, ON(SERVE),
     AT(gpu_monitor), 0, 0, "true", NULL, NULL,
     "read the state of GPUs once a second, for /health and /metrics"},
    {"engine.backend", "backend", "", CONFIG_CHOICE, 0, ALL_LOADS,
     AT(backend), 0, 0, "auto", "auto|ref|cpu|cuda", "NAME",
     "what computes; ref is slow and obvious"},
    {"engine.numerics", "numerics", "", CONFIG_CHOICE, 0, LOADS,
     AT(numerics), 0, 0, "auto", "auto|exact|fast", "MODE",
     "fast may round prompts to 8 bits, bf16 or f16; exact rounds all alike"},
    {"logits.numerics", "numerics", "", CONFIG_CHOICE, OPTION_NO_FILE, ON(LOGITS),
     AT(numerics), 0, 0, "exact", "auto|exact|fast", "MODE",
     "fast may round prompts to 8 bits, bf16 or f16; exact rounds all alike"},
    {"engine.kv", "kv", "", CONFIG_CHOICE, 0, ON(SERVE) | ON(RUN) | ON(BENCH),
     AT(kv), 0, 0, "f16", "f16|f32|q8_0/q8|q4_0/q4", "TYPE",
     "type of the KV cache"},
    {"logits.kv", "kv", "", CONFIG_CHOICE, OPTION_NO_FILE, ON(LOGITS) | ON(PERPLEXITY) | ON(EMBED),
     AT(kv), 0, 0, "f32", "f16|f32|q8_0/q8|q4_0/q4", "TYPE",
     "type of the KV cache"},
    {"engine.pooling", "pooling", "", CONFIG_CHOICE, 0, ON(SERVE) | ON(EMBED),
     AT(pooling), 0, 0, "auto", "auto|none|mean|cls|last", "HOW",
     "which hidden states become the vector of a text; auto: as the model's file says"},
    {"engine.kv_bytes_max", "kv-bytes-max", "", CONFIG_BYTES, 0, ALL_LOADS,
     AT(kv_bytes_max), 0, 0x1p44, "0", NULL, "SIZE",
     "memory for the KV cache; 0 is what is needed, as far as it fits"},
    {"engine.kv_host_bytes", "kv-host-bytes", "", CONFIG_BYTES, 0, ON(SERVE),
     AT(kv_host_bytes), 0, 0x1p44, "auto", "auto", "SIZE",
     "host memory for a GPU's KV blocks of preempted sequences; 0 recomputes them"},
    {"engine.cpu_isa", "cpu-isa", "", CONFIG_CHOICE, 0, ALL_LOADS,
     AT(cpu_isa), 0, 0, "auto", "auto|scalar|avx2|avx512|amx|neon", "NAME",
     "newest CPU instructions to use"},
    {"engine.quantize", "quantize", "", CONFIG_STR, 0, ALL_LOADS,
     AT(quantize_type), 1, 32, "", NULL, "TYPE",
     "compute with a copy in this type, made once and kept in --cache-dir"},
    {"engine.cache_dir", "cache-dir", "", CONFIG_STR, 0, ALL_LOADS | ON(DOCTOR),
     AT(cache_dir), 1, 4000, "", NULL, "DIR",
     "where copies of models are kept; ~/.cache/gantry when not given"},
    {"engine.chat_template", "chat-template", "", CONFIG_STR, 0, ON(SERVE) | ON(RUN),
     AT(chat_template), 1, 4096, "auto", NULL, "auto|plain|FILE",
     "auto is the model's own, plain needs none, FILE has a Jinja template"},
    {"engine.parse_special_in_content", "parse-special-in-content", "", CONFIG_BOOL, 0,
     ON(SERVE) | ON(RUN),
     AT(trust_content), 0, 0, "false", NULL, NULL,
     "control tokens written in messages become tokens: trusted clients only"},
    {"engine.allow_request_template", "allow-request-template", "", CONFIG_BOOL, 0, ON(SERVE),
     AT(request_templates), 0, 0, "false", NULL, NULL,
     "chat requests may bring a Jinja template of their own"},

    {"sched.step_tokens_max", "step-tokens-max", "", CONFIG_U32, 0, ON(SERVE),
     AT(step_tokens_max), 1, 65536, "512", NULL, "N",
     "tokens computed in one step at most; not given, fewer in short memory"},
    {"sched.step_ms_target", "step-ms-target", "", CONFIG_MS, 0, ON(SERVE),
     AT(step_ms_target), 1, 60000, "250ms", NULL, "TIME",
     "prompts are cut so that a step takes about this long"},
    {"sched.queue_max", "queue-max", "", CONFIG_U32, 0, ON(SERVE),
     AT(queue_max), 1, 1048576, "256", NULL, "N",
     "requests that may wait; further ones get 503"},
    {"sched.credits", "credits", "", CONFIG_U32, 0, ON(SERVE),
     AT(credits_tokens), 16, 65536, "256", NULL, "N",
     "tokens computed ahead of a client that does not read"},

    {"limits.request_bytes_max", "request-bytes-max", "", CONFIG_BYTES, 0, ON(SERVE),
     AT(request_bytes_max), 1024, 48.0 * 0x1p20, "16MiB", NULL, "SIZE",
     "body of a request"},
    {"limits.header_bytes_max", "header-bytes-max", "", CONFIG_BYTES, 0, ON(SERVE),
     AT(header_bytes_max), 1024, 0x1p24, "64KiB", NULL, "SIZE",
     "request line and headers together"},
    {"limits.prompt_tokens_max", "prompt-tokens-max", "", CONFIG_U32, 0, ON(SERVE),
     AT(prompt_tokens_max), 0, 16777216, "0", NULL, "N",
     "tokens of a prompt; 0 is what fits the context"},
    {"limits.choices_max", "choices-max", "", CONFIG_U32, 0, ON(SERVE),
     AT(choices_max), 1, 128, "16", NULL, "N",
     "prompts times n of one request"},
    {"limits.connections_max", "connections-max", "", CONFIG_U32, 0, ON(SERVE),
     AT(connections_max), 1, 65536, "4096", NULL, "N",
     "open connections"},
    {"limits.head_ms_max", "head-ms-max", "", CONFIG_MS, 0, ON(SERVE),
     AT(head_ms_max), 100, 3600000, "10s", NULL, "TIME",
     "for a client to send its headers"},
    {"limits.body_ms_max", "body-ms-max", "", CONFIG_MS, 0, ON(SERVE),
     AT(body_ms_max), 100, 3600000, "60s", NULL, "TIME",
     "for a client to send its body"},
    {"limits.idle_ms_max", "idle-ms-max", "", CONFIG_MS, 0, ON(SERVE),
     AT(idle_ms_max), 100, 3600000, "75s", NULL, "TIME",
     "between two requests of a connection"},

    {"log.level", "log-level", "", CONFIG_CHOICE, 0, EVERY,
     AT(log_level), 0, 0, "info", "debug|info|warn|error", "LEVEL",
     "what is logged to stderr"},

    {"run.prompt", "prompt", "p", CONFIG_STR, OPTION_FLAG_ONLY, ON(RUN) | ON(LOGITS) | ON(EMBED),
     AT(prompt), 0, 1048576, "", NULL, "TEXT",
     "the prompt"},
    {"run.tokens_max", "tokens-max", "n", CONFIG_U32, OPTION_FLAG_ONLY, ON(RUN),
     AT(tokens_max), 0, 16777216, "0", NULL, "N",
     "tokens to generate; 0 is until the model stops"},
    {"run.temperature", "temp", "temperature", CONFIG_F32, OPTION_FLAG_ONLY, ON(RUN),
     AT(temperature), 0, 100, "0.8", NULL, "T",
     "0 takes the likeliest token"},
    {"run.top_k", "top-k", "", CONFIG_U32, OPTION_FLAG_ONLY, ON(RUN),
     AT(top_k), 0, 16777216, "40", NULL, "K",
     "choose among the K likeliest tokens; 0 is off"},
    {"run.top_p", "top-p", "", CONFIG_F32, OPTION_FLAG_ONLY, ON(RUN),
     AT(top_p), 0, 1, "0.95", NULL, "P",
     "choose among the likeliest tokens that sum up to P; 1 is off"},
    {"run.min_p", "min-p", "", CONFIG_F32, OPTION_FLAG_ONLY, ON(RUN),
     AT(min_p), 0, 1, "0.05", NULL, "P",
     "drop tokens less likely than P times the likeliest; 0 is off"},
    {"run.repeat_penalty", "repeat-penalty", "", CONFIG_F32, OPTION_FLAG_ONLY, ON(RUN),
     AT(repeat_penalty), 0.01, 10, "1", NULL, "R",
     "above 1 makes tokens that were there less likely"},
    {"run.seed", "seed", "", CONFIG_U64, OPTION_FLAG_ONLY, ON(RUN),
     AT(seed), 0, 0x1p64, "0", NULL, "S",
     "of the random choices; drawn when not given"},
    {"run.stop", "stop", "", CONFIG_LIST, OPTION_FLAG_ONLY, ON(RUN),
     AT(stop), 1, 256, "", NULL, "TEXT",
     "stop before this text; repeatable, at most 16"},
    {"run.raw", "raw", "", CONFIG_BOOL, OPTION_FLAG_ONLY, ON(RUN),
     AT(raw), 0, 0, "false", NULL, NULL,
     "no chat template: the prompt goes to the model as it is"},

    {"render.template", "template", "", CONFIG_STR, OPTION_FLAG_ONLY, ON(RENDER),
     AT(template_file), 1, 4096, "", NULL, "FILE",
     "a Jinja template, instead of a model's"},
    {"render.jsonl", "jsonl", "", CONFIG_BOOL, OPTION_FLAG_ONLY, ON(RENDER),
     AT(jsonl), 0, 0, "false", NULL, NULL,
     "a request per line in, a JSON string or error object per line out"},

    {"tokenize.no_special", "no-special", "", CONFIG_BOOL, OPTION_FLAG_ONLY, ON(TOKENIZE),
     AT(no_special), 0, 0, "false", NULL, NULL,
     "add no token at the beginning or the end"},
    {"tokenize.no_parse_special", "no-parse-special", "", CONFIG_BOOL, OPTION_FLAG_ONLY,
     ON(TOKENIZE),
     AT(no_parse_special), 0, 0, "false", NULL, NULL,
     "control tokens in the text are plain text"},

    {"logits.tokens", "tokens", "", CONFIG_STR, OPTION_FLAG_ONLY, ON(LOGITS) | ON(EMBED),
     AT(token_ids), 1, 1048576, "", NULL, "ID,ID,...",
     "exactly these tokens"},
    {"logits.last", "last", "", CONFIG_BOOL, OPTION_FLAG_ONLY, ON(LOGITS),
     AT(last), 0, 0, "false", NULL, NULL,
     "only the row of the last token"},
    {"logits.out", "out", "o", CONFIG_STR, OPTION_FLAG_ONLY, ON(LOGITS) | ON(EMBED),
     AT(out_file), 1, 4096, "", NULL, "FILE",
     "where the numbers go: little-endian f32, row after row"},

    {"perplexity.file", "file", "f", CONFIG_STR, OPTION_FLAG_ONLY, ON(PERPLEXITY),
     AT(text_file), 1, 4096, "", NULL, "FILE",
     "the text to measure"},
    {"perplexity.reference", "reference", "", CONFIG_STR, OPTION_FLAG_ONLY, ON(PERPLEXITY),
     AT(reference), 1, 4096, "", NULL, "MODEL",
     "compare with this model: KL divergence and agreement on the most likely token"},

    {"embed.normalize", "normalize", "", CONFIG_BOOL, OPTION_FLAG_ONLY, ON(EMBED),
     AT(normalize), 0, 0, "false", NULL, NULL,
     "scale the vector to length 1"},

    {"lora.adapters", "lora", "", CONFIG_LIST, 0, ALL_LOADS & ~ON(BENCH),
     AT(loras), 1, 4096, "", NULL, "[NAME=]FILE[:SCALE]",
     "a low-rank adapter for all requests (serve: that do not choose); repeatable"},
    {"lora.url", "url", "", CONFIG_STR, OPTION_NO_FILE, ON(LORA),
     AT(url), 1, 256, "http://127.0.0.1:8080", NULL, "URL",
     "where the server is"},
    {"lora.rank_max", "lora-rank-max", "", CONFIG_U32, 0, ALL_LOADS & ~ON(BENCH),
     AT(lora_rank_max), 0, 4096, "64", NULL, "N",
     "memory is planned for adapters of this rank; 0 refuses adapters"},
    {"lora.adapters_max", "lora-adapters-max", "", CONFIG_U32, 0, ON(SERVE),
     AT(lora_adapters_max), 0, 1024, "16", NULL, "N",
     "adapters loaded at the same time at most"},

    {"bench.prompt_tokens", "prompt-tokens", "p", CONFIG_U32, OPTION_FLAG_ONLY, ON(BENCH),
     AT(bench_prompt_tokens), 0, 1048576, "512", NULL, "N",
     "length of the prompt; 0 skips this test"},
    {"bench.tokens", "tokens", "n", CONFIG_U32, OPTION_FLAG_ONLY, ON(BENCH),
     AT(bench_tokens), 0, 1048576, "128", NULL, "N",
     "tokens to generate; 0 skips this test"},
    {"bench.batch", "batch", "", CONFIG_NUMBERS, OPTION_FLAG_ONLY, ON(BENCH),
     AT(batch), 1, 4096, "1", NULL, "N,N,...",
     "sequences generated together; one test each"},
    {"bench.depth", "depth", "d", CONFIG_U32, OPTION_FLAG_ONLY, ON(BENCH),
     AT(bench_depth_tokens), 0, 1048576, "0", NULL, "N",
     "tokens of context already there when generation begins"},
    {"bench.repeat", "repeat", "", CONFIG_U32, OPTION_FLAG_ONLY, ON(BENCH),
     AT(repeat), 1, 64, "5", NULL, "N",
     "runs of each test; the median counts"},
    {"bench.kernels", "kernels", "", CONFIG_BOOL, OPTION_FLAG_ONLY, ON(BENCH),
     AT(bench_kernels), 0, 0, "false", NULL, NULL,
     "also what a step spends its time in, each kind of task beside its limit"},
    {"bench.export", "export", "", CONFIG_STR, OPTION_FLAG_ONLY, ON(BENCH),
     AT(export_file), 1, 4096, "", NULL, "FILE",
     "write the synthetic model as GGUF instead"},

    {"quantize.imatrix", "imatrix", "", CONFIG_STR, OPTION_FLAG_ONLY, ON(QUANTIZE),
     AT(imatrix_file), 1, 4096, "", NULL, "FILE",
     "importance matrix: which columns need the precision"},
    {"quantize.output_type", "output-type", "", CONFIG_STR, OPTION_FLAG_ONLY, ON(QUANTIZE),
     AT(output_type), 1, 16, "", NULL, "TYPE",
     "type of output.weight"},
    {"quantize.token_embd_type", "token-embd-type", "", CONFIG_STR, OPTION_FLAG_ONLY,
     ON(QUANTIZE),
     AT(token_embd_type), 1, 16, "", NULL, "TYPE",
     "type of token_embd.weight"},
    {"quantize.pure", "pure", "", CONFIG_BOOL, OPTION_FLAG_ONLY, ON(QUANTIZE),
     AT(pure), 0, 0, "false", NULL, NULL,
     "one type for every matrix instead of the mix of the name"},

    {"json", "json", "", CONFIG_BOOL, OPTION_FLAG_ONLY,
     ON(BENCH) | ON(INSPECT) | ON(PERPLEXITY) | ON(LORA) | ON(GPUS) | ON(DOCTOR),
     AT(json), 0, 0, "false", NULL, NULL,
     "JSON instead of text"},
    {"config", "config", "", CONFIG_STR, OPTION_NO_FILE, EVERY,
     AT(config_file), 1, 4096, "", NULL, "FILE",
     "read options from this YAML or JSON file"},
    {"help", "help", "h", CONFIG_BOOL, OPTION_FLAG_ONLY, EVERY,
     AT(help), 0, 0, "false", NULL, NULL,
     "show this"},
};
/* clang-format on */

const uint32_t config_options_count = sizeof config_options / sizeof *config_options;

_Static_assert(sizeof config_options / sizeof *config_options <= CONFIG_OPTIONS_MAX,
               "config.sources has a place for every option");
_Static_assert(sizeof(config_gpu) == sizeof(uint32_t), "choices are stored as 32 bits");

uint32_t config_option_index(const config_option *o) {
    ASSERT(o >= config_options && o < config_options + config_options_count);
    return (uint32_t)(o - config_options);
}

bool config_option_is_for(const config_option *o, command cmd) {
    return (o->commands >> cmd & 1) != 0;
}

bool config_option_in_file(const config_option *o) {
    return (o->bits & (OPTION_FLAG_ONLY | OPTION_NO_FILE)) == 0;
}

bool config_option_in_env(const config_option *o) { return (o->bits & OPTION_FLAG_ONLY) == 0; }

void config_env_name(const config_option *o, char out[CONFIG_ENV_BYTES]) {
    static const char prefix[] = "GANTRY_";
    size_t n = sizeof prefix - 1;
    memcpy(out, prefix, sizeof prefix);
    for (const char *p = o->flag; *p != '\0'; p++) {
        ASSERT(n + 1 < CONFIG_ENV_BYTES);
        out[n++] = (char)(*p == '-' ? '_' : toupper((unsigned char)*p));
    }
    out[n] = '\0';
}
