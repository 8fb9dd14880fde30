#include "CLinux.h"  // the bodies are in files.c and sockets.c
