// libnbd as the tests and holdfast-torture see it: the reference client, so that "it works with libnbd" is a test and not a belief.
#include <libnbd.h>

#include <sys/prctl.h>
/// prctl is variadic. What a server leaves when it goes to the background becomes a child of this process.
static inline int hf_adopt_orphans(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }
