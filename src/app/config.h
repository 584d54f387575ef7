/* config.h - every option of every command, from one table.
 *
 * A value comes from a flag, else the environment (GANTRY_*), else the file named by --config
 * (YAML or JSON), else its default; where it came from is remembered.  This is the only room
 * part that reads the environment.  After config_load() the application builds the options
 * struct of each module from it; no module sees this one.
 * From the same table: --help of each command, docs/config.md and gantry.example.yaml.
 * Main thread; read-only after loading. */
#ifndef APP_CONFIG_H
#define APP_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

/* X(ID, name, arguments, what it does): the commands that take options. */
#define COMMANDS(X)                                                                           \
    X(SERVE, "serve", "", "serve models over HTTP")                                           \
    X(RUN, "run", "[MODEL]", "complete one prompt, or chat; without MODEL with gantry-mini")  \
    X(TOKENIZE, "tokenize", "MODEL", "text on stdin to token ids")                            \
    X(DETOKENIZE, "detokenize", "MODEL", "token ids on stdin to bytes")                       \
    X(LOGITS, "logits", "MODEL", "one forward pass, raw f32 logits into a file")              \
    X(PERPLEXITY, "perplexity", "MODEL", "how well a model predicts a text file")             \
    X(EMBED, "embed", "MODEL", "one text as a vector, raw f32 into a file")                   \
    X(BENCH, "bench", "MODEL", "speed of prompt processing and generation")                   \
    X(DEQUANTIZE, "dequantize", "TYPE", "quantized blocks on stdin to f32 on stdout")         \
    X(QUANTIZE, "quantize", "IN OUT TYPE", "a GGUF file with its weights in another type")    \
    X(CONVERT, "convert", "IN OUT",                                                           \
      "a Hugging Face directory, or split GGUF files, as one GGUF file")                      \
    X(LORA, "lora", "list | load NAME FILE | unload NAME", "adapters of a running server")    \
    X(RENDER, "render", "[MODEL]", "chat messages on stdin to the text of a prompt")          \
    X(INSPECT, "inspect", "MODEL", "what is in a model file")                                 \
    X(GPUS, "gpus", "", "the GPUs of this machine: which can be used, and why others cannot") \
    X(DOCTOR, "doctor", "", "check this machine: what is fine, what is not, and what would help")

typedef enum command {
#define COMMAND_ENUM(id, name, args, help) COMMAND_##id,
    COMMANDS(COMMAND_ENUM)
#undef COMMAND_ENUM
        COMMAND_COUNT
} command;

/* Weakest first. */
typedef enum config_source {
    CONFIG_SOURCE_DEFAULT,
    CONFIG_SOURCE_FILE,
    CONFIG_SOURCE_ENV,
    CONFIG_SOURCE_FLAG
} config_source;

/* Values of the options with choices, in the order of their names in the table. */
typedef enum config_gpu { CONFIG_GPU_REQUIRE, CONFIG_GPU_PREFER, CONFIG_GPU_OFF } config_gpu;
typedef enum config_backend {
    CONFIG_BACKEND_AUTO,
    CONFIG_BACKEND_REF,
    CONFIG_BACKEND_CPU,
    CONFIG_BACKEND_CUDA
} config_backend;
typedef enum config_numerics {
    CONFIG_NUMERICS_AUTO,
    CONFIG_NUMERICS_EXACT,
    CONFIG_NUMERICS_FAST
} config_numerics;
typedef enum config_kv { CONFIG_KV_F16, CONFIG_KV_F32, CONFIG_KV_Q8_0, CONFIG_KV_Q4_0 } config_kv;
typedef enum config_pooling {
    CONFIG_POOLING_AUTO,
    CONFIG_POOLING_NONE,
    CONFIG_POOLING_MEAN,
    CONFIG_POOLING_CLS,
    CONFIG_POOLING_LAST
} config_pooling;
typedef enum config_cpu_isa {
    CONFIG_CPU_ISA_AUTO,
    CONFIG_CPU_ISA_SCALAR,
    CONFIG_CPU_ISA_AVX2,
    CONFIG_CPU_ISA_AVX512,
    CONFIG_CPU_ISA_AMX,
    CONFIG_CPU_ISA_NEON
} config_cpu_isa;
typedef enum config_log_level {
    CONFIG_LOG_LEVEL_DEBUG,
    CONFIG_LOG_LEVEL_INFO,
    CONFIG_LOG_LEVEL_WARN,
    CONFIG_LOG_LEVEL_ERROR
} config_log_level;

#define CONFIG_BYTES_AUTO UINT64_MAX /* of sizes that may be "auto" */

enum { CONFIG_LIST_MAX = 64, CONFIG_OPTIONS_MAX = 96 };

typedef struct config_list {
    str items[CONFIG_LIST_MAX];
    uint32_t count;
} config_list;

typedef struct config_numbers {
    uint32_t items[CONFIG_LIST_MAX];
    uint32_t count;
} config_numbers;

enum { CONFIG_LAYERS_ALL = 65535 }; /* "all" */

/* Every str here is terminated and lives until config_deinit().  Options that a command does
 * not take hold their defaults. */
