// NBDServerCore
