/* test_read_suites.c - JSONTestSuite and the number files of parse-number-fxx-test-data. */
#include <dirent.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "golden_paths.h"
#include "test.h"
#include "json/read.h"

/* Valid JSON that we refuse: RFC 8259 lets duplicate names be refused (section 4), and a
 * name with NUL in it is one that jansson cannot hold. */
static bool is_refused_on_purpose(const char *name) {
    static const char *const names[] = {"y_object_duplicated_key.json",
                                        "y_object_duplicated_key_and_value.json",
                                        "y_object_escaped_null_in_key.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

static status parse_file(const char *folder, const char *name) {
    char path[2048];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *fp = fopen(path, "rb");
    char *bytes = malloc(1 << 20);
    size_t n = fp != NULL && bytes != NULL ? fread(bytes, 1, 1 << 20, fp) : 0;
    if (fp != NULL) (void)fclose(fp);
    json_doc doc = {0};
    status st = json_parse((str){bytes, n}, &doc, NULL);
    json_doc_deinit(&doc);
    free(bytes);
    return st;
}

TEST(json_test_suite_is_accepted_and_refused_as_it_should) {
    SHARED_OR_SKIP(folder, "suites/json-test-suite/test_parsing");
    DIR *dir = opendir(folder);
    CHECK(dir != NULL);
    if (dir == NULL) return;
    int files = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (!str_ends(str_of(e->d_name), S(".json"))) continue;
        status st = parse_file(folder, e->d_name);
        bool want = e->d_name[0] == 'y' && !is_refused_on_purpose(e->d_name);
        bool free_choice = e->d_name[0] == 'i';
        if (!free_choice && (st == OK) != want) {
            test_failures++;
            (void)fprintf(stderr, "%s: %s\n", e->d_name, status_name(st));
        }
        files++;
    }
    (void)closedir(dir);
    CHECK(files > 300);
}

/* Does the text follow the number grammar of RFC 8259, section 6?  (".5" and "1." do not.) */
static bool is_json_number(const char *p) {
    if (*p == '-') p++;
    if (*p == '0') {
        p++;
    } else {
        if (*p < '1' || *p > '9') return false;
        p += strspn(p, "0123456789");
    }
    if (*p == '.') {
        size_t n = strspn(p + 1, "0123456789");
        if (n == 0) return false;
        p += n + 1;
    }
    if (*p == 'e' || *p == 'E') {
        p++;
        if (*p == '+' || *p == '-') p++;
        size_t n = strspn(p, "0123456789");
        if (n == 0) return false;
        p += n;
    }
    return *p == '\0';
}

/* One line: f16 hex, f32 hex, f64 hex, text.  Returns whether it was compared. */
static bool compare_line(const char *line) {
    uint64_t bits = strtoull(line + 14, NULL, 16);
    const char *text = line + 31;
    double want = 0, got = NAN;
    memcpy(&want, &bits, sizeof want);
    if (!is_json_number(text)) return false;
    json_doc doc = {0};
    error err = {0};
    status st = json_parse(str_of(text), &doc, &err);
    if (st == OK) {
        json_node root = json_root(&doc);
        CHECK_EQ(json_node_f64(&root, -INFINITY, INFINITY, &got, &err), OK);
        json_doc_deinit(&doc);
    }
    /* JSON has no infinity: what overflows is an error.  An integer -0 is plain 0. */
    bool same = isinf(want) ? st == ERR_INVALID : st == OK && got == want;
    if (!same) {
        test_failures++;
        (void)fprintf(stderr, "%s: got %.17g, want %.17g %s\n", text, got, want, err.msg);
    }
    return true;
}

static int compare_file(const char *path) {
    static char line[65536];
    FILE *fp = fopen(path, "r");
    int compared = 0;
    if (fp == NULL) return 0;
    while (fgets(line, sizeof line, fp) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        if (strlen(line) > 31) compared += compare_line(line);
    }
    (void)fclose(fp);
    return compared;
}

TEST(json_numbers_are_read_to_the_last_bit) {
    SHARED_OR_SKIP(folder, "suites/number-parsing/data");
    static const char *const files[] = {"freetype-2-7", "google-wuffs", "lemire-fast-float",
                                        "more-test-cases", "tencent-rapidjson"};
    int compared = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[2048];
        (void)snprintf(path, sizeof path, "%s/%s.txt", folder, files[i]);
        compared += compare_file(path);
    }
    CHECK(compared > 10000);
}
