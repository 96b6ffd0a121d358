/* snapshots.h - saved machines by name: the files NAME.state of one directory. */
#ifndef TOOLS_TIERCE_SNAPSHOTS_H
#define TOOLS_TIERCE_SNAPSHOTS_H

#include "runtime/runtime.h"

/* The file of a name in `directory` (NULL: $XDG_STATE_HOME/tierce or ~/.local/state/tierce; make: it is made where it is not there); a name
 * with a slash is a path.  False: error has one line. */
bool snapshot_path(const char *directory, const char *name, bool make, char *path, size_t size, char *error, size_t error_size);
void snapshots_list(const char *directory, FILE *);

#endif
