#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "epoll.h"
#include "files.h"
#include "process.h"
#include "sockets.h"
#include "uring.h"
