/* jinja_filters.h - the filters, by what they work on; the table is in jinja_filters.c. */
#ifndef TEXT_JINJA_FILTERS_H
#define TEXT_JINJA_FILTERS_H

#include "text/jinja_run.h"

/* X(name, parameters, required) */
#define JINJA_TEXT_FILTERS(X)                                            \
    X(capitalize, "", 0)                                                 \
    X(center, "width", 0)                                                \
    X(escape, "", 0)                                                     \
    X(forceescape, "", 0)                                                \
    X(filesizeformat, "binary", 0)                                       \
    X(indent, "width first blank", 0)                                    \
    X(lower, "", 0)                                                      \
    X(replace, "old new count", 2)                                       \
    X(safe, "", 0)                                                       \
    X(string, "", 0)                                                     \
    X(striptags, "", 0)                                                  \
    X(title, "", 0)                                                      \
    X(tojson, "ensure_ascii indent separators sort_keys", 0)             \
    X(trim, "chars", 0)                                                  \
    X(truncate, "length killwords end leeway", 0)                        \
    X(upper, "", 0)                                                      \
    X(urlencode, "", 0)                                                  \
    X(wordcount, "", 0)                                                  \
    X(wordwrap, "width break_long_words wrapstring break_on_hyphens", 0) \
    X(xmlattr, "autospace", 0)

#define JINJA_VALUE_FILTERS(X)             \
    X(abs, "", 0)                          \
    X(attr, "name", 1)                     \
    X(default, "default_value boolean", 0) \
    X(float, "default", 0)                 \
    X(int, "default base", 0)              \
    X(length, "", 0)                       \
    X(round, "precision method", 0)

#define JINJA_LIST_FILTERS(X)                         \
    X(batch, "linecount fill_with", 1)                \
    X(dictsort, "case_sensitive by reverse", 0)       \
    X(first, "", 0)                                   \
    X(groupby, "attribute default case_sensitive", 1) \
    X(items, "", 0)                                   \
    X(join, "d attribute", 0)                         \
    X(last, "", 0)                                    \
    X(list, "", 0)                                    \
    X(max, "case_sensitive attribute", 0)             \
    X(min, "case_sensitive attribute", 0)             \
    X(reverse, "", 0)                                 \
    X(slice, "slices fill_with", 1)                   \
    X(sort, "reverse case_sensitive attribute", 0)    \
    X(sum, "attribute start", 0)                      \
    X(unique, "case_sensitive attribute", 0)

#define JINJA_FILTER_DECLARE(name, params, required)                                               \
    NODISCARD status jinja_filter_##name(jinja_run *r, const jinja_value *v, const jinja_value *a, \
                                         jinja_value *out);
JINJA_TEXT_FILTERS(JINJA_FILTER_DECLARE)
JINJA_VALUE_FILTERS(JINJA_FILTER_DECLARE)
JINJA_LIST_FILTERS(JINJA_FILTER_DECLARE)
#undef JINJA_FILTER_DECLARE

/* Those that hand their arguments on to another filter or test. */
NODISCARD status jinja_filter_map(jinja_run *r, const jinja_value *v, const jinja_args *args,
                                  jinja_value *out);
NODISCARD status jinja_filter_select(jinja_run *r, const jinja_value *v, const jinja_args *args,
                                     jinja_value *out);
NODISCARD status jinja_filter_reject(jinja_run *r, const jinja_value *v, const jinja_args *args,
                                     jinja_value *out);
NODISCARD status jinja_filter_selectattr(jinja_run *r, const jinja_value *v, const jinja_args *args,
                                         jinja_value *out);
NODISCARD status jinja_filter_rejectattr(jinja_run *r, const jinja_value *v, const jinja_args *args,
                                         jinja_value *out);

#endif
