/* embed_pooling.h - which hidden states become the vector of a text. */
#ifndef APP_EMBED_POOLING_H
#define APP_EMBED_POOLING_H

#include "app/config.h"
#include "model/model.h"

/* As asked, or as the model's file says, or, when that says nothing of use, MEAN for an encoder and
 * LAST for a decoder, whose last token alone has seen the whole text. */
static inline model_pooling embed_pooling(const model *m, config_pooling asked) {
    static const model_pooling named[] = {[CONFIG_POOLING_NONE] = MODEL_POOLING_NONE,
                                          [CONFIG_POOLING_MEAN] = MODEL_POOLING_MEAN,
                                          [CONFIG_POOLING_CLS] = MODEL_POOLING_CLS,
                                          [CONFIG_POOLING_LAST] = MODEL_POOLING_LAST};
    model_pooling own = m->hparams.pooling;
    if (asked != CONFIG_POOLING_AUTO) return named[asked];
    if (own != MODEL_POOLING_NONE && own != MODEL_POOLING_RANK) return own;
    return m->hparams.is_encoder ? MODEL_POOLING_MEAN : MODEL_POOLING_LAST;
}

#endif
