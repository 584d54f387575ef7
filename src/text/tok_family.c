/* tok_family.c - what the names in "tokenizer.ggml.pre" stand for.
 *
 * The patterns are those of the models' own tokenizer.json or tiktoken files; where a model has
 * published none they are those that GGUF files have been made for.  Patterns of \p{Lu} and the
 * like are followed to the letter, also where converters approximate them.
 * Source: the tokenizer.json files of the models; llama.cpp, llama-vocab (names and patterns). */
#include "text/tok_split.h"

/* --- patterns ------------------------------------------------------------------------------ */

/* The English suffixes. */
#define SUFFIXES "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
/* White space: line ends with what is before them; runs, without the last before a word. */
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT2   "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/* A word with one other character in front, punctuation with line ends behind. */
#define WORD   "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define SIGNS  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define LLAMA3 SUFFIXES "|" WORD "|\\p{N}{1,3}|" SIGNS "|" SPACES
#define QWEN2  SUFFIXES "|" WORD "|\\p{N}|" SIGNS "|" SPACES
/* Words that begin in upper and go on in lower case. */
#define LEAD  "[^\\r\\n\\p{L}\\p{N}]?"
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define CASED(also, suffix)                                                                   \
    LEAD "[" UPPER also "]*[" LOWER also "]+" suffix "|" LEAD "[" UPPER also "]+[" LOWER also \
         "]*" suffix
#define SLASHED         " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*"
#define GPT4O           CASED("", SUFFIXES "?") "|\\p{N}{1,3}|" SLASHED "|" SPACES
#define ASCII_SIGN_WORD "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
#define DEEPSEEK3_WORD  "[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
#define DEEPSEEK3       ASCII_SIGN_WORD "|" DEEPSEEK3_WORD "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES
#define HAN_KANA        "[一-龥぀-ゟ゠-ヿ]+"
#define DEEPSEEK_CJK    "[一-龥ࠀ-一가-퟿]+"
/* The letters of scripts with two cases, one by one; those that NFC would replace by number.
 * The formatter takes such lines for wider than they are. */
/* clang-format off */
#define DEEPSEEK_LETTERS \
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫ" \
    "ᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1F7Dᾀ-ᾴᾶ-ᾼ\u1FBEῂ-ῄῆ-ῌῐ-\u1FD3ῖ-\u1FDBῠ-Ῥῲ-ῴῶ-ῼℂℇ" \
    "ℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212A-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆ" \
    "ﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
#define ASIAN_SCRIPTS \
    "[一-鿿㐀-䶿\uF900-\uFAFF぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+"
/* clang-format on */
#define BLOOM " ?[^(\\s|.,!?…。，、।۔،)]+"
#define LINES "[^\\n]+|[\\n]+"

/* --- steps --------------------------------------------------------------------------------- */

#define STEP(text)                                                     \
    {                                                                  \
        .kind = TOK_SPLIT_REGEX, .pattern = { text, sizeof(text) - 1 } \
    }

static const tok_split default_steps[] = {STEP("[\\p{P}\\$\\+<=>\\^~\\|]+"), STEP(GPT2),
                                          STEP("\\p{N}+"), STEP("[0-9][0-9][0-9]")};
static const tok_split gpt2[] = {STEP(GPT2)};
static const tok_split digits_gpt2[] = {STEP("\\p{N}"), STEP(GPT2)};
static const tok_split falcon[] = {STEP("[\\p{P}\\$\\+<=>\\^~\\|`]+"), STEP(GPT2),
                                   STEP("[0-9][0-9][0-9]")};
