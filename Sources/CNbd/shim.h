// libnbd as the tests and holdfast-torture see it: the reference client, so that "it works with libnbd" is a test and not a belief.
#include <libnbd.h>
