/* tok_ends.c - see tok_ends.h.
 *
 * Source: the chat formats as their makers publish them: ChatML, Llama 3, Phi 3, Gemma, Granite,
 * DeepSeek, Kimi, MiniMax, SmolDocling, Solar, OpenAI Harmony. */
#include "text/tok_ends.h"

static const char *const END_TEXTS[] = {
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<end_of_turn>",
    "<turn|>",
    "<|tool_response>",
    "<|end_of_turn|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_utterance>",
    /* U+FF5C for the bars, U+2581 for the spaces */
    "<\xEF\xBD\x9C\x65nd\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
    "</s>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "[e~[",
    /* code models: padding and the next file end what is filled in */
    "<|fim_pad|>",
    "<fim_pad>",
    "<fim-pad>",
    "<|fim_repo|>",
    "<fim-repo>",
    "<|repo_name|>",
    "<reponame>",
    "<|file_sep|>",
};

bool tok_is_end_text(str piece) {
    for (size_t i = 0; i < sizeof END_TEXTS / sizeof *END_TEXTS; i++)
        if (str_eq_c(piece, END_TEXTS[i])) return true;
    return false;
}

void tok_end_marks_add(tok_end_marks *m, str piece) {
    if (str_eq_c(piece, "<|return|>")) m->returns = true;
    if (str_eq_c(piece, "<|call|>") || str_eq_c(piece, "<|calls|>")) m->calls = true;
    if (str_eq_c(piece, "<|flush|>")) m->flushes = true;
    if (str_eq_c(piece, "<|tool_response>")) m->tool_response = true;
}

/* Where returning and calling have tokens of their own, <|end|> only ends a message, and the next
 * one follows in the same generation.  Gemma 4 has </s> as plain text. */
bool tok_is_end_revoked(const tok_end_marks *m, str piece) {
    if (str_eq_c(piece, "<|end|>")) return m->calls && (m->returns || m->flushes);
    return str_eq_c(piece, "</s>") && m->tool_response;
}