static const tok_split llama3[] = {STEP(LLAMA3)};
static const tok_split qwen2[] = {STEP(QWEN2)};
static const tok_split qwen35[] = {STEP(SUFFIXES "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}|"
                                                 " ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES)};
static const tok_split minicpm5[] = {STEP("\\p{N}{1,3}"),
                                     STEP(SUFFIXES "|" WORD "|\\p{N}+|" SIGNS "|" SPACES)};
static const tok_split jais2[] = {
    STEP(SUFFIXES "|" WORD "|\\p{N}{1,3}|" SIGNS "|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|"
                  "\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|"
                  "\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}")};
static const tok_split bailing[] = {
    STEP("'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}|"
         " ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+")};
static const tok_split seed_coder[] = {
    STEP(SUFFIXES "|" WORD "|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SPACES)};
static const tok_split ufakzeka[] = {STEP(WORD "|\\p{N}|" SIGNS "|" SPACES)};
static const tok_split exaone_moe[] = {
    STEP(SUFFIXES "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}|"
                  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+")};
static const tok_split laguna[] = {STEP(LINES), STEP(QWEN2)};
static const tok_split gpt4o[] = {STEP(GPT4O)};
static const tok_split tiny_aya[] = {STEP("\\d{1,3}(?=(?:\\d{3})*\\b)"), STEP(GPT4O)};
static const tok_split tekken[] = {STEP(CASED("", "") "|\\p{N}|" SLASHED "|" SPACES)};
static const tok_split youtu[] = {
    STEP("[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|" HAN_KANA),
    STEP(CASED("", SUFFIXES "?") "|\\p{N}|" SLASHED "|" SPACES)};
static const tok_split kimi_k2[] = {
    STEP("[\\p{Han}]+|" CASED("&&[^\\p{Han}]", SUFFIXES "?") "|\\p{N}{1,3}|" SIGNS "|" SPACES)};
static const tok_split deepseek_llm[] = {
    STEP("[\\r\\n]"), STEP(DEEPSEEK_LETTERS), STEP("\\s?[!-/:-~！-／：-～‘-‟　-。]+"),
    STEP("\\s+$"),    STEP(DEEPSEEK_CJK),     STEP("\\p{N}+")};
static const tok_split deepseek_coder[] = {STEP("[\\r\\n]"), STEP("\\s?\\p{L}+"),
                                           STEP("\\s?\\p{P}+"), STEP(DEEPSEEK_CJK), STEP("\\p{N}")};
static const tok_split deepseek_v3[] = {STEP("\\p{N}{1,3}"), STEP(HAN_KANA), STEP(DEEPSEEK3)};
static const tok_split spark[] = {
    STEP("\\p{N}{1,3}"), STEP(HAN_KANA),
    STEP(ASCII_SIGN_WORD "|" DEEPSEEK3_WORD "| ?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!\\S)|\\s+"),
    STEP("\\p{N}")};
static const tok_split afmoe[] = {STEP("\\p{N}{1,3}(?=(?:\\p{N}{3})*(?:\\P{N}|$))"),
                                  STEP(ASIAN_SCRIPTS), STEP(DEEPSEEK3)};
static const tok_split superbpe[] = {STEP("\\p{N}+"), STEP("(?=(\\d{3})+(?!\\d))")};
static const tok_split chameleon[] = {
    STEP("<sentinel:[0-9]+>"),      STEP("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
    STEP("([\\t\\n]|    |  )"),     STEP("\\p{N}"),
    STEP("[\\p{P}!-/:-@\\[-`{-~]"), STEP(GPT2)};
static const tok_split bloom[] = {STEP(BLOOM)};
static const tok_split viking[] = {STEP(BLOOM), STEP("\\p{N}")};
static const tok_split lines[] = {STEP(LINES)};
static const tok_split blanks[] = {STEP("\\S+")};

/* --- names --------------------------------------------------------------------------------- */

#define ROW(name, steps) \
    { name, steps, sizeof(steps) / sizeof *(steps), false }
/* A word that is a token is that token, whatever the merges say. */
#define ROW_WHOLE(name, steps) \
    { name, steps, sizeof(steps) / sizeof *(steps), true }

static const tok_family families[] = {
    ROW("default", default_steps),
    ROW("", default_steps),
    ROW("gpt-2", gpt2),
    ROW("phi-2", gpt2),
    ROW("mpt", gpt2),
    ROW("olmo", gpt2),
    ROW("jais", gpt2),
    ROW("trillion", gpt2),
    ROW("granite-docling", gpt2),
    ROW("exaone4", gpt2),
    ROW("gigachat", gpt2),
    ROW("a.x-4.0", gpt2),
    ROW("mellum", gpt2),
    ROW("modern-bert", gpt2),
    ROW("roberta-bpe", gpt2),
    ROW("jina-es", gpt2),
    ROW("jina-de", gpt2),
    ROW("jina-v1-en", gpt2),
    ROW("jina-v2-es", gpt2),
    ROW("jina-v2-de", gpt2),
    ROW("jina-v2-code", gpt2),
    ROW("starcoder", digits_gpt2),
    ROW("refact", digits_gpt2),
    ROW("command-r", digits_gpt2),
    ROW("smollm", digits_gpt2),
    ROW("codeshell", digits_gpt2),
    ROW("exaone", digits_gpt2),
    ROW("minerva-7b", digits_gpt2),
    ROW("mellum2", digits_gpt2),
    ROW("falcon", falcon),
    ROW_WHOLE("llama3", llama3),
    ROW_WHOLE("llama-v3", llama3),
    ROW_WHOLE("llama-bpe", llama3),
    ROW_WHOLE("falcon3", llama3),
    ROW_WHOLE("falcon-h1", llama3),
    ROW_WHOLE("pixtral", llama3),
    ROW_WHOLE("midm-2.0", llama3),
    ROW_WHOLE("lfm2", llama3),
    ROW_WHOLE("jina-v5-nano", llama3),
    ROW("dbrx", llama3),
    ROW("smaug-bpe", llama3),
    ROW("glm4", llama3),
    ROW("chatglm-bpe", llama3),
    ROW("qwen2", qwen2),
    ROW("deepseek-r1-qwen", qwen2),
    ROW("kormo", qwen2),
    ROW("f2llmv2", qwen2),
    ROW("megrez", qwen2),
    ROW("stablelm2", qwen2),
    ROW("hunyuan", qwen2),
    ROW("solar-open", qwen2),
    ROW("grok-2", qwen2),
    ROW("qwen35", qwen35),
    ROW("ufakzeka", ufakzeka),
    ROW("laguna", laguna),
    ROW("seed-coder", seed_coder),
    ROW("bailingmoe", bailing),
    ROW("bailingmoe2", bailing),
    ROW("llada-moe", bailing),
    ROW("exaone-moe", exaone_moe),
    ROW_WHOLE("minicpm5", minicpm5),
    ROW("jais-2", jais2),
    ROW("gpt-4o", gpt4o),
    ROW("llama4", gpt4o),
    ROW("kanana2", gpt4o),
    ROW("talkie", gpt4o),
    ROW("minimax-m2", gpt4o),
    ROW_WHOLE("granite-embed-multi-97m", gpt4o),
    ROW("tiny_aya", tiny_aya),
    ROW("cohere2moe", tiny_aya),
    ROW_WHOLE("tekken", tekken),
    ROW_WHOLE("youtu", youtu),
    ROW("kimi-k2", kimi_k2),
    ROW("deepseek-llm", deepseek_llm),
    ROW("deepseek-coder", deepseek_coder),
    ROW("deepseek-v3", deepseek_v3),
    ROW("hunyuan-dense", deepseek_v3),
    ROW("joyai-llm", deepseek_v3),
    ROW("hy_v4", deepseek_v3),
    ROW("spark2_5", spark),
    ROW("afmoe", afmoe),
    ROW("superbpe", superbpe),
    ROW("chameleon", chameleon),
    ROW("bloom", bloom),
    ROW("poro-chat", bloom),
    ROW("gpt3-finnish", bloom),
    ROW("viking", viking),
    ROW("gemma4", lines),
    ROW("granite-embed-multi-311m", lines),
    ROW("sarvam-moe", lines),
    ROW("whitespace", blanks),
};

const tok_family *tok_family_find(str name) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (str_eq_c(name, families[i].name)) return &families[i];
    return NULL;
}
