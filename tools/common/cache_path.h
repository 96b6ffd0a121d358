/* cache_path.h - the one default that all programs have for the translation cache. */
#ifndef TOOLS_COMMON_CACHE_PATH_H
#define TOOLS_COMMON_CACHE_PATH_H

#include <stdbool.h>
#include <stddef.h>

/* Where translations are kept if the user says nothing: $TIERCE_CACHE, else below $XDG_CACHE_HOME or ~/.cache, whose tierce/ has other things too.
 * False: nowhere - $TIERCE_CACHE is "off", or there is no home. */
bool cache_path_default(char *to, size_t size);

#endif
