/* The command line: words that are separated by NUL.  Whatever they are, the parser answers with options or with one
 * line that says what is wrong. */
#include "tools/tierce/options.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *text = malloc(size + 1), *argv[34] = {"tierce"}, error[300] = "";
    int argc = 1;
    struct options o;
    if (!text)
        return 0;
    memcpy(text, bytes, size);
    text[size] = 0;
    for (size_t at = 0; at < size && argc < 33; at += strlen(text + at) + 1)
        argv[argc++] = text + at;
    const char *wrong = options_parse(&o, argc, argv, error, sizeof error);
    if (wrong && !*wrong)
        abort();
    free(text);
    return 0;
}
