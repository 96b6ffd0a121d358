/* Where the translation cache is, if the user does not say. */
#include "tools/common/cache_path.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool cache_path_default(char *to, size_t size)
{
    const char *given = getenv("TIERCE_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool below_xdg = xdg && *xdg == '/';
    if (given && *given)
        return strcmp(given, "off") && snprintf(to, size, "%s", given) < (int)size;
    if (!below_xdg && (!home || *home != '/'))
        return false;
    return snprintf(to, size, "%s%s/tierce/objects", below_xdg ? xdg : home, below_xdg ? "" : "/.cache") < (int)size;
}