typedef struct config {
    command cmd;
    bool help;       /* --help was asked for; nothing else was checked then */
    str config_file; /* --config */

    /* serve, and whatever loads a model */
    config_list models; /* NAME=PATH or PATH; see config_model_split */
    str host;
    uint32_t port;       /* 0: any free one */
    uint32_t ctx_tokens; /* per sequence; 0: what the model was trained for */
    uint32_t parallel;   /* sequences in a step at most */
    uint32_t threads;    /* 0: all cores we may use */
    config_gpu gpu;
    uint32_t gpu_layers;     /* 0: all, or what fits */
    uint32_t cpu_moe_layers; /* 0: none, or what has to; CONFIG_LAYERS_ALL: of all layers */
    str device;              /* --device; empty: the usable one with most memory, or more */
    uint64_t gpu_bytes_max;  /* 0: what is free */
    bool gpu_graphs;
    bool gpu_pdl;
    bool gpu_ahead;
    bool gpu_peers;
    bool gpu_pipeline;
    bool gpu_monitor;
    config_backend backend;
    config_numerics numerics;
    config_kv kv;
    uint64_t kv_bytes_max;  /* 0: derived */
    uint64_t kv_host_bytes; /* CONFIG_BYTES_AUTO: derived; 0: none */
    str quantize_type;      /* --quantize; empty: the model as it is */
    str cache_dir;          /* empty: that of the user */
    config_cpu_isa cpu_isa;
    str chat_template; /* "auto", "plain" or a file */
    config_list loras; /* [NAME=]FILE[:SCALE]; see app/lora_args.h */
    uint32_t lora_rank_max;
    uint32_t lora_adapters_max;
    config_pooling pooling;
    config_log_level log_level;

    /* scheduling */
    uint32_t step_tokens_max;
    uint32_t step_ms_target;
    uint32_t queue_max; /* requests waiting */
    uint32_t credits_tokens;

    /* limits of the HTTP side */
    uint64_t request_bytes_max;
    uint64_t header_bytes_max;
    uint32_t prompt_tokens_max; /* 0: what fits the context */
    uint32_t choices_max;
    uint32_t connections_max;
    uint32_t head_ms_max;
    uint32_t body_ms_max;
    uint32_t idle_ms_max;
    uint32_t drain_ms_max;
    uint32_t stall_ms_max;

    /* who may come in */
    str api_key; /* empty: anybody; never printed */
    str url;     /* lora: the server's */
    config_list allowed_hosts;
    config_list cors_origins;

    /* run and logits */
    str prompt;          /* -p; see config_is_given: an empty prompt is one, too */
    uint32_t tokens_max; /* run -n; 0: until the model stops or the context is full */
    float temperature;
    uint32_t top_k; /* 0: off */
    float top_p;
    float min_p;
    float repeat_penalty;
    uint64_t seed; /* drawn at random when not given */
    config_list stop;
    bool raw;
    bool trust_content;     /* serve, too: --parse-special-in-content */
    bool request_templates; /* serve: --allow-request-template */
    bool jsonl;             /* render */
    bool no_special;        /* tokenize */
    bool no_parse_special;  /* tokenize */
    bool last;              /* logits */
    bool normalize;         /* embed */

    str token_ids; /* logits --tokens 1,2,3 */

    /* logits -o, perplexity -f, bench --export */
    str out_file;
    str template_file; /* render --template */
    str text_file;
    str reference; /* perplexity --reference MODEL; empty: none */
    str export_file;

    /* bench */
    uint32_t bench_prompt_tokens; /* -p */
    uint32_t bench_tokens;        /* -n */
    uint32_t bench_depth_tokens;  /* -d */
    bool bench_kernels;
    config_numbers batch;
    uint32_t repeat;

    /* quantize */
    str imatrix_file;    /* --imatrix; empty: none */
    str output_type;     /* empty: what the mix says */
    str token_embd_type; /* likewise */

    bool pure; /* quantize */
    bool json; /* instead of text */

    char **argv_rest; /* arguments that are no options, NULL-terminated; [argc_rest] */
    int argc_rest;

    uint8_t sources[CONFIG_OPTIONS_MAX]; /* config_source per table row */
    arena memory;                        /* owned; the text of every value */
} config;

/* Which command is called that?  false when none is. */
bool command_from_name(const char *name, command *out);
const char *command_name(command cmd);

/* argv is what follows the command's name.  A file or a variable that names the option of
 * another command is fine; an unknown GANTRY_* variable is logged.
 * ERR_INVALID   a flag or variable is wrong (exit status 2)
 * ERR_FORMAT    the file is wrong; the message has its name and line
 * ERR_IO, ERR_NOT_FOUND, ERR_NOMEM, ERR_LIMIT as usual.
 * On failure *out is left zeroed; config_deinit() of it is harmless. */
NODISCARD status config_load(config *out, command cmd, int argc, char **argv, error *err);
void config_deinit(config *c);

/* Was the option with this flag (as "prompt" or "temp") set to anything by anybody, or is it
 * at its default?  The flag must be one of the command's. */
bool config_is_given(const config *c, const char *flag);

/* CUDA_VISIBLE_DEVICES; NULL when it is not set. */
const char *config_visible_gpus(void);
/* --cache-dir, else where caches of a user are; false when neither is known or it does not fit. */
bool config_cache_dir(const config *c, char *out, size_t out_bytes);

/* An item of `models`: "tiny=/models/tiny.gguf" is {tiny, /models/tiny.gguf}; a bare path is
 * named after its last part without ".gguf"; "synth:..." is named by its whole text. */
void config_model_split(str item, str *name, str *path);

/* Every option of the command that could be set from outside, its value and source, as one
 * JSON object; secrets show only whether they are set. */
void config_dump(const config *c, buf *out);

/* --- from the table ---------------------------------------------------------------- */
void config_help(command cmd, buf *out); /* --help */
void config_doc_markdown(buf *out);      /* docs/config.md */
void config_doc_example(buf *out);       /* gantry.example.yaml */

#endif
