#include "CLinux.h"  // header only: SwiftPM wants one source file
