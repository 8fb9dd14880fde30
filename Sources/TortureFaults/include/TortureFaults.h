// Nothing to call: this library is preloaded into a server under test. See TortureFaults.c.
